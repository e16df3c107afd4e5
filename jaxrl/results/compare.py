"""Figures that compare: performance profiles, probability of improvement, importance of fields, slices."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxrl.errors import UserError
from jaxrl.results import frame, stats
from jaxrl.results.query import final
from jaxrl.results.values import shown
from jaxrl.results.variance import importance as importance_of

THRESHOLDS = 101  # ours: of a profile, from the lowest score in the figure to the highest


def performance_profiles(
    dataset: xr.Dataset, metric: str = "eval_return", hue: str | None = None, rng=0, level: float = 0.95, ax=None
) -> Figure:
    """Fraction of seeds whose final ``metric`` exceeds a score, against the score; pointwise bootstrap bands.

    One line per value of ``hue`` (Agarwal et al. 2021, section 4.3). A line above another everywhere is better at
    every quantile; the score at which a line crosses 0.5 is the median.
    """
    frame.require(dataset, metric, hue)
    hue = hue or next(iter(frame.swept(dataset)), None)
    panels = frame.panels(dataset, {hue})
    subtitle = f"seeds above a score, {level:.0%} bootstrap band"
    on = frame.sheet(panels, title=frame.title(metric), subtitle=subtitle, ax=ax)
    outcome = final(dataset[metric])
    thresholds = np.linspace(float(outcome.min()), float(outcome.max()), THRESHOLDS)
    for axis, panel in zip(on.axes, panels, strict=True):
        for number, line in enumerate(frame.along(outcome.isel(panel), hue)):
            scores = line.values[~np.isnan(line.values)]
            if not len(scores):
                continue
            value, low, high = stats.performance_profile(scores, thresholds, rng, level)
            style = frame.style(number)
            axis.step(thresholds, value, where="post", lw=1.8, **style)
            axis.fill_between(thresholds, low, high, step="post", color=style["color"], alpha=0.18, lw=0)
        axis.set_ylim(-0.02, 1.02)
        axis.set_title(frame.label(dataset, panel), fontsize=10)
    frame.label_axes(on, f"score: {frame.units(dataset, metric)}", "fraction of seeds above")
    if hue:
        handles = [Line2D([], [], lw=1.8, **frame.style(number)) for number in range(dataset.sizes[hue])]
        frame.legend(on, handles, hue, [shown(value) for value in dataset[hue].values])
    return frame.signed(on, dataset)


def improvement(
    dataset: xr.Dataset, metric: str = "eval_return", dim: str = "bonus", over=None, rng=0, level: float = 0.95, ax=None
) -> Figure:
    """P(a seed of each value of ``dim`` scores higher than a seed of the value ``over``), with bootstrap intervals.

    ``over`` is by default the first value. Ties count one half; 0.5 is no difference.
    """
    frame.require(dataset, metric, dim)
    if dim not in dataset.dims:
        raise UserError(f"lanes here are points, and {dim!r} is no dim of theirs: compare points with dim='point'")
    values = dataset[dim].values.tolist()
    over = values[0] if over is None else over
    if over not in values:
        raise UserError(f"over = {over!r}: {dim} has the values {', '.join(map(shown, values))}")
    others = [position for position, value in enumerate(values) if value != over]
    panels = frame.panels(dataset, {dim})
    subtitle = f"P(higher than with {dim} = {shown(over)}), {level:.0%} bootstrap interval"
    on = frame.sheet(panels, title=frame.title(metric), subtitle=subtitle, ax=ax)
    outcome = final(dataset[metric])
    for axis, panel in zip(on.axes, panels, strict=True):
        scores = [line.values[~np.isnan(line.values)] for line in frame.along(outcome.isel(panel), dim)]
        base = scores[values.index(over)]
        for row, position in enumerate(others):
            if not (len(base) and len(scores[position])):
                continue
            value, low, high = stats.probability_of_improvement(scores[position], base, rng, level)
            _interval(axis, row, value, low, high, frame.style(position)["color"])
        axis.axvline(0.5, color="0.5", lw=0.8)
        axis.set_xlim(-0.02, 1.02)
        _rows(axis, [shown(values[position]) for position in others])
        axis.set_title(frame.label(dataset, panel), fontsize=10)
    frame.label_axes(on, "probability of improvement", dim)
    return frame.signed(on, dataset)


def importance(dataset: xr.Dataset, metric: str = "eval_return", level: float = 0.95, ax=None) -> Figure:
    """The share of the final metric's variance that each swept field explains alone, with its jackknife interval."""
    frame.require(dataset, metric)
    table = importance_of(dataset, metric, level)
    subtitle = f"variance that a field explains, {level:.0%} interval"
    on = frame.sheet([{}], title=frame.title(metric), subtitle=subtitle, ax=ax)
    axis = on.axes[0]
    for row, (_, share, low, high) in enumerate(table.itertuples(index=False)):
        _interval(axis, row, share, low, high, frame.COLOURS[0])
    axis.axvline(0, color="0.5", lw=0.8)
    axis.set_xlim(min(-0.02, np.nanmin(table[["share", "low"]].to_numpy(float)) - 0.02), 1.02)
    _rows(axis, list(table["field"]))
    frame.label_axes(on, "share of variance (0: none)", "")
    return frame.signed(on, dataset)


def slices(
    dataset: xr.Dataset, metric: str = "eval_return", at: dict | None = None, rng=0, level: float = 0.95, ax=None
) -> Figure:
    """Final ``metric`` against one field at a time, the others at ``at``: IQM over seeds with its bootstrap interval.

    A field that ``at`` leaves out stands at its value in the cell with the highest IQM among those that ``at`` allows,
    which the title names: a way to look around it, no estimate of how good it is.
    """
    frame.require(dataset, metric)
    names = frame.swept(dataset)
    if not names or names == ["point"]:
        raise UserError("slices need a grid with at least one swept field; points(dataset) draws points")
    outcome = final(dataset[metric]).transpose(*names, "seed")
    middle = middles(outcome.values)
    for name, value in (at or {}).items():
        frame.require(dataset, metric, name)
        if value not in (known := dataset[name].values.tolist()):
            raise UserError(f"at: {name} = {value!r} is not one of its values, {', '.join(map(shown, known))}")
        allowed = np.array([one == value for one in known])
        shape = [-1 if one == name else 1 for one in names]
        middle = np.where(allowed.reshape(shape), middle, np.nan)
    if np.isnan(middle).all():
        raise UserError(f"at = {at!r}: no lane there has a {metric}")
    centre = dict(zip(names, np.unravel_index(np.nanargmax(middle), middle.shape), strict=True))
    through = ", ".join(f"{name} = {shown(dataset[name].values[position])}" for name, position in centre.items())
    panels = [{name: centre[name]} for name in names]
    on = frame.sheet(panels, title=frame.title(metric), subtitle=f"slices through {through}", sharex=False, ax=ax)
    for axis, name in zip(on.axes, names, strict=True):
        line = outcome.isel({other: position for other, position in centre.items() if other != name})
        for position, seeds in enumerate(frame.along(line, name)):
            scores = seeds.values[~np.isnan(seeds.values)]
            if len(scores):
                value, low, high = stats.bootstrap_interval(scores, stats.iqm, rng, level)
                error = np.nan_to_num([[value - low], [high - value]])
                axis.errorbar([position], [value], error, fmt="o", ms=5, lw=1.2, color=frame.COLOURS[0])
        frame.ticks(axis, [shown(value) for value in dataset[name].values])
        axis.set_xlabel(name, fontsize=9)
    frame.label_axes(on, None, frame.units(dataset, metric))
    return frame.signed(on, dataset)


def _interval(axis, row: int, value: float, low: float, high: float, colour: str) -> None:
    axis.plot([value], [row], "o", ms=5, color=colour)
    if not np.isnan(low):
        axis.hlines(row, low, high, color=colour, lw=1.4)


def _rows(axis, labels: list[str]) -> None:
    """Labels down the left side, the first at the top."""
    axis.set_yticks(range(len(labels)), list(map(frame.literal, labels)))
    axis.set_ylim(len(labels) - 0.4, -0.6)


def middles(outcome: np.ndarray) -> np.ndarray:
    """IQM over the last axis; NaN where nothing was measured."""
    found = np.full(outcome.shape[:-1], np.nan)
    for cell in np.argwhere(~np.isnan(outcome).all(-1)):
        found[tuple(cell)] = stats.iqm(outcome[tuple(cell)], nan_policy="omit")
    return found
