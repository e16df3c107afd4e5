"""What checkpoints and logging cost a run of a minute at its default settings: `make bench-checkpoint`.

Seconds spent inside them over the seconds of the run, compilation apart: saving checkpoints, telling of events (means
over lanes, lines on the terminal), committing the results. The first two together must stay below 2 %.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

MOST = 0.02
PROBE = 200_000  # environment steps of a lane, to learn the pace, which also fills the compilation cache


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the run, about")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--env", default="DeepSea-bsuite")
    parser.add_argument("--bonus", default="rnd")
    asked = parser.parse_args()

    from jaxrl import display
    from jaxrl.devices import prepare_jax

    prepare_jax(os.environ)
    from jaxrl.results import store
    from jaxrl.spec.spec import spec
    from jaxrl.sweep import chunk
    from jaxrl.sweep.run import run

    spent: dict[str, list[float]] = {}
    show = display.in_lines()  # what a run without a terminal prints
    for owner, name, what in ((chunk, "_save", "checkpoints"), (chunk, "_mean", "means"),
                              (store, "write_chunk", "commit")):  # fmt: skip
        setattr(owner, name, timed(getattr(owner, name), spent.setdefault(what, [])))
    tell = timed(show, spent.setdefault("lines", []))

    steps = PROBE
    for last in (False, True):
        made = spec(env=asked.env, bonus=asked.bonus, seeds=asked.seeds, steps=steps)
        for seconds in spent.values():
            seconds.clear()
        with tempfile.TemporaryDirectory() as out:
            clock = time.monotonic()
            done = run(made, out, on_event=tell)
            ran = time.monotonic() - clock - done.compile_seconds
        if not last:
            steps = int(steps * asked.seconds / done.run_seconds)
    print(f"{done.lanes} lanes, {done.steps:,} environment steps in {ran:.1f} s, compilation apart")
    for what, seconds in spent.items():
        print(f"{what:12} {len(seconds):5} times {sum(seconds):8.3f} s {sum(seconds) / ran:8.3%}")
    share = sum(sum(spent[what]) for what in ("checkpoints", "means", "lines")) / ran
    print(f"checkpoints and logging: {share:.2%} of the run, at most {MOST:.0%} allowed")
    return 0 if share <= MOST else 1


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The function, which notes how long each call took."""

    def call(*arguments: Any) -> Any:
        clock = time.monotonic()
        try:
            return function(*arguments)
        finally:
            seconds.append(time.monotonic() - clock)

    return call


if __name__ == "__main__":
    sys.exit(main())
