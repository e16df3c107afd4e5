"""What every figure of ``plot`` shares: panels, axes, colours, the legend, and the note of what it was made from.

Colours are Okabe and Ito's, told apart by colour-blind readers.
"""

import itertools
import math
import re
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axis import Tick
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from jaxrl.errors import UserError, unknown
from jaxrl.results.query import swept_names
from jaxrl.results.values import shown

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":", "-.")
HATCHES, MARKERS = ("", "///", "...", "xxx"), ("o", "s", "^", "D")  # of bars and points where colours begin again
MAX_PANELS = 36
NOTE_HEIGHT = 0.17  # inches
LONG = 34  # characters of all the labels under an axis, from which on they are turned
TITLES = {
    "eval_return": "Evaluation return",
    "return": "Training return",
    "coverage": "Coverage of states",
    "solved": "Solved",
}


class Sheet(NamedTuple):
    """The axes to draw on: of a figure of one's own, or the one that the reader gave."""

    figure: Any
    axes: Any  # [panels]
    given: bool  # then title, labels and legend are the axis's, and there is no note


def require(dataset: xr.Dataset, metric: str, name: str | None = None) -> None:
    """Raises UserError unless the metric was measured and the name, where there is one, was swept."""
    if metric not in dataset:
        raise unknown("metric", metric, map(str, dataset.data_vars))
    if dataset[metric].isnull().all():
        raise UserError(f"{metric} was measured in no lane that did not diverge")
    if name is not None and name not in (known := [*swept(dataset), *along_points(dataset)]):
        raise unknown("swept name", name, known)


def swept(dataset: xr.Dataset) -> list[str]:
    """Swept names that the reader has not pinned to one value with ``sel``."""
    return [name for name in swept_names(dataset) if name in dataset.dims]


def along_points(dataset: xr.Dataset) -> list[str]:
    """The swept fields of lanes that lie along the dim "point", as those of [random] do."""
    return [str(name) for name in dataset.coords if name != "point" and dataset[name].dims == ("point",)]


def panels(dataset: xr.Dataset, taken) -> list[dict]:
    """Position along every swept name not in ``taken``, for each combination that has lanes."""
    names = [name for name in swept(dataset) if name not in taken]
    positions = itertools.product(*(range(dataset.sizes[name]) for name in names))
    found = [dict(zip(names, position, strict=True)) for position in positions]
    found = [panel for panel in found if (dataset["lane"].isel(panel) != "").any()]
    if len(found) > MAX_PANELS:
        raise UserError(f"{len(found)} panels ({', '.join(names)}) are too many to read: select some values first")
    return found


def along(array, name: str | None) -> list:
    """Slices along a swept name; the whole, once, if there is none. Positions, since a coordinate may be NaN."""
    return [array.isel({name: position}) for position in range(array.sizes[name])] if name else [array]


def sheet(panels, *, title: str, subtitle: str, sharex: bool = True, sharey: bool = True, ax=None) -> Sheet:
    """Axes for the panels, or `ax`, an axis of the reader's, for a single one; UserError where there are more."""
    if ax is not None and len(panels) != 1:
        raise UserError(f"ax: one axis holds one panel, and this figure has {len(panels)}: select some values first")
    if ax is not None:
        _plain(ax)
        return Sheet(ax.figure, np.array([ax]), True)
    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = math.ceil(len(panels) / columns)
    width, height = max(6.4, 3.1 * columns + 1.2), 2.6 * rows + 1.3
    note = NOTE_HEIGHT / height
    layout = ConstrainedLayoutEngine(rect=(0, note, 1, 1 - note))
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for axis in axes:
        _plain(axis)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle(f"{title}: {subtitle}", fontsize=11, x=0.02, ha="left")
    return Sheet(figure, axes[: len(panels)], False)


def _plain(axis) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="0.9", lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)


def label_axes(on: Sheet, x: str | None, y: str) -> None:
    """`x` below the lowest panel of each column, unless it is None; `y` once at the left."""
    if on.given:
        on.axes[0].set(**({} if x is None else {"xlabel": x}), ylabel=y)
        return
    on.figure.supylabel(y, fontsize=10)
    # Not ``supxlabel``, which would take the line that the note in the corner needs.
    columns = on.axes[0].get_subplotspec().get_gridspec().ncols
    for number, axis in enumerate(on.axes if x is not None else ()):
        lowest = number + columns >= len(on.axes)  # of its column: the last row may be shorter
        axis.set_xlabel(x if lowest else "", fontsize=9)
        axis.tick_params(labelbottom=lowest)


def ticks(axis, labels: list[str]) -> None:
    """Labels at 0, 1, ... below an axis, turned where they would run into each other."""
    turned = {"rotation": 30, "ha": "right"} if sum(map(len, labels)) + 2 * len(labels) > LONG else {}
    axis.set_xticks(range(len(labels)), list(map(literal, labels)), **turned)


def style(number: int) -> dict:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number // len(COLOURS) % len(DASHES)]}


def bar_style(number: int) -> dict:
    hatch = HATCHES[number // len(COLOURS) % len(HATCHES)]
    return {"facecolor": COLOURS[number % len(COLOURS)], "edgecolor": "white", "hatch": hatch}


def legend(on: Sheet, handles: list, title: str, labels: list[str]) -> None:
    if on.given:
        on.axes[0].legend(handles, labels, title=title, frameon=False, fontsize=8, title_fontsize=8)
    else:
        on.figure.legend(
            handles, labels, title=title, loc="outside right upper", frameon=False, fontsize=9, title_fontsize=9
        )


def literal(text: str) -> str:
    """Text in which matplotlib finds no formula, whatever a user's names hold."""
    return re.sub(r"(?<!\\)\$", r"\\$", text)


def _as_written(artist) -> None:
    """No text of the artist is a formula but the labels of ticks, which on a scale of powers are."""
    ticks = {id(text) for tick in artist.findobj(Tick) for text in (tick.label1, tick.label2)}
    for text in artist.findobj(Text):
        if id(text) not in ticks:
            text.set_parse_math(False)


def signed(on: Sheet, dataset: xr.Dataset) -> Figure:
    """The figure, with a note in its corner of what it was made from."""
    if on.given:
        _as_written(on.axes[0])
        return on.figure
    seeds, diverged = dataset["seed"].values, len(dataset.attrs["diverged"].split())
    codes = np.atleast_1d(dataset["code"] if "code" in dataset.coords else dataset.attrs["code"]).tolist()
    commits = [" ".join([commit[:10], *commit.split()[1:]]) for commit in dataset.attrs["commits"].split(", ")]
    pinned = {name: dataset[name].item() for name in swept_names(dataset) if name not in dataset.dims}
    parts = [
        dataset.attrs.get("env"),
        *(f"{name} = {shown(value)}" for name, value in pinned.items()),
        f"{seeds.size} seeds ({seeds.min()} to {seeds.max()})",
        f"diverged lanes left out: {diverged}" if diverged else None,
        f"code {', '.join(code[:10] for code in codes)}",
        f"commit {', '.join(commits)}",
    ]
    y = 0.2 * NOTE_HEIGHT / on.figure.get_figheight()
    note = " · ".join(filter(None, parts))
    on.figure.text(0.99, y, note, ha="right", va="bottom", fontsize=6.5, color="0.4")
    _as_written(on.figure)
    return on.figure


def title(metric: str) -> str:
    return TITLES.get(metric, metric)


def units(dataset: xr.Dataset, metric: str) -> str:
    """The label of an axis that shows the metric."""
    return f"{title(metric).lower()} ({dataset[metric].attrs['units']})"


def label(dataset: xr.Dataset, panel: dict) -> str:
    return ", ".join(f"{name} = {shown(dataset[name].values[position])}" for name, position in panel.items())
