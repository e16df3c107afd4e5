"""SIGINT and SIGTERM as a wish to stop, granted where nothing is lost. No jax here."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Told(BaseException):
    """A signal came while there was nothing to save, or for the second time."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Wish:
    """What was asked for so far; `saving` says whether to wait for whoever asks it, because work would be lost."""

    def __init__(self) -> None:
        self.number = 0  # of the first signal
        self.saving = False

    def __call__(self) -> bool:
        return self.number != 0

    def follow(self, event: dict) -> None:
        """Of a run: there is something to save from the moment that a chunk begins until it is committed."""
        if event["kind"] in ("begin", "chunk"):
            self.saving = event["kind"] == "begin"

    def hear(self, number: int, frame: object) -> None:
        again, self.number = self.number != 0, self.number or number
        if again or not self.saving:
            raise Told(self.number)


@contextlib.contextmanager
def listening() -> Iterator[Wish]:
    """A `Wish` that SIGINT and SIGTERM tell of; outside of the main thread, where none arrive, nobody does."""
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, wish.hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
