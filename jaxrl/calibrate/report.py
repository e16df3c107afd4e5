"""What a calibration leaves behind: a table, a figure, a line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxrl.calibrate.measures import BINS
from jaxrl.calibrate.score import Calibration, calibrate
from jaxrl.calibrate.walks import FULL, Protocol
from jaxrl.errors import UserError
from jaxrl.results import stats
from jaxrl.results.plot import COLOURS


def run(bonuses: Sequence[str], seeds: Sequence[int], out: Path, protocol: Protocol = FULL) -> Iterator[Calibration]:
    """Calibrate each bonus in turn; calibration.csv, .md and .png under `out` hold all that is done so far.

    Raises:
        UserError: see `calibrate`; the sentence names the bonus.
    """
    done: list[Calibration] = []
    for bonus in bonuses:
        try:
            done.append(calibrate(bonus, seeds, protocol))
        except UserError as error:
            raise UserError(f"bonus {bonus!r} cannot be calibrated: {error}") from error
        table(done).to_csv(out / "calibration.csv", index=False)
        (out / "calibration.md").write_text(markdown(table(done)), encoding="utf-8")
        figure(done).savefig(out / "calibration.png", dpi=150)
        yield done[-1]


def line(done: Calibration) -> str:
    """A calibration in one line."""
    return f"{done.bonus}: Spearman {_written(*_estimate(done.scores['spearman'], 0))} with counts: {done.counts}"


def table(calibrations: Sequence[Calibration], rng: int = 0) -> pd.DataFrame:
    """One row per bonus; a column for each measure, mean over seeds, and its 95 % bootstrap interval beside it.

    Columns after bonus, compared_with (which n) and seeds, all of the grid at scale 1 unless they say otherwise:
    ``spearman``; ``slope`` of log bonus against log n; ``half_life`` in visits; ``noise_pay``, what the television pays
    over what cells of equal n do; ``noise_kept``, what it pays at the end over what it paid first; ``spearman_x0.01``
    and ``spearman_x100`` at these scales; ``spearman_picture``; ``spearman_lifelong`` and ``spearman_episode``, with
    these counts whatever the kind; ``shuffled``, the negative control. A measure is NaN where any seed has no value for
    it; intervals also where there is one seed.
    """
    rows = []
    for done in calibrations:
        row: dict[str, Any] = {"bonus": done.bonus, "compared_with": done.counts}
        row["seeds"] = len(done.scores["spearman"])
        for measure, values in done.scores.items():
            row |= _columns(measure, _estimate(values, rng))
        rows.append({**row, **_columns("shuffled", done.shuffled)})
    return pd.DataFrame(rows)


def text(table: pd.DataFrame) -> str:
    """The main columns of a `table` as aligned text, intervals in brackets, "-" where there is no value."""
    return _main_columns(table).to_string(index=False)


def markdown(table: pd.DataFrame) -> str:
    """The main columns of a `table` for a README."""
    shown = _main_columns(table)
    rows = [list(shown.columns), ["---"] * len(shown.columns), *shown.itertuples(index=False)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _main_columns(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame({name: table[name] for name in ("bonus", "compared_with")})
    for measure in ("spearman", "slope", "half_life", "noise_pay", "noise_kept", "spearman_picture", "shuffled"):
        columns = zip(*(table[name] for name in _columns(measure, (0, 0, 0))), strict=True)
        shown[measure] = [_written(*row) for row in columns]
    for name in ("spearman_x0.01", "spearman_x100"):
        shown[name] = table[name].map(lambda value: "-" if np.isnan(value) else f"{value:.2f}")
    return shown


def figure(calibrations: Sequence[Calibration], level: float = 0.95) -> Figure:
    """Mean bonus against visits, a panel per bonus, with bootstrap intervals over seeds, beside 1/sqrt(n)."""
    columns = min(4, len(calibrations))
    rows = -(-len(calibrations) // columns)
    made = Figure(figsize=(2.9 * columns + 0.6, 2.3 * rows + 1.1), layout="constrained", facecolor="white")
    axes = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    reached = [(~np.isnan(curves)).any(0) for done in calibrations for curves in done.curves.values()]
    at = BINS[: np.flatnonzero(np.any(reached, 0)).max(initial=0) + 1]
    for axis, done in zip(axes, calibrations, strict=False):
        axis.plot(at, at**-0.5, color="0.5", lw=1.0, ls=":", label="1/sqrt(n)")
        for (name, curves), colour, dashes in zip(done.curves.items(), COLOURS, ("-", "--"), strict=False):
            kept = np.flatnonzero((~np.isnan(curves)).sum(0) >= max(2, len(curves) / 2))
            band = [stats.bootstrap_interval(curves[:, i], stats.mean, 0, level, 1000, "omit") for i in kept]
            if band:
                value, low, high = np.array(band).T
                axis.plot(BINS[kept], value, color=colour, ls=dashes, lw=1.6, label=name)
                axis.fill_between(BINS[kept], low, high, color=colour, alpha=0.18, lw=0)
        score = _estimate(done.scores["spearman"], 0)
        axis.set_title(f"{done.bonus}\n{done.counts}: {_written(*score)}", fontsize=8)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(1e-3, 10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="0.9", lw=0.7)
        axis.tick_params(labelsize=7)
    for axis in axes[len(calibrations) :]:
        axis.set_visible(False)
    made.supxlabel("n (visits, of the kind that the title names)", fontsize=9)
    made.supylabel("bonus (first visit = 1)", fontsize=9)
    made.suptitle("What a visit is worth; Spearman correlation with 1/sqrt(n)", fontsize=11, x=0.02, ha="left")
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda pair: len(pair[1]))
    made.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return made


def _estimate(values: np.ndarray, rng: int) -> stats.Estimate:
    if not np.isfinite(values).all():
        return stats.Estimate(np.nan, np.nan, np.nan)
    return stats.bootstrap_interval(values, stats.mean, rng)


def _columns(measure: str, estimate) -> dict[str, float]:
    return dict(zip((measure, f"{measure}_low", f"{measure}_high"), estimate, strict=True))


def _written(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
