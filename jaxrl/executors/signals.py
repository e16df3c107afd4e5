"""SIGINT and SIGTERM as a wish to stop, granted where nothing is lost, and there within seconds. No jax here.

Python runs a signal's handler between two instructions of the main thread. Compiling, a running segment, importing and
waiting inside of a library keep that from coming for as long as they last, so a command is also guarded by a thread.
"""

import contextlib
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 3.0  # ours, seconds that the main thread gets to end by itself once told, before the process ends without it
PARTING = 1.0  # ours, seconds that last words and clean-up get then
LOOK = 0.1  # ours, seconds between two looks at whether something is unsaved still


class Told(KeyboardInterrupt):
    """A signal came while there was nothing to save, or for the second time.

    A KeyboardInterrupt, because libraries in C++ let that one through (Ray turns any other into a SystemError).
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Wish:
    """What was asked for so far; `saving` says whether to wait for whoever asks it, because work would be lost."""

    def __init__(self) -> None:
        self.number = 0  # of the first signal
        self.saving = False
        self.unwinding = True  # a signal is raised in the main thread, which ends by itself
        self.words: Callable[[], None] = lambda: print("jaxrl: interrupted", file=sys.stderr, flush=True)
        self.farewells: list[Callable[[], None]] = []  # what a process does that ends without its main thread
        self.patience = PARTING  # seconds that they get
        self._heard = False
        self._running: set[str] = set()  # chunks
        self._silent = threading.Lock()

    def __call__(self) -> bool:
        return self.number != 0

    def follow(self, event: dict) -> None:
        """Of a run: there is something to save from the moment that a chunk begins until it is committed or let go."""
        if event["kind"] == "begin":
            self._running.add(event["chunk"])
        elif event["kind"] in ("chunk", "end of chunk"):
            self._running.discard(event["chunk"] if "chunk" in event else Path(event["path"]).name)
        else:
            return
        self.saving = bool(self._running)

    def hear(self, number: int, frame: object) -> None:
        again, self._heard, self.number = self._heard, True, self.number or number
        if self.unwinding and (again or not self.saving):
            raise Told(self.number)

    def say(self) -> None:
        """The last words, once."""
        if self._silent.acquire(blocking=False):
            sys.stdout.flush()
            self.words()

    def hush(self) -> None:
        """Somebody else, a child that was told to end, said it."""
        self._silent.acquire(blocking=False)

    def part(self) -> None:
        """All that is left to do where the main thread does not do it."""
        for farewell in reversed(self.farewells):
            with contextlib.suppress(Exception):
                farewell()
        self.say()


_command: Wish | None = None  # of this process, where it is guarded


@contextlib.contextmanager
def listening(unwind: bool = True) -> Iterator[Wish]:
    """A `Wish` that SIGINT and SIGTERM tell of; outside of the main thread, where none arrive, nobody does.

    Args:
        unwind: in a guarded process, too, a signal is raised in the main thread, because somebody has to be told
            there of the end, as trackers and Ray. Whoever needs no such thing is ended by the guard, which is safer.
    """
    if _command is not None:
        with _unwinding(unwind):
            yield _command
        return
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, wish.hear) for number in SIGNALS}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def importing() -> contextlib.AbstractContextManager:
    """While this lasts a guarded process is ended by its guard: raised inside of jaxlib's import, a signal crashes."""
    return _unwinding(False)


@contextlib.contextmanager
def _unwinding(on: bool) -> Iterator[None]:
    if _command is None:
        yield
        return
    before, _command.unwinding = _command.unwinding, on
    try:
        yield
    finally:
        _command.unwinding = before


def guard() -> None:
    """From here on a signal ends this process with one line and 130 or 143, within five seconds if nothing is unsaved.

    For a process that is one command: it is ended from outside of its main thread where that does not end by itself.
    """
    global _command
    if _command is not None or threading.current_thread() is not threading.main_thread():
        return
    _command = Wish()
    _command.unwinding = False
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _command.hear)
    os.register_at_fork(after_in_child=_let_go)
    told_of = sys.unraisablehook

    def silent_of_signals(unraisable) -> None:  # raised where it cannot get out, in a destructor say
        if not (unraisable.exc_type and issubclass(unraisable.exc_type, Told)):
            told_of(unraisable)

    sys.unraisablehook = silent_of_signals
    threading.Thread(target=_watch, args=(_command, reader), daemon=True).start()


def ended_by(error: BaseException) -> int:
    """128 + the signal behind an error, once the last words are said; 0 where none is.

    What is raised in the middle of a library may come out of it as an error of another kind.
    """
    number = _command.number if _command else getattr(error, "number", 0)
    if not number and isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    if number:
        (_command or Wish()).say()
    return 128 + number if number else 0


def _watch(wish: Wish, reader: int) -> None:
    told, saved, deadline = 0, False, math.inf
    while (now := time.monotonic()) < deadline:
        if select.select([reader], [], [], LOOK if told else None)[0]:
            heard = [number for number in os.read(reader, 512) if number in SIGNALS]
            told += len(heard)
            wish.number = wish.number or next(iter(heard), 0)
        if told and (told > 1 or not wish.saving):
            deadline = min(deadline, now + GRACE if wish.unwinding or saved else now)
        elif told:
            saved, deadline = True, math.inf  # and whoever saves it ends by itself
    # What they do may itself wait, for a reader of the output say.
    last = threading.Thread(target=wish.part, daemon=True)
    last.start()
    last.join(wish.patience)
    os._exit(128 + wish.number)


def _let_go() -> None:
    """A fork of a guarded process is told of its own signals."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
