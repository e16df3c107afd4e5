"""The summary of a sweep: one row for every combination of the swept names, none crowned, none left out."""

import numpy as np
import pandas as pd

from jaxrl.errors import UserError
from jaxrl.results import stats
from jaxrl.results.query import FINAL, swept
from jaxrl.results.values import shown


def summary(frame: pd.DataFrame, rng=0, level: float = 0.95) -> pd.DataFrame:
    """Summarise a ``lanes`` frame per cell (every combination of the swept names that was run), sorted by cell.

    Columns after the swept names: ``seeds`` (lanes that ran to their end), ``diverged``; ``stopped``
    (lanes that were, before their end, and are averaged with none; only where there are any); ``solved`` (a number of
    seeds, NaN where the environment names no threshold), ``solved_low`` and ``solved_high`` (Wilson, as fractions);
    ``eval_return`` (IQM over seeds), ``eval_return_low`` and ``eval_return_high`` (bootstrap with ``rng``);
    ``coverage`` (IQM). NaN where nothing was measured.
    """
    if frame.empty:
        raise UserError("there are no lanes to summarise")
    names = swept(frame)
    groups = frame.groupby(names, dropna=False) if names else [((), frame)]
    rows = [{**dict(zip(names, cell, strict=True)), **_cell(group, rng, level)} for cell, group in groups]
    table = pd.DataFrame(rows)
    return table if table["stopped"].any() else table.drop(columns="stopped")


def text(table: pd.DataFrame) -> str:
    """A ``summary`` frame as aligned text."""
    return readable(table).to_string(index=False)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A ``summary`` frame with every value and its interval in one column of strings; "-" where there is none."""
    columns = {name: table[name].map(_field) for name in table.columns[: table.columns.get_loc("seeds")]}
    rows = table.to_dict("records")
    columns["seeds"] = table["seeds"].map(str)
    columns["solved"] = [
        "-" if np.isnan(row["solved"]) else f"{row['solved']:.0f}/{row['seeds']}{_interval(row, 'solved')}"
        for row in rows
    ]
    columns["eval return (IQM)"] = [_number(row["eval_return"]) + _interval(row, "eval_return") for row in rows]
    columns["coverage (IQM)"] = table["coverage"].map(_number)
    columns |= {name: table[name].map(str) for name in ("diverged", "stopped") if name in table}
    return pd.DataFrame(columns)


def _cell(group: pd.DataFrame, rng, level) -> dict:
    good = group[group["status"] == "ok"]
    measured = (good.get(FINAL + name, pd.Series(dtype=float)) for name in ("solved", "eval_return", "coverage"))
    solved, returns, coverage = (column.dropna().to_numpy() for column in measured)
    nothing = stats.Estimate(np.nan, np.nan, np.nan)
    rate = stats.wilson(int(solved.sum()), len(solved), level) if len(solved) else nothing
    middle = stats.bootstrap_interval(returns, stats.iqm, rng, level) if len(returns) else nothing
    return {
        "seeds": len(good),
        "diverged": int((group["status"] == "diverged").sum()),
        "stopped": int((group["status"] == "stopped").sum()),
        "solved": solved.sum() if len(solved) else np.nan,
        "solved_low": rate.low,
        "solved_high": rate.high,
        "eval_return": middle.value,
        "eval_return_low": middle.low,
        "eval_return_high": middle.high,
        "coverage": stats.iqm(coverage) if len(coverage) else np.nan,
    }


def _field(value) -> str:
    return "-" if value == "" or pd.isna(value) else shown(value)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def _interval(row: dict, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if np.isnan(low) else f" [{low:.3g}, {high:.3g}]"
