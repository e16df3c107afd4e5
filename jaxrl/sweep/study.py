"""Optuna's side of a search: the study, its journal on disk, its distributions. No jax here."""

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxrl.errors import UserError
from jaxrl.spec.draws import Distribution, Search, extremes
from jaxrl.spec.settings import Spec
from jaxrl.sweep.plan import lanes


@contextlib.contextmanager
def journal(path: Path) -> Iterator[Path]:
    """Holds the journal for this process alone, after taking away what a crash left: half a line, Optuna's lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process runs the search of {path}: one search has one process") from None
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        Path(f"{path}.lock").unlink(missing_ok=True)
        yield path


def open_study(path: Path, search: Search) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(
            study_name="jaxrl", storage=storage, direction=search.direction, load_if_exists=True
        )
    except (ValueError, KeyError):
        raise UserError(f"{path} is damaged: delete it, and the search is rebuilt from the committed lanes") from None


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
