"""Maps of MarsExplorer: blocks of obstacles, and what of them can be reached and seen."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key

MARGIN = 1  # anchors keep off the edge


def generate(key: Key, size: int, capacity: int, params: Any) -> tuple[Array, Array]:
    """(obstacles, attainable), both bool ``[size, size]``, for a robot that starts in [0, 0].

    ``attainable`` are the cells that a robot sees that goes everywhere it can: those it reaches and their neighbours.
    The start and its two neighbours are free. Where the start is walled in, with less than half of the free cells on
    its side, the wall around it is taken away, as often as it needs.
    """
    obstacles = blocks(key, size, capacity, params).at[0, 0].set(False).at[0, 1].set(False).at[1, 0].set(False)

    def walled_in(world):
        free, region = world
        return 2 * region.sum() < free.sum()

    def open_wall(world):
        free, region = world
        free = free | spread(region)
        return free, reachable(free)

    free = ~obstacles
    free, region = jax.lax.while_loop(walled_in, open_wall, (free, reachable(free)))
    return ~free, spread(region, diagonally=True)


def blocks(key: Key, size: int, capacity: int, params: Any) -> Array:
    """The obstacles as they are drawn, bool ``[size, size]``; ``capacity`` is the most blocks there is room for."""
    anchor_key, noise_key, extent_key = jax.random.split(key, 3)
    # A whole number may be written as a float.
    rows, columns, low, high = (
        jnp.asarray(number, jnp.int32) for number in (params.rows, params.columns, params.min_size, params.max_size)
    )
    index = jnp.arange(capacity)
    scattered = jax.random.randint(anchor_key, (capacity, 2), MARGIN, size - 1 - MARGIN)

    line = jnp.maximum(columns, 1)
    gaps = jnp.maximum(jnp.stack([rows, columns]) - 1, 1)
    lattice = MARGIN + jnp.stack([index // line, index % line], -1) * (size - 1 - 2 * MARGIN) // gaps
    spread_out = jnp.floor(jax.random.uniform(noise_key, (capacity, 2), minval=-1.0) * params.noise).astype(jnp.int32)

    in_rows = rows > 0
    anchor = jnp.where(in_rows, jnp.clip(lattice + spread_out, 0, size - 1), scattered)
    number = jnp.where(in_rows, rows * columns, params.obstacles)
    extent = jax.random.randint(extent_key, (capacity, 2), low, high + 1)
    covers = lambda axis: (
        (jnp.arange(size) >= anchor[:, axis, None]) & (jnp.arange(size) < (anchor + extent)[:, axis, None])
    )
    drawn = covers(0)[:, :, None] & covers(1)[:, None, :] & (index < number)[:, None, None]
    return drawn.any(0)


def reachable(free: Array) -> Array:
    """The free cells to which moves along the axes lead from [0, 0], bool like ``free``."""

    def flood(world):
        region, _ = world
        wider = spread(region) & free
        return wider, (wider != region).any()

    start = jnp.zeros_like(free).at[0, 0].set(True)
    return jax.lax.while_loop(lambda world: world[1], flood, (start, jnp.bool_(True)))[0]


def spread(cells: Array, diagonally: bool = False) -> Array:
    """The cells and their neighbours, four or eight."""
    padded = jnp.pad(cells, 1)
    up_down = padded[:-2] | padded[1:-1] | padded[2:]
    across = up_down if diagonally else padded[1:-1]
    return up_down[:, 1:-1] | across[:, :-2] | across[:, 2:]
