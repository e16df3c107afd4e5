"""The bounded queue between a run and a tracker, and the one thread that empties it."""

import contextlib
import queue
import re
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

QUEUE = 1_000  # ours: events that wait for a tracker; at one every few seconds, an outage of about an hour
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # ours: seconds after a refusal, doubled with each until one is accepted
LONGEST = 200  # ours: characters of an error that are told
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")  # of a URL


class Run(NamedTuple):
    """One chunk in a tracker; both functions may block and raise."""

    write: Callable[[dict[str, float], int], None]  # values by metric, at an environment step of one lane
    finish: Callable[[bool], None]  # True: the chunk is committed; False: interrupted


class Item(NamedTuple):
    chunk: str
    configuration: dict[str, Any]
    step: int | None
    values: dict[str, float] | None  # both None: the chunk is committed


# (chunk id, configuration, first step to be written or None if none is) -> Run; continues the run of an id met before.
Start = Callable[[str, dict[str, Any], int | None], Run]


class Feed:
    """A tracker's thread and the queue before it. Every item put is in the end either written or dropped."""

    def __init__(self, name: str, start: Start, libraries: tuple[str, ...] = ()):
        self.name = name
        self.items = 0
        self.written = 0
        self._error, self._told, self._abandoned = "", False, False
        self._queue: queue.Queue[Item | None] = queue.Queue(QUEUE)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(start, libraries), daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Never waits: an item that does not fit is dropped."""
        self.items += 1
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(item)

    def close(self) -> None:
        """No item comes after this; what is in the queue is still written."""
        self._closing.set()
        with contextlib.suppress(queue.Full):  # a full queue has items after which the thread looks at the flag
            self._queue.put_nowait(None)

    def tell_error(self, tell: Callable[[dict], None]) -> None:
        """The first error, once."""
        if self._error and not self._told:
            self._told = True
            tell({"kind": "note", "text": f"tracker {self.name}: {self._error}"})

    def tell_end(self, seconds: float, tell: Callable[[dict], None]) -> None:
        """Waits for the thread, then abandons it: what it has not written by then counts as dropped."""
        self._thread.join(seconds)
        self._abandoned = True
        self.tell_error(tell)
        if dropped := self.items - self.written:
            tell({"kind": "note", "text": f"tracker {self.name}: {dropped:,} of {self.items:,} events were dropped"})

    def _work(self, start: Start, libraries: tuple[str, ...]) -> None:
        for library in libraries:  # while the first program compiles: importing takes up to two seconds
            self._attempt(import_module, library)
        runs: dict[str, Run] = {}
        pause = FIRST_PAUSE
        while (item := self._queue.get()) is not None and not self._abandoned:
            ending = self._closing.is_set()
            if self._attempt(_write, start, runs, item):
                self.written += 1
                pause = FIRST_PAUSE
            elif ending:
                break
            else:  # what comes meanwhile waits in the queue, and is not lost if this was an outage
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            if self._closing.is_set() and self._queue.empty():
                break
        for run in runs.values():
            self._attempt(run.finish, False)

    def _attempt(self, action: Callable, *arguments: Any) -> bool:
        try:
            action(*arguments)
        except BaseException as error:  # a library that calls sys.exit must not end the thread unseen
            self._error = self._error or _sentence(error)
            return False
        return True


def _write(start: Start, runs: dict[str, Run], item: Item) -> None:
    if item.chunk not in runs:  # also after a refusal: a tracker that was down is asked again with every item
        runs[item.chunk] = start(item.chunk, item.configuration, item.step)
    if item.values is None or item.step is None:
        runs.pop(item.chunk).finish(True)
    else:
        runs[item.chunk].write(item.values, item.step)


def _sentence(error: BaseException) -> str:
    """An error in one line, short and without the credentials that a URL may hold."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return CREDENTIALS.sub("", line)[:LONGEST]
