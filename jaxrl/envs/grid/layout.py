"""Pieces that generators are made of: walls, masks of cells, and a uniform choice among them, without loops."""

import jax
import jax.numpy as jnp

from jaxrl.envs.grid.cells import EMPTY, GREY_WALL
from jaxrl.envs.grid.engine import GridState
from jaxrl.types import Array, Key


def walled(width: int, height: int) -> Array:
    """An empty world with walls around it, uint16 ``[H, W]``."""
    x, y = coordinates(width, height)
    border = (x == 0) | (x == width - 1) | (y == 0) | (y == height - 1)
    return jnp.where(border, jnp.uint16(GREY_WALL), jnp.uint16(EMPTY))


def coordinates(width: int, height: int) -> tuple[Array, Array]:
    """x ``[1, W]`` and y ``[H, 1]``: comparisons of them make masks ``[H, W]``."""
    return jnp.arange(width)[None, :], jnp.arange(height)[:, None]


def put(grid: Array, x: Array, y: Array, cell: Array | int) -> Array:
    """The grid with ``cell`` at (x, y); a comparison is faster than a scatter under vmap."""
    return jnp.where(at(grid, x, y), jnp.asarray(cell).astype(jnp.uint16), grid)


def at(grid: Array, x: Array, y: Array) -> Array:
    """Bool ``[H, W]``, true at (x, y) alone."""
    there_x, there_y = coordinates(grid.shape[1], grid.shape[0])
    return (there_x == x) & (there_y == y)


def draws(key: Key, count: int) -> Array:
    """All the randomness of a world, float32 ``[count]`` in [0, 1): one call, which compiles and runs in a fraction of
    the time of many."""
    return jax.random.uniform(key, (count,))


def below(draw: Array, bound: Array | int) -> Array:
    """A draw from [0, 1) as an int32, uniform on 0 .. bound - 1."""
    return jnp.floor(draw * bound).astype(jnp.int32)


def between(draw: Array, low: Array | int, high: Array | int) -> Array:
    """A draw from [0, 1) as an int32, uniform on low .. high - 1."""
    return low + below(draw, high - low)


def choose(draw: Array, mask: Array) -> Array:
    """The index, int32, of a True entry of the flattened ``mask``, uniformly; 0 where there is none."""
    rows = mask.reshape(-1, mask.shape[-1])
    count = jnp.cumsum(rows.sum(1, dtype=jnp.int32))
    rank = below(draw, count[-1])
    row = jnp.sum(count <= rank)
    row = jnp.minimum(row, rows.shape[0] - 1)
    rank_in_row = rank - jnp.where(row > 0, count[row - 1], 0)
    column = jnp.sum(jnp.cumsum(rows[row].astype(jnp.int32)) <= rank_in_row)
    return row * rows.shape[1] + jnp.minimum(column, rows.shape[1] - 1)


def choose_cell(draw: Array, mask: Array) -> tuple[Array, Array]:
    """(x, y) of a True cell of ``mask`` ``[H, W]``, uniformly."""
    index = choose(draw, mask)
    return index % mask.shape[1], index // mask.shape[1]


def context_key(key: Key, contexts: Array | int) -> tuple[Key, Array]:
    """(the key that makes the world, the context's number): one of ``contexts`` worlds, or for 0 a new one and -1."""
    context_key, world_key = jax.random.split(key)
    bounded = jnp.asarray(contexts) > 0
    context = jax.random.randint(context_key, (), 0, jnp.maximum(contexts, 1))
    # Not the caller's key: a context must be the same world in every run.
    generator = jax.random.key_impl(key)
    fixed = jax.random.fold_in(jax.random.key(0, impl=generator), context)
    data = jnp.where(bounded, jax.random.key_data(fixed), jax.random.key_data(world_key))
    return jax.random.wrap_key_data(data, impl=generator), jnp.where(bounded, context, -1)


def start(grid: Array, x: Array, y: Array, direction: Array | int, mission: Array | int = 0) -> GridState:
    """A world in which nothing has happened yet."""
    as_int = lambda value: jnp.asarray(value, jnp.int32)
    return GridState(
        grid, as_int(x), as_int(y), as_int(direction), jnp.uint16(EMPTY), jnp.int32(0), as_int(mission)
    )
