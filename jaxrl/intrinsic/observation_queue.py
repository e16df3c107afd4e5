"""A queue of observations that a bonus learns from: first in, first out, at a fixed size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key


class Queue(NamedTuple):
    rows: Array  # [capacity, *O]  observations, in their own dtype
    slot: Array  # () int32  the next one to write
    filled: Array  # () int32


def empty_queue(capacity: int, obs: Array) -> Queue:
    """For observations like those of `obs` ``[B, *O]``."""
    return Queue(jnp.zeros((capacity, *obs.shape[1:]), obs.dtype), jnp.int32(0), jnp.int32(0))


def push(queue: Queue, obs: Array, enters: Array) -> Queue:
    """The rows of `obs` ``[B, *O]``, in order, where `enters` ``[B]`` bool."""
    capacity, rank, total = len(queue.rows), jnp.cumsum(enters) - 1, enters.sum()
    # Of more rows than fit the last ones stay. Whatever is not written goes past the end and is dropped.
    slot = jnp.where(enters & (rank >= total - capacity), (queue.slot + rank) % capacity, capacity)
    rows = queue.rows.at[slot].set(obs, mode="drop")
    return Queue(rows, (queue.slot + total) % capacity, jnp.minimum(queue.filled + total, capacity))


def unlike(key: Key, queue: Queue, obs: Array) -> tuple[Array, Array]:
    """For each row of `obs` ``[B, *O]`` the first of two random members that differs from it, and whether one does.

    `queue` holds at least one.
    """
    picks = queue.rows[jax.random.randint(key, (2, len(obs)), 0, queue.filled)]
    differs = (picks != obs).reshape(2, len(obs), -1).any(-1)
    return jnp.where(differs[0].reshape(-1, *(1,) * (obs.ndim - 1)), picks[0], picks[1]), differs.any(0)
