"""What a bonus pays along a walk, and what the walk looks like to it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from jaxrl.calibrate.walks import Protocol, Walk
from jaxrl.envs.coverage.visual_grid import VisualGrid, VisualGridState
from jaxrl.sweep.lanes import padded
from jaxrl.types import Array, IntrinsicReward, Transition

CHANNELS = 8  # numbers of a television picture, uniform in [0, 1)


def paid(reward: IntrinsicReward, show: Callable, walk: Walk, key) -> Array:
    """What `reward` pays along one seed's walk, ``[rollouts, T, N]``: each rollout is labelled, then learned from.

    `show(cell, arrival)` is the observation of a cell; every arrival has a number of its own.
    """
    rollouts, _, num_envs = walk.cell.shape
    arrivals = jnp.arange(walk.cell.size, dtype=jnp.int32).reshape(walk.cell.shape)

    def batch_of(walk, arrivals):
        see = jax.vmap(jax.vmap(show))
        reward, terminated = jnp.zeros(walk.cell.shape), jnp.zeros(walk.cell.shape, bool)
        obs, next_obs = see(walk.cell, arrivals - num_envs), see(walk.next_cell, arrivals)
        return Transition(obs, walk.action, reward, next_obs, terminated, walk.last, walk.first, ())

    def rollout(carry, inputs):
        (state, memory), (key, *steps) = carry, inputs
        batch = batch_of(*steps)
        after, bonus, trace = reward.label(state, memory, batch)
        state, _ = reward.update(key, state, memory, batch, trace)
        return (state, after), bonus

    opening = jax.tree.map(lambda x: x[0], (walk, arrivals))
    example = jax.tree.map(lambda x: jnp.zeros_like(x[0]), batch_of(*opening))
    k_init, k_updates = jax.random.split(key)
    keys = jax.random.split(k_updates, rollouts)
    return jax.lax.scan(rollout, reward.init(k_init, example), (keys, walk, arrivals))[1]


def one_hots(protocol: Protocol, scale, television, key) -> Callable:
    """Row and column one-hot and a television's picture, float32 ``[2 side + CHANNELS]``, times `scale`.

    The picture is zero but in one cell, where it is new at every arrival, and there too unless `television` is 1.
    """

    def show(cell, arrival):
        row, column = (jnp.arange(protocol.side) == x for x in (cell // protocol.side, cell % protocol.side))
        picture = jax.random.uniform(jax.random.fold_in(key, arrival), (CHANNELS,))
        on = television * (cell == protocol.television)
        return scale * jnp.concatenate([row.astype(jnp.float32), column.astype(jnp.float32), on * picture])

    return show


def pixels(protocol: Protocol) -> Callable:
    """The picture of `VisualGrid`, uint8 ``[2 side, 2 side, 1]``."""
    grid = VisualGrid(protocol.side)
    return lambda cell, arrival: grid.observe(VisualGridState(cell // protocol.side, cell % protocol.side, cell))


def over_lanes(function: Callable, lanes: Any, at_most: int) -> Array:
    """`function` of each lane, ``[R, ...]``: spread over the local devices, up to `at_most` of a device vmapped."""
    count = len(jax.tree.leaves(lanes)[0])
    devices = min(jax.local_device_count(), count)
    of_each = -(-count // devices)
    at_once = max(size for size in range(1, at_most + 1) if of_each % size == 0)  # a rest would be compiled for itself
    mesh = jax.make_mesh((devices,), ("lanes",), axis_types=(AxisType.Auto,))
    spread = jax.shard_map(
        lambda lanes: jax.lax.map(function, lanes, batch_size=at_once),
        mesh=mesh,
        in_specs=PartitionSpec("lanes"),
        out_specs=PartitionSpec("lanes"),
        check_vma=False,
    )
    return jax.jit(spread)(padded(lanes, devices))[:count]
