"""What a run tells of its pace, and beforehand of what will take long. No jax here."""

import dataclasses
from collections.abc import Callable

from jaxrl.display import duration

LONG_COMPILE = 300.0  # seconds, announced before
WEEK = 7 * 86_400.0
FASTEST = {True: 1e6, False: 1e8}  # ours: steps per second that a CPU device, another one, will hardly exceed


@dataclasses.dataclass
class Ledger:
    """Seconds and steps of a call of `run`, and the voice that tells of them."""

    total: int  # environment steps of what is to run
    tell: Callable[[dict], None]
    steps: int = 0  # made by this call
    found: int = 0  # made before, by lanes that go on from a checkpoint
    compiling: float = 0.0
    running: float = 0.0

    def progress(self, steps: int, seconds: float, mean_return: float) -> None:
        self.steps += steps
        self.running += seconds
        self.tell(
            {
                "kind": "progress",
                "done_steps": self.found + self.steps,
                "total_steps": self.total,
                "steps_per_s": self.steps / max(self.running, 1e-9),
                "mean_return": mean_return,
            }
        )


def warn_of_length(steps: int, backend: str, devices: int, tell: Callable[[dict], None]) -> None:
    """Tell of a sweep that takes more than a week however fast its environment is."""
    seconds = steps / (FASTEST[backend == "cpu"] * devices)
    if seconds > WEEK:
        text = f"{steps:,} steps take more than {duration(seconds)} on any {devices} devices of this kind"
        tell({"kind": "note", "text": f"{text}: --dry-run says what a spec takes"})


def warning_of_compiling(number: int, tell: Callable[[dict], None]) -> Callable[[float], None]:
    """What is told the seconds that compiling program `number` may take, and passes on what is long."""

    def foresee(seconds: float) -> None:
        if seconds > LONG_COMPILE:
            text = f"compiling program {number} may take about {duration(seconds)}, unless the cache has it"
            tell({"kind": "note", "text": text})

    return foresee
