"""What the agent sees: MiniGrid's 7x7 first-person view with walls that hide what is behind them, or the whole grid."""

import jax
import jax.numpy as jnp

from jaxrl.envs.grid.cells import AGENT, DOOR, GREY_WALL, OPEN, RED, UNSEEN, WALL, cell, decode, kind_of
from jaxrl.types import Array

SIZE = 7  # cells a side
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up; y grows downwards


def full_view(grid: Array, x: Array, y: Array, direction: Array) -> Array:
    """The whole grid as MiniGrid's FullyObsWrapper encodes it: uint8 ``[W, H, 3]``, x first, hands unseen."""
    height, width = grid.shape
    here = (jnp.arange(height)[:, None] == y) & (jnp.arange(width) == x)
    agent = cell(AGENT, RED, direction).astype(jnp.uint16)
    return decode(jnp.where(here, agent, grid).T)


def agent_view(grid: Array, x: Array, y: Array, direction: Array, carrying: Array, see_through: bool) -> Array:
    """uint8 ``[7, 7, 3]``, column first as in MiniGrid: the agent is at [3, 6], with what it holds, and looks to row 0.

    Cells out of sight are zero. ``grid`` is uint16 ``[H, W]``.
    """
    cells = agent_cells(grid, x, y, direction)
    visible = True if see_through else visible_cells(cells)
    here = jnp.zeros((SIZE, SIZE), bool).at[SIZE // 2, SIZE - 1].set(True)
    return decode(jnp.where(visible, jnp.where(here, carrying, cells), jnp.uint16(UNSEEN)))


def agent_cells(grid: Array, x: Array, y: Array, direction: Array) -> Array:
    """The cells of the view, hidden ones too, uint16 ``[7, 7]``; grey walls outside the grid."""
    ahead = (SIZE - 1 - jnp.arange(SIZE))[None, :]
    aside = (jnp.arange(SIZE) - SIZE // 2)[:, None]
    dx, dy = step_of(direction)
    world_x, world_y = x + dx * ahead - dy * aside, y + dy * ahead + dx * aside
    height, width = grid.shape
    inside = (world_x >= 0) & (world_x < width) & (world_y >= 0) & (world_y < height)
    index = jnp.clip(world_y, 0, height - 1) * width + jnp.clip(world_x, 0, width - 1)
    return jnp.where(inside, grid.reshape(-1).at[index].get(mode="promise_in_bounds"), jnp.uint16(GREY_WALL))


def step_of(direction: Array) -> tuple[Array, Array]:
    """(dx, dy) of one step; directions are right, down, left, up, and y grows downwards."""
    sign = 1 - (direction & 2)
    odd = direction & 1
    return sign * (1 - odd), sign * odd


def visible_cells(cells: Array) -> Array:
    """Bool ``[7, 7]``: what is in sight, by MiniGrid's rule, with each row of the view as the bits of one integer.

    From the agent's row to the farthest, light goes through transparent cells to the right, then to the left; each
    cell it goes through also lights, in the next row, the cell straight ahead and the one on the side it moves to.
    Bits shifted beyond the last column are never clear, so they light nothing.
    """
    kind, state = kind_of(cells), (cells >> 7) & 3
    clear = ~((kind == WALL) | ((kind == DOOR) & (state != OPEN)))
    columns = jnp.arange(SIZE, dtype=jnp.int32)[:, None]
    rows = jnp.sum(jnp.where(clear, 1 << columns, 0), axis=0)
    # Unrolled, XLA's CPU backend would fuse all seven rows into the last operation and repeat them for each cell of 49.
    _, lit = jax.lax.scan(_light_row, jnp.int32(1 << (SIZE // 2)), rows, reverse=True)
    return ((lit >> columns) & 1).astype(bool)


def _light_row(lit: Array, clear: Array) -> tuple[Array, Array]:
    """(bits lit in the next row, bits lit in this one)."""
    through = _flood_right(lit, clear)
    lit, ahead = lit | through << 1, through | through << 1
    through = _flood_left(lit, clear)
    return ahead | through | through >> 1, lit | through >> 1


def _flood_right(lit: Array, clear: Array) -> Array:
    """Clear bits reached from lit ones through clear ones, towards higher bits, in three doublings."""
    lit = lit & clear
    lit = lit | clear & lit << 1
    clear = clear & clear << 1
    lit = lit | clear & lit << 2
    clear = clear & clear << 2
    return lit | clear & lit << 4


def _flood_left(lit: Array, clear: Array) -> Array:
    lit = lit & clear
    lit = lit | clear & lit >> 1
    clear = clear & clear >> 1
    lit = lit | clear & lit >> 2
    clear = clear & clear >> 2
    return lit | clear & lit >> 4
