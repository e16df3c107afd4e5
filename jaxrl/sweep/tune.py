"""A search of points: Optuna proposes a batch, the batch runs as one sweep, its results are told back. No jax here.

    OUT/optuna-<id>.journal     the points asked for, sealed; the id names the spec, the search and the code

A trial is in the journal with its point before it runs; its value is nowhere but in its committed lanes. What a trial's
point depends on is its number, the search's seed, the values of the batches before and the points of its own batch: a
search that was interrupted goes on as if it had not been. Where the journal is lost, the same points are asked for and
found committed.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl.errors import UserError
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.draws import Search, rounded
from jaxrl.spec.settings import Spec
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.study import Asked, append, distribution, identity, journal, read
from jaxrl.sweep.trials import Trial


def tune(
    spec: Spec,
    out: str | Path,
    run: Callable[[Spec], Any],
    on_event: Callable[[dict], None] = lambda event: None,
) -> list[Trial]:
    """Search the space of `spec.optuna`, and return every trial asked for so far, by number.

    Args:
        run: runs every lane of a spec that is not committed under `out` yet; when it returns with lanes missing, it
            was told to stop, and so the search stops.
        on_event: gets {"kind": "note", "text"} before each batch that has something to run.

    Raises:
        UserError: Optuna is not installed, another process runs this search, its journal is damaged, or the
            metric is not measured in this environment.
    """
    check_installed()
    import optuna

    assert spec.optuna is not None
    search, out = spec.optuna, Path(out).absolute()
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with journal(out / f"optuna-{identity(spec, search)}.journal") as path:
            asked = read(path, search)
            values: dict[int, float] = {}  # of the batches that are committed, by trial; not finite where one failed
            ends = _ends(out)
            for first in range(0, search.trials, search.batch):
                stop = min(first + search.batch, search.trials)
                _ask(path, spec, search, asked, values, stop)
                points = {n: _point(search, asked[n].params) for n in range(first, stop) if not asked[n].problem}
                ids = {number: [lane.id for lane in lanes(_at(spec, point))] for number, point in points.items()}
                if _missing(ends, ids):
                    text = f"trials {min(points)} to {max(points)} of {search.trials}"
                    on_event({"kind": "note", "text": text})
                    columns = {key: tuple(point[key] for point in points.values()) for key in search.space}
                    run(spec._replace(optuna=None, zip=columns))
                    ends = _ends(out)
                    if _missing(ends, ids):
                        break
                values |= {number: _value(ends, group, search) for number, group in ids.items()}
            return [_trial(search, number, one, values) for number, one in enumerate(asked[: search.trials])]
    finally:
        optuna.logging.set_verbosity(verbosity)


def check_installed() -> None:
    """Raises UserError, with the cure, where Optuna is absent; imports nothing."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("a spec with [optuna] needs Optuna: pip install 'jaxrl[sweep]'")


def _ask(
    path: Path, spec: Spec, search: Search, asked: list[Asked], values: Mapping[int, float], stop: int
) -> None:
    """Adds trials to `asked`, and to the journal, until there are `stop`."""
    import numpy as np
    import optuna
    from optuna.trial import TrialState, create_trial

    if len(asked) >= stop:
        return
    space = {key: distribution(one) for key, one in search.space.items()}
    study = optuna.create_study(direction=search.direction)
    for number, one in enumerate(asked):
        value, state = values.get(number), TrialState.RUNNING
        if one.problem or (value is not None and not np.isfinite(value)):
            value, state = None, TrialState.FAIL
        elif value is not None:
            state = TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, params=one.params, distributions=space))
    for number in range(len(asked), stop):
        # A sampler of its own for each trial: what was drawn before a restart moves no later draw.
        seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        proposed = study.ask(space)
        problem = _problem(spec, _point(search, proposed.params))
        if problem:
            study.tell(proposed, state=TrialState.FAIL)
        append(path, asked, proposed.params, problem)


def _ends(out: Path) -> Any:
    """What every lane ended with that this code committed, by id: a pandas.DataFrame, as `jaxrl.results.lanes` has."""
    import pandas as pd

    from jaxrl.results import query, store

    done = store.committed(out, code=code_fingerprint())
    if not done:
        return pd.DataFrame()
    frame = query.lanes(out).set_index("lane")
    return frame[frame.index.isin(done)]


def _missing(ends: Any, ids: Mapping[int, Sequence[str]]) -> bool:
    return any(lane not in ends.index for group in ids.values() for lane in group)


def _value(ends: Any, ids: Sequence[str], search: Search) -> float:
    """The mean over a trial's lanes; not finite where one diverged or was not measured."""
    import numpy as np

    from jaxrl.results.query import FINAL

    if FINAL + search.metric not in ends:
        measured = ", ".join(name.removeprefix(FINAL) for name in ends if name.startswith(FINAL))
        raise UserError(f"optuna: metric = {search.metric!r} is not measured here; what is: {measured}")
    return float(np.mean(ends.loc[list(ids), FINAL + search.metric].to_numpy(np.float64)))


def _point(search: Search, params: Mapping[str, Any]) -> dict[str, Any]:
    """The fields' values that Optuna's parameters stand for."""
    return {
        key: {str(choice): choice for choice in one.choices}[params[key]] if one.choices else rounded(one, params[key])
        for key, one in search.space.items()
    }


def _at(spec: Spec, point: Mapping[str, Any]) -> Spec:
    return spec._replace(optuna=None, fixed={**spec.fixed, **point})


def _problem(spec: Spec, point: Mapping[str, Any]) -> str:
    """Why no program can be made of a point; "" where one can."""
    try:
        lanes(_at(spec, point))
    except UserError as error:
        return str(error)
    return ""


def _trial(search: Search, number: int, asked: Asked, values: Mapping[int, float]) -> Trial:
    value, note = values.get(number), asked.problem
    if value is not None and not math.isfinite(value):
        value, note = None, "diverged or not measured"
    elif value is None:
        note = note or "not run"
    return Trial(number, _point(search, asked.params), value, note)
