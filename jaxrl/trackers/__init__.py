"""Trackers: write-only views of a run in TensorBoard, W&B and MLflow. This module names them and imports none.

A tracker is best-effort: it can neither slow nor stop a run. Each has one daemon thread behind a bounded queue; what
does not fit, or what the library refuses, is counted and told at the end, and results never depend on it. There is one
tracker run per chunk, named by the chunk's id.

A factory is `out -> Start` (see `jaxrl.trackers.feed`). It is called on the run's own thread, so it sets environment
variables and nothing else; its libraries are imported on the tracker's thread.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxrl.errors import UserError, unknown
from jaxrl.trackers.feed import Feed, Item

CATALOGUE = {
    "tensorboard": "jaxrl.trackers.tensorboard:tensorboard",
    "wandb": "jaxrl.trackers.wandb:wandb",
    "mlflow": "jaxrl.trackers.mlflow:mlflow",
}
# mlflow-skinny does not declare what its local database needs.
LIBRARIES = {"tensorboard": ("tensorboardX",), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
CLOSING_SECONDS = 5.0  # ours: all trackers together, after the run


def check(names: Sequence[str]) -> None:
    """Raises UserError for a name that is not in the catalogue or whose library is not installed."""
    for name in names:
        if name not in CATALOGUE:
            raise unknown("tracker", name, CATALOGUE)
        if absent := [library for library in LIBRARIES[name] if find_spec(library) is None]:
            raise UserError(f"tracker {name!r} needs {', '.join(absent)}: pip install 'jaxrl[track]'")


@contextlib.contextmanager
def tracking(names: Sequence[str], out: Path, tell: Callable[[dict], None]) -> Iterator[Callable[[dict], None]]:
    """Trackers for the duration of a run: yields the function that takes its events, as `on_event` does.

    Args:
        names: of the catalogue; a name given twice counts once.
        out: directory of the results; what a tracker keeps locally goes to `out`/trackers.
        tell: gets {"kind": "note", "text"} on the caller's thread: a tracker's first error when the next event comes,
            and at the end how many of its events were dropped.

    Leaving waits for at most `CLOSING_SECONDS`. Raises UserError as `check` does.
    """
    check(names)
    if not names:
        yield lambda event: None
        return
    feeds = []
    for name in dict.fromkeys(names):
        module, _, factory = CATALOGUE[name].partition(":")
        feeds.append(Feed(name, getattr(import_module(module), factory)(Path(out)), LIBRARIES[name]))
    configurations: dict[str, dict[str, Any]] = {}

    def follow(event: dict) -> None:
        if event["kind"] == "begin":
            configurations[event["chunk"]] = _configuration(event)
        elif item := _item(event, configurations):
            for feed in feeds:
                feed.put(item)
        for feed in feeds:
            feed.tell_error(tell)

    try:
        yield follow
    finally:
        deadline = time.monotonic() + CLOSING_SECONDS
        for feed in feeds:
            feed.close()
        for feed in feeds:
            feed.tell_end(max(0.0, deadline - time.monotonic()), tell)


def _item(event: dict, configurations: dict[str, dict[str, Any]]) -> Item | None:
    if event["kind"] == "metrics":
        values = {name: float(value) for name, value in event["values"].items()}
        return Item(event["chunk"], configurations.get(event["chunk"], {}), event["step"], values)
    if event["kind"] == "chunk":
        chunk = Path(event["path"]).name
        return Item(chunk, configurations.pop(chunk, {}), None, None)
    return None


def _configuration(begin: dict) -> dict[str, Any]:
    """The program, the number of lanes and the values that all of them share, without secrets."""
    from jaxrl.results.store import redacted

    first, *others = [lane["values"] for lane in begin["lanes"]]
    shared = {name: value for name, value in first.items() if all(values[name] == value for values in others)}
    return redacted({**begin["program"], **shared, "lanes": len(begin["lanes"])})
