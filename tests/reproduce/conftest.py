"""An executor that trains nothing: it commits made-up curves, so that the laboratory is tested without its subject."""

import sys
import types

import numpy as np
import pytest

from jaxrl.reproduce import catalogue
from jaxrl.results import store
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.fields import iterations
from jaxrl.sweep.plan import lanes, programs

COMPILE_SECONDS, RUN_SECONDS = 2.0, 3.0  # of every made-up chunk


class MadeUp:
    """Stands for `jaxrl.sweep.run.run`: a lane's curve of the metric "return" is `curve(lane, iterations)`.

    Every program is one chunk. A lane that is `bad` has the status "diverged" and a metric that stays finite.
    `asked` keeps the specs, `trained` the lanes that were not committed before.
    """

    def __init__(self, curve, bad=lambda lane: False, stops=lambda spec: False):
        self.curve, self.bad, self.stops = curve, bad, stops
        self.asked, self.trained = [], []

    def __call__(self, spec, out, *, stop, on_event):
        self.asked.append(spec)
        if self.stops(spec):
            return types.SimpleNamespace(stopped=True)
        committed = store.committed(out, code=code_fingerprint()) if out.exists() else {}
        for _, group in programs(lanes(spec)):
            if left := [lane for lane in group if lane.id not in committed]:
                self.trained += left
                store.write_chunk(out, self.chunk(left))
        return types.SimpleNamespace(stopped=False)

    def chunk(self, lanes):
        program = lanes[0].program
        count = np.arange(1, iterations(program) + 1)
        curves = np.array([self.curve(lane, count) for lane in lanes], np.float32)
        bad = [self.bad(lane) for lane in lanes]
        return store.Chunk(
            program=program,
            lanes=[{"lane": lane.id, "seed": lane.seed, "values": lane.values, "status": "diverged" if broken else "ok",
                    "first_bad_iteration": len(count) // 2 if broken else None}
                   for lane, broken in zip(lanes, bad, strict=True)],
            iterations=count,
            steps=count * program["num_envs"] * program["num_steps"],
            curves={"return": curves},
            params={},
            code=code_fingerprint(),
            sources=lanes[0].sources,
            timing={"started": "2026-01-01T00:00:00+00:00", "compile_seconds": COMPILE_SECONDS,
                    "run_seconds": RUN_SECONDS},
            packing={"lanes_at_once": len(lanes), "devices": 1},
            environment={},
        )  # fmt: skip


@pytest.fixture
def made_up():
    return MadeUp


CLAIM = '''"""A toy claim, of | two arms.

Paper     None.
"""

from jaxrl.reproduce import Difference

DIFFERENCES = (Difference("high beats low", "heights", "high", "low", 0.1),)
SCALES = {"smoke": {"seeds": 4, "steps": 160}, "cpu": {"seeds": 8, "steps": 320}, "gpu": {"seeds": 16, "steps": 640}}


def measure(lab):
    panel = lab.compare({"low": "none", "high": "count"}, env="probe/chain", steps=lab.scale["steps"], metric="return")
    panel.attrs |= {"title": "height", "units": "metres"}
    return {"heights": panel}
'''


@pytest.fixture
def claims(tmp_path, monkeypatch):
    """A checkout of its own with one toy claim: the directory experiments/."""
    folder = tmp_path / "checkout" / "experiments"
    folder.mkdir(parents=True)
    (folder / "toy_claim.py").write_text(CLAIM)
    (folder / "no_claim.py").write_text("SCALES = {}\n")
    monkeypatch.setattr(catalogue, "folder", lambda: folder)
    yield folder
    for name in [name for name in sys.modules if name.startswith("experiments.toy")]:
        del sys.modules[name]
