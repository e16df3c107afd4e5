"""A search's journal on disk, what names the search, and Optuna's distributions. No jax here.

    OUT/optuna-<id>.journal     a line for each trial asked for: {"trial", "params", "problem", "seal"} in JSON

The seal of a line is a hash of the line, of the seal before it and, of the first, of the search's id. So no line can be
changed, lost or put elsewhere unnoticed; the last ones can be lost, as in a crash, and are asked for anew.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl import disk
from jaxrl.errors import UserError
from jaxrl.spec.draws import Distribution, Search, extremes
from jaxrl.spec.settings import Spec
from jaxrl.sweep.plan import lanes

MOST = 2**30  # ours, bytes of a journal: a million trials take 200 MB


class Asked(NamedTuple):
    """A trial as it was proposed."""

    params: dict[str, Any]  # in Optuna's words
    problem: str  # why no program can be made of it; "" where one can
    seal: str


@contextlib.contextmanager
def journal(path: Path) -> Iterator[Path]:
    """Holds the journal for this process alone, after taking away half a line that a crash left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        try:
            disk.opened(path, MOST).close()
        except disk.Refused as error:
            raise UserError(f"{path} {error}: remove it, and the search is rebuilt from the committed lanes") from None
    with open(path, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process runs the search of {path}: one search has one process") from None
        file.seek(0)
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
        yield path


def read(path: Path, search: Search) -> list[Asked]:
    """The trials of a journal, by number; raises UserError, with the cure, where it is not what was written."""
    found: list[Asked] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True)):
        try:
            entry = json.loads(line)
            asked = Asked(entry["params"], entry["problem"], entry["seal"])
            whole = line == _line(path, found, asked.params, asked.problem)[0]
        except (ValueError, KeyError, TypeError, RecursionError):
            whole = False
        if not whole or not _fits(search, asked.params):
            raise UserError(
                f"{path} is damaged, line {number + 1} or one before it is not what was written: delete it, "
                "and the search is rebuilt from the committed lanes"
            )
        found.append(asked)
    return found


def append(path: Path, before: list[Asked], params: dict[str, Any], problem: str) -> None:
    """Adds a trial to `before` and to the journal that holds them; it is on the disk when this returns."""
    line, asked = _line(path, before, params, problem)
    try:
        with open(path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"cannot write to {path}: {disk.refusal(path, error)}") from error
    before.append(asked)


def _line(path: Path, before: list[Asked], params: dict[str, Any], problem: str) -> tuple[bytes, Asked]:
    content = {"trial": len(before), "params": params, "problem": problem}
    sealed = json.dumps([before[-1].seal if before else path.name, content])
    seal = hashlib.sha256(sealed.encode()).hexdigest()[:20]
    return json.dumps({**content, "seal": seal}).encode() + b"\n", Asked(params, problem, seal)


def _fits(search: Search, params: dict[str, Any]) -> bool:
    """Whether the parameters are of this search's space."""

    def inside(one: Distribution, value: Any) -> bool:
        if one.choices:
            return value in map(str, one.choices)
        return isinstance(value, int | float) and one.low <= value <= one.high

    same = isinstance(params, dict) and params.keys() == search.space.keys()
    return same and all(inside(one, params[key]) for key, one in search.space.items())


def identity(spec: Spec, search: Search) -> str:
    """Of everything that decides what a trial's value is and means; `trials` and `batch` may change between runs."""
    corners = sorted(lane.id for lane in lanes(spec._replace(optuna=None, zip=extremes(search.space))))
    known = (corners, search.space, search.metric, search.direction, search.seed)
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:20]


def distribution(one: Distribution) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if one.choices:
        return CategoricalDistribution([str(choice) for choice in one.choices])
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), one.log, int(one.step or 1))
    return FloatDistribution(one.low, one.high, one.log, one.step)
