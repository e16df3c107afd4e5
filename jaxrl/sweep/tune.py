"""A search of points: Optuna proposes a batch, the batch runs as one sweep, its results are told back. No jax here.

    OUT/optuna-<id>.journal     Optuna's journal of the study; the id names the spec, the search and the code

A trial is in the journal with its point before it runs, and is told its value once its lanes are committed, so one
that a crash left in between is completed from its lanes, or run at the very same point. What a trial's point depends
on is its number, the search's seed, the values of the batches before and the points of its own batch: a study that was
interrupted goes on as if it had not been. Where the journal is lost, the same points are asked for and found committed.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxrl.errors import UserError
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.draws import Search, rounded
from jaxrl.spec.settings import Spec
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.study import distribution, identity, journal, open_study
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
            study = open_study(path, search)
            for first in range(0, search.trials, search.batch):
                stop = min(first + search.batch, search.trials)
                _ask(study, spec, search, stop)
                waiting = [trial for trial in study.trials[:stop] if not trial.state.is_finished()]
                if waiting:
                    text = f"trials {waiting[0].number} to {waiting[-1].number} of {search.trials}"
                    on_event({"kind": "note", "text": text})
                    points = {trial.number: _point(search, trial.params) for trial in waiting}
                    columns = {key: tuple(point[key] for point in points.values()) for key in search.space}
                    run(spec._replace(optuna=None, zip=columns))
                    if not _tell(study, spec, search, out, points):
                        break
            return [_trial(search, trial) for trial in study.trials[: search.trials]]
    finally:
        optuna.logging.set_verbosity(verbosity)


def check_installed() -> None:
    """Raises UserError, with the cure, where Optuna is absent; imports nothing."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("a spec with [optuna] needs Optuna: pip install 'jaxrl[sweep]'")


def _ask(study: Any, spec: Spec, search: Search, stop: int) -> None:
    """Adds trials to the study until it has `stop`, each in one line of the journal.

    They are proposed in a copy in memory, because Optuna writes a trial that it proposes field by field, and a crash
    in between would leave one that is neither asked nor not.
    """
    import numpy as np
    import optuna
    from optuna.trial import TrialState, create_trial

    space = {key: distribution(one) for key, one in search.space.items()}
    asked = study.trials
    copy = optuna.create_study(direction=search.direction)
    copy.add_trials(asked)
    for number in range(len(asked), stop):
        # A sampler of its own for each trial: what was drawn before a restart moves no later draw.
        seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
        copy.sampler = optuna.samplers.TPESampler(seed=seed)
        proposed = copy.ask(space)
        state, problem = TrialState.RUNNING, _problem(spec, _point(search, proposed.params))
        if problem:
            state = TrialState.FAIL
            copy.tell(proposed, state=state)
        attributes = {"problem": problem} if problem else {}
        study.add_trial(
            create_trial(state=state, params=proposed.params, distributions=space, user_attrs=attributes)
        )


def _tell(study: Any, spec: Spec, search: Search, out: Path, points: Mapping[int, dict]) -> bool:
    """Tells the value of every trial; False, and nothing told, where lanes of theirs are not committed."""
    import numpy as np
    from optuna.trial import TrialState

    from jaxrl.results import query, store

    ids = {number: [lane.id for lane in lanes(_at(spec, point))] for number, point in points.items()}
    done = store.committed(out, code=code_fingerprint())
    if any(lane not in done for group in ids.values() for lane in group):
        return False
    frame, column = query.lanes(out).set_index("lane"), query.FINAL + search.metric
    if column not in frame:
        measured = ", ".join(name.removeprefix(query.FINAL) for name in frame if name.startswith(query.FINAL))
        raise UserError(f"optuna: metric = {search.metric!r} is not measured here; what is: {measured}")
    for number, group in ids.items():
        value = float(np.mean(frame.loc[group, column].to_numpy(np.float64)))
        if np.isfinite(value):
            study.tell(number, value)
        else:
            study.tell(number, state=TrialState.FAIL)
    return True


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


def _trial(search: Search, trial: Any) -> Trial:
    note = ""
    if trial.value is None:
        unmeasured = "diverged or not measured" if trial.state.is_finished() else "not run"
        note = trial.user_attrs.get("problem", unmeasured)
    return Trial(trial.number, _point(search, trial.params), trial.value, note)
