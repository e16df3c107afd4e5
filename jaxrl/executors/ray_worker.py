"""What a Ray task does: it prepares its process for jax and runs one chunk as the in-process executor would. No jax."""

import collections
import inspect
import linecache
import os
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxrl.errors import UserError
from jaxrl.references import is_only_here
from jaxrl.sweep.claims import FOLDER

if TYPE_CHECKING:
    from jaxrl.sweep.run import Summary

ANSWER = 5.0  # ours, seconds that a task waits for the driver's word
MOST_EVENTS = 10_000  # ours: while nobody listens, the oldest are forgotten
KEPT: dict = {}  # what earlier tasks in this process compiled: Ray gives one worker many chunks of a program


class Errand(NamedTuple):
    """What a task is sent for."""

    chunk: str  # its id
    lanes: tuple[str, ...]  # their ids
    out: Path
    mark: str  # file that the driver wrote there, so that a directory of this machine is not taken for the shared one
    at_once: int | None
    cores: int
    home: "Home"
    keep_state: bool = False


class Home(NamedTuple):
    """Where the driver's code lies."""

    paths: tuple[str, ...]  # sys.path
    main: str | None  # file of __main__
    sources: dict[str, list[str]]  # lines by file, of objects that travel by value


class Result(NamedTuple):
    summary: "Summary | None"
    fault: str  # why the chunk failed, or nothing
    events: list[dict]  # not told yet


class Relay:
    """The Ray actor between tasks and driver: events one way, the word to stop the other."""

    def __init__(self) -> None:
        self.events: collections.deque = collections.deque(maxlen=MOST_EVENTS)
        self.stopping = False

    def tell(self, chunk: str, events: list[dict]) -> bool:
        """Called by a task; True when it is to end."""
        self.events.extend((chunk, event) for event in events)
        return self.stopping

    def heard(self, stopping: bool) -> list[tuple[str, dict]]:
        """Called by the driver: what was told since it last asked."""
        self.stopping = stopping
        heard = list(self.events)
        self.events.clear()
        return heard


def work(errand: Errand, spec: list, relay: Any) -> Result:
    """Run the lanes of an errand; what is wrong with them comes back as a sentence.

    Args:
        spec: holds a reference to it, because user code may import jax, and must not before it is prepared.
        relay: handle of the `Relay`.
    """
    import ray

    from jaxrl.devices import prepare_jax

    prepare_jax(os.environ, errand.cores)
    events: collections.deque[dict] = collections.deque(maxlen=MOST_EVENTS)

    def told_to_stop() -> bool:
        try:
            stopping = ray.get(relay.tell.remote(errand.chunk, list(events)), timeout=ANSWER)
        except ray.exceptions.RayError:  # it will be back, or the driver is gone and this process goes too
            return False
        events.clear()
        return stopping

    if told_to_stop():
        return Result(None, "", [])
    try:
        return Result(_run(errand, lambda: ray.get(spec[0]), told_to_stop, events.append), "", list(events))
    except UserError as error:
        return Result(None, str(error), list(events))
    except Exception as error:
        traceback.print_exc()  # to Ray's log of this worker
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        return Result(None, f"{type(error).__name__} in {where}: {error}", list(events))


def _run(
    errand: Errand, spec: Callable[[], Any], stop: Callable[[], bool], on_event: Callable[[dict], None]
) -> "Summary":
    if not (errand.out / FOLDER / errand.mark).exists():
        raise UserError(
            f"{socket.gethostname()} does not see the driver's {str(errand.out)!r}: "
            "the results must lie on storage that all machines share, under one path"
        )
    settle(errand.home)
    made = spec()
    from jaxrl.sweep.run import run

    summary = run(
        made,
        errand.out,
        at_once=errand.at_once,
        only=errand.lanes,
        keep_state=errand.keep_state,
        stop=stop,
        on_event=on_event,
        kept=KEPT,
    )
    if summary.lanes != len(errand.lanes):
        raise UserError(
            f"{socket.gethostname()} has another jaxrl, other libraries or other code of yours than the driver, "
            "or it was edited since the sweep began: install the same on all machines, and start again"
        )
    return summary


def home(objects: Mapping[str, Callable], named: Collection[str] = ()) -> Home:
    """Where code is found in this process, that of the references `named` too; a notebook's exists nowhere else."""
    files = {inspect.getsourcefile(thing) for thing in objects.values()}
    sources = {file: linecache.getlines(file) for file in files if file}
    paths = [*sys.path, *([""] if any(map(is_only_here, named)) else [])]
    return Home(tuple(map(os.path.abspath, paths)), getattr(sys.modules["__main__"], "__file__", None), sources)


def settle(home: Home) -> None:
    """Make this process find the driver's code where the driver does, after its own."""
    sys.path.extend(path for path in home.paths if path not in sys.path)
    for file, lines in home.sources.items():
        if not os.path.exists(file):
            linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
    if home.main:  # where `inspect` looks for the source of a class of a script
        sys.modules["__main__"].__file__ = home.main
