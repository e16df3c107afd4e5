"""The world from above as a picture in MiniGrid's colours: a table of tiles, drawn once, and one look-up per cell."""

import functools

import jax.numpy as jnp
import numpy as np

from jaxrl.envs.grid import cells
from jaxrl.envs.grid.engine import GridState
from jaxrl.envs.grid.layout import coordinates
from jaxrl.envs.grid.view import SIZE, agent_cells, step_of, visible_cells
from jaxrl.types import Array

TILE = 8  # pixels a side
FINE = 4  # samples a side of each pixel
RGB = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (112, 39, 195), (255, 255, 0), (100, 100, 100)], np.float32)
LIGHT = 0.3  # of white over what the agent sees


def render(state: GridState, visible: bool = True, see_through: bool = False) -> Array:
    """uint8 ``[8 H, 8 W, 3]``; ``visible`` lightens what the first-person view shows. Pure JAX, one world."""
    tiles, arrows = (jnp.asarray(table) for table in tables())
    height, width = state.grid.shape
    picture = tiles[state.grid & 511]  # [H, W, TILE, TILE, 3]
    x, y = coordinates(width, height)
    here = ((x == state.x) & (y == state.y))[..., None, None, None]
    arrow = arrows[state.direction][..., None]
    picture = jnp.where(here, picture * (1 - arrow) + arrow * RGB[cells.RED], picture)
    if visible:
        lit = _lit(state, see_through)[..., None, None, None]
        picture = jnp.where(lit, picture + LIGHT * (255 - picture), picture)
    picture = jnp.round(picture).astype(jnp.uint8)
    return picture.transpose(0, 2, 1, 3, 4).reshape(height * TILE, width * TILE, 3)


def _lit(state: GridState, see_through: bool) -> Array:
    """Bool ``[H, W]``: the cells that the agent sees."""
    height, width = state.grid.shape
    x, y = coordinates(width, height)
    dx, dy = step_of(state.direction)
    ahead = dx * (x - state.x) + dy * (y - state.y)
    aside = dx * (y - state.y) - dy * (x - state.x)
    column, row = aside + SIZE // 2, SIZE - 1 - ahead
    inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
    if see_through:
        return inside
    seen = visible_cells(agent_cells(state.grid, state.x, state.y, state.direction))
    return inside & seen[jnp.clip(column, 0, SIZE - 1), jnp.clip(row, 0, SIZE - 1)]


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """(float32 ``[512, 8, 8, 3]``, a tile for a cell's low nine bits; ``[4, 8, 8]``, how much the agent covers)."""
    tiles = np.zeros((512, TILE, TILE, 3), np.float32)
    for kind in range(cells.EMPTY, cells.AGENT):
        for colour, rgb in enumerate(RGB):
            for state in (cells.OPEN, cells.CLOSED, cells.LOCKED):
                tiles[cells.cell(kind, colour, state)] = _tile(kind, rgb, state)
    u, v = _grid()
    arrow = (u > 0.12) & (np.abs(v - 0.5) < 0.31 * (0.87 - u) / 0.75)
    return tiles, np.stack([np.rot90(_smooth(arrow), -turns) for turns in range(4)]).astype(np.float32)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Places of the samples in a tile, from 0 to 1, x and y."""
    at = (np.arange(TILE * FINE) + 0.5) / (TILE * FINE)
    return np.meshgrid(at, at)


def _smooth(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(TILE, FINE, TILE, FINE, *samples.shape[2:]).mean((1, 3))


def _tile(kind: int, rgb: np.ndarray, state: int) -> np.ndarray:
    u, v = _grid()
    fine = np.zeros((*u.shape, 3), np.float32)
    fine[(u < 1 / TILE / 2) | (v < 1 / TILE / 2)] = 60  # the grid's lines
    inset = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))  # distance from the tile's edge
    radius = np.hypot(u - 0.5, v - 0.5)
    if kind in (cells.WALL, cells.GOAL):
        fine[:] = rgb
    elif kind == cells.FLOOR:
        fine[:] = rgb / 2
    elif kind == cells.LAVA:
        fine[:] = (255, 128, 0)
        wave = 0.08 * np.abs((4 * u) % 2 - 1)
        for level in (0.25, 0.5, 0.75):
            fine[np.abs(v + wave - level) < 0.05] = 0
    elif kind == cells.BALL:
        fine[radius < 0.33] = rgb
    elif kind == cells.BOX:
        fine[(inset > 0.1) & (inset < 0.22)] = rgb
        fine[(inset > 0.1) & (np.abs(v - 0.5) < 0.06)] = rgb
    elif kind == cells.KEY:
        ring = np.hypot(u - 0.55, v - 0.28)
        fine[(ring < 0.2) & (ring > 0.08)] = rgb
        fine[(np.abs(u - 0.55) < 0.07) & (v > 0.4) & (v < 0.9)] = rgb
        fine[(u > 0.32) & (u < 0.55) & ((np.abs(v - 0.65) < 0.05) | (np.abs(v - 0.85) < 0.05))] = rgb
    elif kind == cells.DOOR and state == cells.OPEN:
        fine[u > 0.85] = rgb
    elif kind == cells.DOOR:
        fine[:] = rgb * (0.45 if state == cells.LOCKED else 0)
        fine[(inset < 0.1)] = rgb
        if state == cells.LOCKED:
            fine[(u > 0.5) & (u < 0.75) & (np.abs(v - 0.5) < 0.06)] = rgb
        else:
            fine[np.hypot(u - 0.72, v - 0.5) < 0.1] = rgb
    return _smooth(fine)
