"""Figures from a ``curves`` dataset; each function returns a ``matplotlib.figure.Figure`` and touches no global state.

With more than one swept name, ``hue`` (or the axes of a heat map) takes its own and every combination of the others
gets a panel, so nothing is pooled but seeds. ``ax`` is an axis of the reader's to draw a single panel on.
"""

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from jaxrl.errors import UserError
from jaxrl.results import frame, stats
from jaxrl.results.compare import importance as importance
from jaxrl.results.compare import improvement as improvement
from jaxrl.results.compare import middles
from jaxrl.results.compare import performance_profiles as performance_profiles
from jaxrl.results.compare import slices as slices
from jaxrl.results.frame import COLOURS as COLOURS
from jaxrl.results.frame import DASHES as DASHES
from jaxrl.results.query import final
from jaxrl.results.values import shown

MAX_POINTS = 100  # per line, evenly chosen, the last one included: more cannot be told apart in print
MAX_BANDS = 8  # ours: more intervals in one panel hide each other
WIDE = 30  # ours: the ratio of largest to smallest value from which an axis is logarithmic


def learning_curves(
    dataset: xr.Dataset, metric: str = "eval_return", hue: str | None = None, rng=0, level: float = 0.95, ax=None
) -> Figure:
    """IQM over seeds with its bootstrap interval against environment steps, one line per value of ``hue``.

    A value of ``hue`` to which a panel's field does not apply (no bonus has no coefficient) is drawn in every panel.
    Where lanes lie along the dim "point", as those of [random] do, each point is a line, and ``hue`` is the field that
    colours it: by a scale where its values are numbers.
    """
    frame.require(dataset, metric, hue)
    if frame.swept(dataset) == ["point"]:
        return _curves_of_points(dataset, metric, hue or frame.along_points(dataset)[0], rng, level, ax)
    hue = hue or next(iter(frame.swept(dataset)), None)
    panels = frame.panels(dataset, {hue})
    beside = [aside for panel in panels if (aside := _aside(dataset, panel)) != panel]
    panels = [panel for panel in panels if panel not in beside]
    on = frame.sheet(panels, title=frame.title(metric), subtitle=_iqm(level), ax=ax)
    for axis, panel in zip(on.axes, panels, strict=True):
        controls = frame.along(dataset.isel(_aside(dataset, panel)), hue)
        for number, (lines, control) in enumerate(zip(frame.along(dataset.isel(panel), hue), controls, strict=True)):
            lines = lines if (lines["lane"] != "").any() else control
            _line(axis, lines, metric, rng, level, frame.style(number))
        axis.set_title(frame.label(dataset, panel), fontsize=10)
    frame.label_axes(on, "environment steps", frame.units(dataset, metric))
    if hue:
        handles = [Line2D([], [], lw=1.8, **frame.style(number)) for number in range(dataset.sizes[hue])]
        frame.legend(on, handles, hue, [shown(value) for value in dataset[hue].values])
    return frame.signed(on, dataset)


def _curves_of_points(dataset: xr.Dataset, metric: str, hue: str, rng, level: float, ax) -> Figure:
    on = frame.sheet([{}], title=frame.title(metric), subtitle=f"{_iqm(level)}, a line for each point", ax=ax)
    axis, values = on.axes[0], dataset[hue].values
    scale = _scale(values)
    kinds = list(dict.fromkeys(map(shown, values)))
    for value, lines in zip(values, frame.along(dataset, "point"), strict=True):
        style = {"color": scale.to_rgba(value)} if scale else frame.style(kinds.index(shown(value)))
        _line(axis, lines, metric, rng, level, style, with_band=dataset.sizes["point"] <= MAX_BANDS)
    frame.label_axes(on, "environment steps", frame.units(dataset, metric))
    if scale:
        on.figure.colorbar(scale, ax=axis, label=frame.literal(hue))
    else:
        handles = [Line2D([], [], lw=1.8, **frame.style(number)) for number in range(len(kinds))]
        frame.legend(on, handles, hue, kinds)
    return frame.signed(on, dataset)


def points(dataset: xr.Dataset, metric: str = "eval_return", rng=0, level: float = 0.95, ax=None) -> Figure:
    """Final ``metric`` of every point, IQM over seeds with its bootstrap interval, against each swept field."""
    frame.require(dataset, metric)
    if frame.swept(dataset) != ["point"]:
        raise UserError("points are drawn where lanes lie along the dim 'point', as those of [random] do")
    names = frame.along_points(dataset)
    outcome = final(dataset[metric]).transpose("point", "seed").values
    measured = ~np.isnan(outcome).all(1)
    bands = [stats.bootstrap_interval(row, stats.iqm, rng, level, 1000, "omit") for row in outcome[measured]]
    value, low, high = np.array(bands, float).T
    subtitle = f"{_iqm(level)}, a point each"
    on = frame.sheet(names, title=frame.title(metric), subtitle=subtitle, sharex=False, ax=ax)
    for axis, name in zip(on.axes, names, strict=True):
        here = dataset[name].values[measured]
        if not _is_number(here):
            kinds = list(dict.fromkeys(map(shown, here)))
            here = np.array([kinds.index(shown(one)) for one in here])
            frame.ticks(axis, kinds)
        elif _is_wide(here):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(numticks=5))
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.errorbar(here, value, (value - low, high - value), fmt="o", ms=4, lw=1, color=COLOURS[0], alpha=0.8)
        axis.set_xlabel(name, fontsize=9)
    frame.label_axes(on, None, frame.units(dataset, metric))
    return frame.signed(on, dataset)


def success_bars(
    dataset: xr.Dataset, metric: str = "solved", hue: str | None = None, level: float = 0.95, ax=None
) -> Figure:
    """Fraction of seeds whose final ``metric`` is 1, with the Wilson interval and k/n over every bar."""
    _require_grid(dataset, metric, hue)
    others = [name for name in frame.swept(dataset) if name != hue]
    ticks = others[-1] if others else None  # one group of bars per value
    hue = hue or next((name for name in others if name != ticks), None)
    panels = frame.panels(dataset, {ticks, hue})
    on = frame.sheet(panels, title=frame.title(metric), subtitle=f"seeds that did, {level:.0%} Wilson interval", ax=ax)
    outcome = final(dataset[metric])
    width = 0.8 / (dataset.sizes[hue] if hue else 1)
    for axis, panel in zip(on.axes, panels, strict=True):
        for number, group in enumerate(frame.along(outcome.isel(panel), hue)):
            for position, bar in enumerate(frame.along(group, ticks)):
                seeds = bar.values[~np.isnan(bar.values)]
                x = position + (number - (dataset.sizes[hue] - 1) / 2 if hue else 0) * width
                if not len(seeds):
                    continue
                rate = stats.wilson(int(seeds.sum()), len(seeds), level)
                axis.bar(x, rate.value, 0.9 * width, alpha=0.85, **(look := frame.bar_style(number)))
                axis.vlines(x, rate.low, rate.high, color="0.15", lw=1.2)
                # A bar of height 0 has no colour, its marker has.
                marker = {"marker": frame.MARKERS[frame.HATCHES.index(look["hatch"])], "mfc": look["facecolor"]}
                axis.plot(x, rate.value, ms=5, mec="0.15", clip_on=False, **marker)
                axis.text(x, rate.high + 0.02, f"{seeds.sum():.0f}/{len(seeds)}", ha="center", va="bottom", fontsize=7)
        frame.ticks(axis, [shown(value) for value in dataset[ticks].values] if ticks else [""])
        axis.set_ylim(0, 1.12)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axis.set_title(frame.label(dataset, panel), fontsize=10)
    frame.label_axes(on, ticks or "", "fraction of seeds")
    if hue:
        handles = [Patch(alpha=0.85, **frame.bar_style(number)) for number in range(dataset.sizes[hue])]
        frame.legend(on, handles, hue, [shown(value) for value in dataset[hue].values])
    return frame.signed(on, dataset)


def coefficient_heatmap(
    dataset: xr.Dataset, metric: str = "eval_return", x: str = "coef", y: str = "bonus", ax=None
) -> Figure:
    """IQM over seeds of the final ``metric`` over two swept names, written in every cell; "-" where there is none."""
    for name in (x, y):
        _require_grid(dataset, metric, name)
    panels = frame.panels(dataset, {x, y})
    on = frame.sheet(panels, title=frame.title(metric), subtitle="IQM over seeds at the end of training", ax=ax)
    colours = matplotlib.colormaps["cividis"]
    outcome = final(dataset[metric]).transpose(..., y, x, "seed")
    tables = [middles(outcome.isel(panel).values) for panel in panels]
    low, high = float(np.nanmin(tables)), float(np.nanmax(tables))
    for axis, panel, table in zip(on.axes, panels, tables, strict=True):
        image = axis.imshow(table, cmap=colours, vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            dark = not np.isnan(value) and (value - low) / ((high - low) or 1) < 0.55
            written = "-" if np.isnan(value) else f"{value:.3g}"
            axis.text(column, row, written, ha="center", va="center", color="white" if dark else "black", fontsize=9)
        frame.ticks(axis, [shown(value) for value in dataset[x].values])
        axis.set_yticks(range(dataset.sizes[y]), [frame.literal(shown(value)) for value in dataset[y].values])
        axis.grid(False)
        axis.set_title(frame.label(dataset, panel), fontsize=10)
    on.figure.colorbar(image, ax=list(on.axes), label=frame.units(dataset, metric))
    frame.label_axes(on, x, y)
    return frame.signed(on, dataset)


def visitation(
    counts: np.ndarray,
    shape: tuple[int, int] | None = None,
    title: str = "",
    ax=None,
    *,
    cells: np.ndarray | None = None,
) -> Figure:
    """The share of steps spent in each state, on a logarithmic scale; states never visited are left white.

    Args:
        counts: steps in each state, ``[num_states]``. shape: (rows, columns) of the map that the states are the cells
            of, row by row; by default one row. cells: ``[num_states]``, the cell of each state, where states do not
            fill the map.
    """
    rows, columns = shape or (1, len(counts))
    if cells is None and rows * columns != len(counts):
        raise UserError(f"shape = {(rows, columns)}: {len(counts)} states do not fill it")
    laid_out = np.zeros(rows * columns)
    laid_out[slice(None) if cells is None else cells] = counts
    share = np.ma.masked_equal(laid_out.reshape(rows, columns) / max(counts.sum(), 1), 0)
    size = max(3.0, 6.0 * min(1.0, rows / columns))
    figure = Figure(figsize=(7.0, size + 0.6), layout="constrained") if ax is None else ax.figure
    axis = figure.subplots() if ax is None else ax
    image = axis.imshow(share, cmap="viridis", norm="log", aspect="equal" if shape else "auto", interpolation="nearest")
    figure.colorbar(image, ax=axis, label="share of steps")
    visited = int((counts > 0).sum())
    axis.set_title(f"{title}\n{visited} of {len(counts)} states visited", fontsize=10, parse_math=False)
    axis.set_xlabel("column" if shape else "state")
    axis.set_ylabel("row" if shape else "")
    if not shape:
        axis.set_yticks([])
    return figure


def _iqm(level: float) -> str:
    return f"IQM over seeds, {level:.0%} bootstrap interval"


def _line(axis, lines: xr.Dataset, metric: str, rng, level: float, style: dict, with_band: bool = True) -> None:
    """IQM with its interval over environment steps, where anything was measured."""
    values = lines[metric].transpose("iteration", "seed").values
    measured = np.flatnonzero(~np.isnan(values).all(axis=1))
    if len(measured) > MAX_POINTS:
        measured = measured[np.linspace(0, len(measured) - 1, MAX_POINTS).astype(int)]
    bands = [stats.bootstrap_interval(row, stats.iqm, rng, level, 1000, "omit") for row in values[measured]]
    value, low, high = np.array(bands, float).reshape(-1, 3).T
    x = lines["steps"].values[measured]
    axis.plot(x, value, lw=1.8, **style)
    if with_band:
        axis.fill_between(x, low, high, color=style["color"], alpha=0.18, lw=0)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def _aside(dataset: xr.Dataset, panel: dict) -> dict:
    """Where lanes stand to which the panel's fields do not apply: the missing value comes first. Or `panel`."""
    first = {name: dataset[name].values[0] for name in panel}
    return {name: 0 if shown(first[name]) == "none" else position for name, position in panel.items()}


def _require_grid(dataset: xr.Dataset, metric: str, name: str | None) -> None:
    frame.require(dataset, metric, name)
    if "point" in frame.swept(dataset):
        raise UserError(f"lanes here are points, not cells of a grid: points(dataset, {metric!r}) draws them")


def _is_number(values: np.ndarray) -> bool:
    return np.issubdtype(values.dtype, np.number)


def _is_wide(values: np.ndarray) -> bool:
    return bool((values > 0).all() and values.max() > WIDE * values.min())


def _scale(values: np.ndarray) -> ScalarMappable | None:
    """The colours of numbers; None for what is none."""
    if not _is_number(values) or np.isnan(values).any():
        return None
    norm = LogNorm if _is_wide(values) else Normalize
    return ScalarMappable(norm(values.min(), values.max()), "viridis")
