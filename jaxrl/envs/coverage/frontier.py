"""Scripted policies for MarsExplorer; they know what the robot has seen and nothing else.

A frontier cell is free, seen, and next to one (of eight) that has not been seen. Only free cells are moved to, so none
of these ever crashes.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.coverage.mars_explorer import MOVES, MarsExplorerState
from jaxrl.envs.coverage.terrain import spread
from jaxrl.types import Array, Key

_FAR = 1 << 20  # more than any way is long


def frontier(state: MarsExplorerState, params: Any = None) -> Array:
    """The action, ``[]`` int32, that begins a shortest way over seen free cells to a frontier."""
    known = state.seen & ~state.obstacles

    def widen(search):
        distance, _ = search
        padded = jnp.pad(distance, 1, constant_values=_FAR)
        nearest = jnp.minimum(jnp.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]), padded[1:-1, :-2])
        nearest = jnp.minimum(nearest, padded[1:-1, 2:])
        closer = jnp.where(known, jnp.minimum(distance, nearest + 1), _FAR)
        return closer, (closer != distance).any()

    def goes_on(search):
        distance, changed = search
        return changed & (distance[state.x, state.y] >= _FAR)

    search = jnp.where(_frontier_cells(state), 0, _FAR), jnp.bool_(True)
    distance = jax.lax.while_loop(goes_on, widen, search)[0]
    ways, free = _next_cells(state)
    return jnp.argmin(jnp.where(free, distance.at[ways[:, 0], ways[:, 1]].get(mode="clip"), 2 * _FAR))


def frontier_cost(state: MarsExplorerState, params: Any = None) -> Array:
    """The action whose next cell is nearest to any frontier, as the crow flies."""
    ways, free = _next_cells(state)
    nearest = jnp.where(_frontier_cells(state), _squared_distances(state, ways), jnp.inf).min((1, 2))
    return jnp.argmin(jnp.where(free, jnp.minimum(nearest, _FAR), jnp.inf))


def safe_random(key: Key, state: MarsExplorerState, params: Any = None) -> Array:
    """A uniformly random action among those that do not crash."""
    _, free = _next_cells(state)
    return jax.random.categorical(key, jnp.where(free | ~free.any(), 0.0, -jnp.inf))


def _frontier_cells(state: MarsExplorerState) -> Array:
    return state.seen & ~state.obstacles & spread(~state.seen, diagonally=True)


def _next_cells(state: MarsExplorerState) -> tuple[Array, Array]:
    """The cells that the four actions lead to, int32 ``[4, 2]``, and whether they are free."""
    ways = jnp.stack([state.x, state.y]) + jnp.asarray(MOVES)
    inside = ((ways >= 0) & (ways < len(state.seen))).all(-1)
    # The lidar always shows the robot's neighbours, so this is no secret.
    return ways, inside & ~state.obstacles.at[ways[:, 0], ways[:, 1]].get(mode="clip")


def _squared_distances(state: MarsExplorerState, ways: Array) -> Array:
    """float32 ``[4, H, W]`` from each next cell to each cell."""
    x, y = (jnp.arange(len(state.seen)) - ways[:, axis, None] for axis in (0, 1))
    return (x[:, :, None] ** 2 + y[:, None, :] ** 2).astype(jnp.float32)
