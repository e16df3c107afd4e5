"""A search that costs nothing: a bowl over two fields in the place of training, committed as a sweep commits.

As a script it is killed -9 at chosen moments and started again:
    python searches.py OUT MOMENT...     prints, for each moment, what the kill left and what the restart made of it
A moment is a count of what was written to disk (lines of the journal, one a trial, and chunks), and a letter: b(efore),
h(alf of it is written), a(fter).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxrl.results import store
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes, programs
from jaxrl.sweep.tune import tune

if TYPE_CHECKING:  # not imported, because this process forks
    from jaxrl.types import IntrinsicReward

tune_module = sys.modules["jaxrl.sweep.tune"]

SPACE = {"lr": {"low": 1e-5, "high": 1e-1, "log": True}, "coef": {"low": 0.0, "high": 1.0}}


def paid(scale=1.0) -> "IntrinsicReward":
    """A bonus of one's own, which is never run here."""
    raise AssertionError("results run no code that they name")


def search(trials=16, batch=4, seeds=2, fixed=(), space=(), **options):
    """The spec of a search; from the twelfth trial on, the sampler no longer draws at random."""
    options = {"trials": trials, "batch": batch, **SPACE, **dict(space), **options}
    return spec(env="probe/chain", bonus="count", seeds=seeds, optuna=options, **dict(fixed))


def height(lane):
    """What the lane's last evaluation gives: best, 0, at lr = 1e-3 and coef = 0.3."""
    return -((np.log10(lane.values["lr"]) + 3) ** 2) - (lane.values["coef"] - 0.3) ** 2 + 0.01 * lane.seed


class Bowl:
    """Stands for `jaxrl.sweep.run.run`; `calls` holds the lanes that each call ran."""

    def __init__(self, out, height=height, stop_after=None):
        self.out, self.height, self.stop_after = Path(out), height, stop_after
        self.calls = []

    def __call__(self, made):
        done = store.committed(self.out) if self.out.exists() else {}
        left = [lane for lane in lanes(made) if lane.id not in done]
        self.calls.append(left)
        if self.stop_after is not None and len(self.calls) > self.stop_after:
            return
        for program, group in programs(left):
            store.write_chunk(self.out, self.chunk(program, group))

    def chunk(self, program, group):
        ends = np.array([self.height(lane) for lane in group], np.float32)
        rows = [
            {"lane": lane.id, "seed": lane.seed, "values": lane.values, "status": "diverged" if np.isnan(end) else "ok",
             "first_bad_iteration": 1 if np.isnan(end) else None}
            for lane, end in zip(group, ends, strict=True)
        ]  # fmt: skip
        return store.Chunk(
            program=program,
            lanes=rows,
            iterations=np.array([1, 2, 3]),
            steps=np.array([1024, 2048, 3072]),
            curves={"eval_return": np.stack([ends - 1, ends, np.full_like(ends, np.nan)], 1)},
            params={"w": np.zeros((len(group), 1), np.float32)},
            code=code_fingerprint(),
            sources=group[0].sources,
            timing={"started": "2026-11-21T09:00:00+00:00"},
            packing={"devices": 1},
            environment={},
        )


def die_at(moment, out):
    """From here on, this process kills itself at the moment."""
    count, manner = int(moment[:-1]), moment[-1]
    written = 0
    append, publish = tune_module.append, store._publish

    def counting(write, half):
        def wrapped(*arguments):
            nonlocal written
            written += 1
            if written < count:
                return write(*arguments)
            if manner == "h":
                half(*arguments)
            if manner == "a":
                write(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    def half_a_line(path, before, params, problem):
        append(path, before, params, problem)
        written = path.read_bytes()
        os.truncate(path, len(written) - len(written.splitlines()[-1]) // 2)

    tune_module.append = counting(append, half_a_line)
    store._publish = counting(publish, lambda *arguments: None)


def main():
    out, *moments = sys.argv[1:]
    store.git_state = lambda: {"commit": None, "dirty": None}  # takes long, and is not asked here
    for moment in moments:
        root = Path(out) / moment
        root.mkdir(parents=True)
        if not (pid := os.fork()):
            die_at(moment, root)
            tune(search(), root, Bowl(root))
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        kept = store.committed(root)
        bowl, clock = Bowl(root), time.monotonic()
        trials = tune(search(), root, bowl)
        again = [lane.id for call in bowl.calls for lane in call if lane.id in kept]
        found = {"moment": moment, "killed": killed, "kept": len(kept), "again": again, "trials": trials}
        print(json.dumps({**found, "seconds": time.monotonic() - clock}))


if __name__ == "__main__":
    main()
