"""What a run tells of its pace. No jax here."""

import dataclasses
from collections.abc import Callable


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
