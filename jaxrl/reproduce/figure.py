"""The figure of a claim from its record: what was measured, a panel each, and the differences that decide it."""

import itertools
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxrl.reproduce.record import estimate_of, panels_of
from jaxrl.reproduce.verdict import mean
from jaxrl.results.frame import COLOURS, DASHES, MARKERS
from jaxrl.results.values import shown

VERDICT_COLOURS = {"reproduced": "#009E73", "refuted": "#D55E00", "undecided": "0.45"}
WIDTH = 10.5  # inches
FEW = 5  # lines that leave room for a legend between them
LETTERS = 100  # of the names below a row of panels


def figure(record: Mapping[str, Any]) -> Figure:
    """Panels above (mean over seeds, 95 % interval), differences with their margins below, provenance in the corner."""
    panels = panels_of(record)
    differences = record["differences"]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    heights = [3.2 * rows, 0.9 + 0.45 * max(len(differences), 1)]
    height = sum(heights) + 0.7
    made = Figure(figsize=(WIDTH, height), facecolor="white")
    made.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0.18 / height, 1, 1 - 0.18 / height)))
    grid = made.add_gridspec(2, 1, height_ratios=heights)
    above, below = made.add_subfigure(grid[0]), made.add_subfigure(grid[1])
    arms = dict.fromkeys(arm for panel in panels.values() for arm in panel["arm"].values.tolist())
    looks = dict(zip(arms, _looks(), strict=False))
    axes = above.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, panel) in zip(axes, panels.items(), strict=False):
        _panel(axis, name, panel, looks)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    _differences(below.subplots(), differences)
    made.suptitle("\n".join(textwrap.wrap(f"{record['claim']} {record['verdict'].capitalize()}.", 110)), fontsize=10.5)
    made.text(0.99, 0.04 / height, corner(record), ha="right", va="bottom", fontsize=6.5, color="0.4")
    return made


def corner(record: Mapping[str, Any]) -> str:
    """Where a figure comes from: seeds, steps, commit, day, machine."""
    low, high = record["seeds"]
    commit = (record["commit"] or "unknown")[:10] + (" (changed since)" if record["dirty"] else "")
    parts = [
        f"{high - low + 1} seeds ({low} to {high})",
        f"{record['steps'] / 1e6:.1f}M steps" if record["steps"] else None,
        f"diverged: {record['diverged']}" if record["diverged"] else None,
        f"commit {commit}",
        record["measured"][:10],
        record["machine"],
    ]
    return " · ".join(filter(None, parts))


def _looks():
    """A colour, a dash and a marker for each arm: where the colours begin again, the others change."""
    styles = itertools.cycle(zip(DASHES, MARKERS, strict=True))
    return ((colour, dash, marker) for dash, marker in styles for colour in COLOURS)


def _panel(axis, name: str, panel: xr.DataArray, looks: Mapping[str, tuple]) -> None:
    """`looks`: colour, dash and marker of each arm, the same in every panel."""
    places = [str(dim) for dim in panel.dims[1:-1]]
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="0.9", lw=0.7)
    axis.set_axisbelow(True)
    axis.set_title(name, fontsize=9.5)
    axis.set_ylabel("\n".join(textwrap.wrap(f"{panel.attrs['title']} ({panel.attrs['units']})", 38)), fontsize=8.5)
    axis.tick_params(labelsize=8)
    if not places:
        _dots(axis, panel, looks)
        return
    along = panel.stack(place=places) if len(places) > 1 else panel.rename({places[0]: "place"})
    ticks = [", ".join(map(shown, value)) if isinstance(value, tuple) else shown(value)
             for value in along["place"].values.tolist()]  # fmt: skip
    x, arms = np.arange(len(ticks)), panel["arm"].values
    joined = len(ticks) > 1 and panel[places[-1]].dtype.kind in "iuf"  # a line between two words would mean nothing
    for number, arm in enumerate(arms):
        value, low, high = np.array([_mean(along.sel(arm=arm).isel(place=place)) for place in x], float).T
        colour, dash, marker = looks[arm]
        if joined:
            axis.plot(x, value, marker, ms=3, label=arm, lw=1.8, color=colour, ls=dash)
            axis.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
        else:
            beside = x + 0.5 * ((number + 0.5) / len(arms) - 0.5)
            axis.vlines(beside, low, high, color=colour, lw=2, ls=dash)
            axis.plot(beside, value, marker, ms=5, label=arm, color=colour)
    axis.set_xlim(-0.5, len(ticks) - 0.5)
    _name(axis, ticks)
    axis.set_xlabel(", ".join(places).replace("_", " "), fontsize=8.5)
    place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if len(arms) > FEW else {}
    axis.legend(fontsize=7, frameon=False, **place)


def _dots(axis, panel: xr.DataArray, looks: Mapping[str, tuple]) -> None:
    """One arm a column: every seed, the mean, its interval."""
    for number, arm in enumerate(panel["arm"].values):
        seeds = panel.sel(arm=arm).values
        seeds = seeds[~np.isnan(seeds)]
        colour, _, marker = looks[arm]
        spread = np.linspace(-0.18, 0.18, len(seeds)) if len(seeds) != 1 else np.zeros(1)
        axis.plot(number + spread, seeds, ".", ms=4, color=colour, alpha=0.45)
        value, low, high = _mean(panel.sel(arm=arm))
        axis.vlines(number, low, high, color="0.15", lw=2)
        axis.plot(number, value, marker, ms=6, mec="0.15", mfc=colour)
    axis.set_xlim(-0.6, len(panel["arm"]) - 0.4)
    _name(axis, [str(arm) for arm in panel["arm"].values])


def _name(axis, ticks: list[str]) -> None:
    room = LETTERS / axis.get_gridspec().ncols / len(ticks)
    axis.set_xticks(range(len(ticks)), ticks, rotation=30 if max(map(len, ticks)) > room else 0)


def _differences(axis, differences) -> None:
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.axvline(0, color="0.15", lw=1)
    for row, one in enumerate(differences):
        value, low, high = (np.nan if x is None else x for x in estimate_of(one))
        # In units of the margin, so that differences of different panels stand on one axis.
        value, low, high = (x / one["margin"] for x in (value, low, high))
        colour = VERDICT_COLOURS[one["verdict"]]
        axis.hlines(row, low, high, color=colour, lw=4, alpha=0.8)
        axis.plot(value, row, "o", ms=6, color=colour)
    axis.axvspan(-1, 1, color="0.5", alpha=0.12, lw=0)
    said = ["\n".join(textwrap.wrap(line(one), 62)) for one in differences]
    axis.set_yticks(range(len(differences)), said, fontsize=8)
    axis.set_ylim(len(differences) - 0.4, -0.6)
    axis.set_xlabel("difference of means with its 95 % interval, in margins of no effect (shaded)", fontsize=8.5)
    axis.tick_params(axis="x", labelsize=8)


def line(one: Mapping[str, Any]) -> str:
    """A difference in words: what it says, what was measured, the verdict."""
    value, low, high = (float("nan") if x is None else x for x in estimate_of(one))
    lost = f" ({one['lost']} seeds diverged)" if one["lost"] else ""
    return f"{one['says']}: {value:.3g} [{low:.3g}, {high:.3g}], {one['verdict']}{lost}"


def _mean(values: xr.DataArray):
    found = values.values[~np.isnan(values.values)].astype(float)
    return mean(found) if len(found) else (np.nan, np.nan, np.nan)
