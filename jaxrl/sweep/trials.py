"""What a search tried: every trial, the best one, and a table that hides none. No jax here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.spec.draws import Search


class Trial(NamedTuple):
    number: int
    point: dict[str, Any]  # value of every searched field
    value: float | None  # mean over the seeds of the metric's last measured value; None where there is none
    note: str  # why there is no value


def best(trials: Sequence[Trial], direction: str) -> Trial | None:
    """The first of the trials with the best value; None where no trial has one."""
    measured = [trial for trial in trials if trial.value is not None]
    return min(measured, key=lambda trial: _rank(trial, direction), default=None)


def text(trials: Sequence[Trial], search: Search, seeds: Sequence[int], out: Path) -> str:
    """Every trial in a line, best first, the best one by itself, and the command that runs it on fresh seeds."""
    import pandas as pd

    from jaxrl.results.values import shown

    ranked = sorted(trials, key=lambda trial: (*_rank(trial, search.direction), trial.number))
    rows = [
        {
            "trial": str(trial.number),
            **{key: shown(value) for key, value in trial.point.items()},
            search.metric: trial.note if trial.value is None else f"{trial.value:.4g}",
        }
        for trial in ranked
    ]
    table = pd.DataFrame(rows).to_string(index=False)
    winner = best(trials, search.direction)
    if winner is None:
        return f"{table}\nno trial has a value"
    point = ", ".join(f"{key} = {shown(value)}" for key, value in winner.point.items())
    asked = "" if search.metric == "eval_return" else f" --metric {search.metric}"
    asked += "" if search.direction == "maximize" else f" --direction {search.direction}"
    return (
        f"{table}\nbest: trial {winner.number}, {search.metric} = {winner.value:.4g} at {point}\n"
        f"It was chosen on the {len(seeds)} seeds of this spec, so its value is not a result; on {len(seeds)} others: "
        f"jaxrl confirm {out}{asked}"
    )


def _rank(trial: Trial, direction: str) -> tuple[bool, float]:
    """Sorts the best trial first and those without a value last."""
    if trial.value is None:
        return True, 0.0
    return False, trial.value if direction == "minimize" else -trial.value

