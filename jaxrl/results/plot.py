"""Figures from a ``curves`` dataset; each function returns a ``matplotlib.figure.Figure`` and touches no global state.

Colours are Okabe and Ito's, told apart by colour-blind readers; with more than one swept name, ``hue`` (or the axes of
a heat map) takes its own and every combination of the others gets a panel, so nothing is pooled but seeds.
"""

import itertools
import math

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from jaxrl.errors import UserError, unknown
from jaxrl.results import stats
from jaxrl.results.query import final, swept_names
from jaxrl.results.values import shown

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":", "-.")
MAX_PANELS = 36
MAX_POINTS = 100  # per line, evenly chosen, the last one included: more cannot be told apart in print
NOTE_HEIGHT = 0.17  # inches
TITLES = {
    "eval_return": "Evaluation return",
    "return": "Training return",
    "coverage": "Coverage of states",
    "solved": "Solved",
}


def learning_curves(
    dataset: xr.Dataset, metric: str = "eval_return", hue: str | None = None, rng=0, level: float = 0.95
) -> Figure:
    """IQM over seeds with its bootstrap interval against environment steps, one line per value of ``hue``.

    A value of ``hue`` to which a panel's field does not apply (no bonus has no coefficient) is drawn in every panel.
    """
    _require(dataset, metric, hue)
    hue = hue or next(iter(_swept(dataset)), None)
    panels = _panels(dataset, {hue})
    beside = [aside for panel in panels if (aside := _aside(dataset, panel)) != panel]
    panels = [panel for panel in panels if panel not in beside]
    figure, axes = _grid(panels, title=_title(metric), subtitle=f"IQM over seeds, {level:.0%} bootstrap interval")
    for axis, panel in zip(axes, panels, strict=True):
        controls = _along(dataset.isel(_aside(dataset, panel)), hue)
        for number, (lines, control) in enumerate(zip(_along(dataset.isel(panel), hue), controls, strict=True)):
            lines = lines if (lines["lane"] != "").any() else control
            x, band = _band(lines, metric, rng, level)
            style = _style(number)
            axis.plot(x, band.value, lw=1.8, **style)
            axis.fill_between(x, band.low, band.high, color=style["color"], alpha=0.18, lw=0)
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.set_title(_label(dataset, panel), fontsize=10)
    _label_below(axes, "environment steps")
    figure.supylabel(f"{_title(metric).lower()} ({dataset[metric].attrs['units']})", fontsize=10)
    if hue:
        handles = [Line2D([], [], lw=1.8, **_style(number)) for number in range(dataset.sizes[hue])]
        _legend(figure, handles, hue, [shown(value) for value in dataset[hue].values])
    return _signed(figure, dataset)


def points(dataset: xr.Dataset, metric: str = "eval_return", rng=0, level: float = 0.95) -> Figure:
    """Final ``metric`` of every point, IQM over seeds with its bootstrap interval, against each swept field."""
    _require(dataset, metric, None)
    if _swept(dataset) != ["point"]:
        raise UserError("points are drawn where lanes lie along the dim 'point', as those of [random] do")
    names = [str(name) for name in dataset.coords if name != "point" and dataset[name].dims == ("point",)]
    outcome = final(dataset[metric]).transpose("point", "seed").values
    bands = [stats.bootstrap_interval(row, stats.iqm, rng, level, 1000, "omit") for row in outcome]
    value, low, high = np.array(bands, float).T
    subtitle = f"IQM over seeds, {level:.0%} bootstrap interval, a point each"
    figure, axes = _grid(names, title=_title(metric), subtitle=subtitle, sharex=False)
    for axis, name in zip(axes, names, strict=True):
        here = dataset[name].values
        if not np.issubdtype(here.dtype, np.number):
            here = np.array([shown(one) for one in here])
        elif (here > 0).all() and here.max() > 30 * here.min():
            axis.set_xscale("log")
        axis.errorbar(here, value, (value - low, high - value), fmt="o", ms=4, lw=1, color=COLOURS[0], alpha=0.8)
        axis.set_xlabel(name, fontsize=9)
    figure.supylabel(f"{_title(metric).lower()} ({dataset[metric].attrs['units']})", fontsize=10)
    return _signed(figure, dataset)


def success_bars(dataset: xr.Dataset, metric: str = "solved", hue: str | None = None, level: float = 0.95) -> Figure:
    """Fraction of seeds whose final ``metric`` is 1, with the Wilson interval and k/n over every bar."""
    _require(dataset, metric, hue)
    others = [name for name in _swept(dataset) if name != hue]
    ticks = others[-1] if others else None  # one group of bars per value
    hue = hue or next((name for name in others if name != ticks), None)
    panels = _panels(dataset, {ticks, hue})
    figure, axes = _grid(panels, title=_title(metric), subtitle=f"seeds that did, {level:.0%} Wilson interval")
    outcome = final(dataset[metric])
    width = 0.8 / (dataset.sizes[hue] if hue else 1)
    for axis, panel in zip(axes, panels, strict=True):
        for number, group in enumerate(_along(outcome.isel(panel), hue)):
            for position, bar in enumerate(_along(group, ticks)):
                seeds = bar.values[~np.isnan(bar.values)]
                x = position + (number - (dataset.sizes[hue] - 1) / 2 if hue else 0) * width
                if not len(seeds):
                    continue
                rate = stats.wilson(int(seeds.sum()), len(seeds), level)
                axis.bar(x, rate.value, 0.9 * width, color=_style(number)["color"], alpha=0.85)
                axis.vlines(x, rate.low, rate.high, color="0.15", lw=1.2)
                # A bar of height 0 has no colour, its marker has.
                axis.plot(x, rate.value, "o", ms=5, mec="0.15", mfc=_style(number)["color"], clip_on=False)
                axis.text(x, rate.high + 0.02, f"{seeds.sum():.0f}/{len(seeds)}", ha="center", va="bottom", fontsize=7)
        axis.set_xticks(range(dataset.sizes[ticks]) if ticks else [0])
        axis.set_xticklabels([shown(value) for value in dataset[ticks].values] if ticks else [""])
        axis.set_ylim(0, 1.12)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axis.set_title(_label(dataset, panel), fontsize=10)
    _label_below(axes, ticks or "")
    figure.supylabel("fraction of seeds", fontsize=10)
    if hue:
        handles = [Line2D([], [], lw=6, color=_style(number)["color"]) for number in range(dataset.sizes[hue])]
        _legend(figure, handles, hue, [shown(value) for value in dataset[hue].values])
    return _signed(figure, dataset)


def coefficient_heatmap(dataset: xr.Dataset, metric: str = "eval_return", x: str = "coef", y: str = "bonus") -> Figure:
    """IQM over seeds of the final ``metric`` over two swept names, written in every cell; "-" where there is none."""
    _require(dataset, metric, x)
    _require(dataset, metric, y)
    panels = _panels(dataset, {x, y})
    figure, axes = _grid(panels, title=_title(metric), subtitle="IQM over seeds at the end of training")
    colours = matplotlib.colormaps["cividis"]
    outcome = final(dataset[metric]).transpose(..., y, x, "seed")
    tables = [_iqm_over_seeds(outcome.isel(panel).values) for panel in panels]
    low, high = float(np.nanmin(tables)), float(np.nanmax(tables))
    for axis, panel, table in zip(axes, panels, tables, strict=True):
        image = axis.imshow(table, cmap=colours, vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            dark = not np.isnan(value) and (value - low) / ((high - low) or 1) < 0.55
            written = "-" if np.isnan(value) else f"{value:.3g}"
            axis.text(column, row, written, ha="center", va="center", color="white" if dark else "black", fontsize=9)
        axis.set_xticks(range(dataset.sizes[x]), [shown(value) for value in dataset[x].values])
        axis.set_yticks(range(dataset.sizes[y]), [shown(value) for value in dataset[y].values])
        axis.grid(False)
        axis.set_title(_label(dataset, panel), fontsize=10)
    figure.colorbar(image, ax=list(axes), label=f"{_title(metric).lower()} ({dataset[metric].attrs['units']})")
    _label_below(axes, x)
    figure.supylabel(y, fontsize=10)
    return _signed(figure, dataset)


def visitation(counts: np.ndarray, shape: tuple[int, int] | None = None, title: str = "") -> Figure:
    """The share of steps spent in each state, on a logarithmic scale; states never visited are left white.

    Args:
        counts: steps in each state, ``[num_states]``. shape: (rows, columns) of the map that the states are the cells
            of, row by row; by default one row.
    """
    rows, columns = shape or (1, len(counts))
    if rows * columns != len(counts):
        raise UserError(f"shape = {(rows, columns)}: {len(counts)} states do not fill it")
    share = np.ma.masked_equal(counts.reshape(rows, columns) / max(counts.sum(), 1), 0)
    size = max(3.0, 6.0 * min(1.0, rows / columns))
    figure = Figure(figsize=(7.0, size + 0.6), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share, cmap="viridis", norm="log", aspect="equal" if shape else "auto", interpolation="nearest")
    figure.colorbar(image, ax=axis, label="share of steps")
    visited = int((counts > 0).sum())
    axis.set_title(f"{title}\n{visited} of {len(counts)} states visited", fontsize=10)
    axis.set_xlabel("column" if shape else "state")
    axis.set_ylabel("row" if shape else "")
    if not shape:
        axis.set_yticks([])
    return figure


def _require(dataset, metric, name) -> None:
    if metric not in dataset:
        raise unknown("metric", metric, map(str, dataset.data_vars))
    if dataset[metric].isnull().all():
        raise UserError(f"{metric} was measured in no lane that did not diverge")
    if name is not None and name not in _swept(dataset):
        raise unknown("swept name", name, _swept(dataset))


def _swept(dataset) -> list[str]:
    """Swept names that the reader has not pinned to one value with ``sel``."""
    return [name for name in swept_names(dataset) if name in dataset.dims]


def _panels(dataset, taken) -> list[dict]:
    """Position along every swept name not in ``taken``, for each combination that has lanes."""
    names = [name for name in _swept(dataset) if name not in taken]
    positions = itertools.product(*(range(dataset.sizes[name]) for name in names))
    panels = [dict(zip(names, position, strict=True)) for position in positions]
    panels = [panel for panel in panels if (dataset["lane"].isel(panel) != "").any()]
    if len(panels) > MAX_PANELS:
        raise UserError(f"{len(panels)} panels ({', '.join(names)}) are too many to read: select some values first")
    return panels


def _aside(dataset, panel: dict) -> dict:
    """Where lanes stand to which the panel's fields do not apply: the missing value comes first. Or `panel`."""
    first = {name: dataset[name].values[0] for name in panel}
    return {name: 0 if shown(first[name]) == "none" else position for name, position in panel.items()}


def _along(array, name):
    """Slices along a swept name; the whole, once, if there is none. Positions, since a coordinate may be NaN."""
    return [array.isel({name: position}) for position in range(array.sizes[name])] if name else [array]


def _band(lines: xr.Dataset, metric: str, rng, level: float) -> tuple[np.ndarray, stats.Estimate]:
    """Environment steps and IQM with interval where anything was measured; arrays [points]."""
    values = lines[metric].transpose("iteration", "seed").values
    measured = np.flatnonzero(~np.isnan(values).all(axis=1))
    if len(measured) > MAX_POINTS:
        measured = measured[np.linspace(0, len(measured) - 1, MAX_POINTS).astype(int)]
    points = [stats.bootstrap_interval(row, stats.iqm, rng, level, 1000, "omit") for row in values[measured]]
    return lines["steps"].values[measured], stats.Estimate(*np.array(points, float).reshape(-1, 3).T)


def _iqm_over_seeds(values: np.ndarray) -> np.ndarray:
    table = np.full(values.shape[:-1], np.nan)
    for cell in np.argwhere(~np.isnan(values).all(axis=-1)):
        table[tuple(cell)] = stats.iqm(values[tuple(cell)], nan_policy="omit")
    return table


def _grid(panels, *, title: str, subtitle: str, sharex: bool = True):
    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = math.ceil(len(panels) / columns)
    width, height = max(6.4, 3.1 * columns + 1.2), 2.6 * rows + 1.3
    note = NOTE_HEIGHT / height
    layout = ConstrainedLayoutEngine(rect=(0, note, 1, 1 - note))
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=True, squeeze=False).ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="0.9", lw=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle(f"{title}: {subtitle}", fontsize=11, x=0.02, ha="left")
    return figure, axes[: len(panels)]


def _label_below(axes, label: str) -> None:
    """Not ``supxlabel``, which would take the line that the note in the corner needs."""
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    for number, axis in enumerate(axes):
        lowest = number + columns >= len(axes)  # of its column: the last row may be shorter
        axis.set_xlabel(label if lowest else "", fontsize=9)
        axis.tick_params(labelbottom=lowest)


def _style(number: int) -> dict:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number // len(COLOURS) % len(DASHES)]}


def _legend(figure, handles, title, labels) -> None:
    figure.legend(handles, labels, title=title, loc="outside right upper", frameon=False, fontsize=9, title_fontsize=9)


def _signed(figure: Figure, dataset: xr.Dataset) -> Figure:
    """Write into the corner what the figure was made from."""
    seeds, diverged = dataset["seed"].values, len(dataset.attrs["diverged"].split())
    codes = np.atleast_1d(dataset["code"] if "code" in dataset.coords else dataset.attrs["code"]).tolist()
    commits = [" ".join([commit[:10], *commit.split()[1:]]) for commit in dataset.attrs["commits"].split(", ")]
    pinned = {name: dataset[name].item() for name in swept_names(dataset) if name not in dataset.dims}
    parts = [
        dataset.attrs.get("env"),
        *(f"{name} = {shown(value)}" for name, value in pinned.items()),
        f"{len(seeds)} seeds ({seeds.min()} to {seeds.max()})",
        f"diverged lanes left out: {diverged}" if diverged else None,
        f"code {', '.join(code[:10] for code in codes)}",
        f"commit {', '.join(commits)}",
    ]
    y = 0.2 * NOTE_HEIGHT / figure.get_figheight()
    figure.text(0.99, y, " · ".join(filter(None, parts)), ha="right", va="bottom", fontsize=6.5, color="0.4")
    return figure


def _title(metric: str) -> str:
    return TITLES.get(metric, metric)


def _label(dataset: xr.Dataset, panel: dict) -> str:
    return ", ".join(f"{name} = {shown(dataset[name].values[position])}" for name, position in panel.items())
