"""A lidar on a grid: what 32 beams from one cell show, up to half a cell past the first obstacle."""

import functools
from math import pi
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array

BEAMS = 32
SAMPLES = 200  # points along a beam
MARGIN = 0.5  # cells that a beam shows past the nearest obstacle's centre


class Crossings(NamedTuple):
    """The cells that each beam crosses, in order; short beams repeat their last one."""

    cell: np.ndarray  # [BEAMS, K, 2] int  relative to the robot's
    entry: np.ndarray  # [BEAMS, K] float32  distance along the beam to its first point in the cell
    centre: np.ndarray  # [BEAMS, K] float32  distance to the cell's centre


@functools.cache
def crossings(reach: float) -> Crossings:
    """Where 200 even points of each beam round to, as in the released code.

    At the published reach of 6 no point lies on a border between two cells, so that rounding is the same wherever the
    robot stands.
    """
    angle = np.arange(BEAMS) * 2 * pi / BEAMS
    distance = np.linspace(0, reach, SAMPLES)
    cells, entries = [], []
    for direction in np.stack([np.cos(angle), np.sin(angle)], -1):
        points = np.rint(distance[:, None] * direction).astype(int)
        enters = np.r_[True, (points[1:] != points[:-1]).any(1)]
        cells.append(points[enters])
        entries.append(distance[enters])
    most = max(map(len, cells))
    extended = lambda rows: np.stack([np.concatenate([row, np.repeat(row[-1:], most - len(row), 0)]) for row in rows])
    cell = extended(cells)
    return Crossings(cell, extended(entries).astype(np.float32), np.hypot(*np.moveaxis(cell, -1, 0)).astype(np.float32))


def scan(obstacles: Array, x: Array, y: Array, reach: float) -> Array:
    """The cells that the lidar shows from (x, y), bool ``[H, W]`` like ``obstacles``; beams end at the map's edge.

    A beam's range is the distance to the centre of the nearest obstacle on it, else ``reach``; it shows what it crosses
    within its range and half a cell.
    """
    height, width = obstacles.shape
    beams = crossings(reach)
    row, column = x + beams.cell[..., 0], y + beams.cell[..., 1]  # [BEAMS, K]
    # Both an index past the end and a negative one must miss the map.
    row, column = jnp.where(row < 0, height, row), jnp.where(column < 0, width, column)
    hit = obstacles.at[row, column].get(mode="fill", fill_value=False)
    beam_range = jnp.where(hit, beams.centre, reach).min(1, keepdims=True)
    shown = beams.entry <= jnp.minimum(beam_range + MARGIN, reach)
    return jnp.zeros_like(obstacles).at[jnp.where(shown, row, height), column].set(True, mode="drop")
