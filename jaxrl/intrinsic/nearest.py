"""Distances to the k nearest of many points, or of what an episode has seen; right for near-duplicates too.

A squared distance is the sum of squared differences, which XLA fuses with no array of the differences. |x|^2 + |y|^2 -
2 x.y would be a matrix product, two to three times as fast on a CPU, but between near points far from the origin it is
the small difference of large numbers: at norm 400 float32 keeps nothing of a distance below 0.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Episodic

BLOCK = 64  # ours: points whose distances to all others are held at once


def nearest(x: Array, points: Array, k: int) -> Array:
    """Squared distances ``[k]``, ascending, from ``x[D]`` to the k nearest of ``points[M, D]``; k at most M."""
    return _smallest(_squared_distances(x, points), k)


def nearest_of_all(queries: Array, points: Array, k: int) -> Array:
    """`nearest` for each of ``queries[B, D]``: ``[B, k]``. One among the points is its own nearest, at exactly 0."""
    return jax.lax.map(lambda x: nearest(x, points, k), queries, batch_size=BLOCK)


class RingMemory(NamedTuple):
    rows: Array  # [capacity, D] float32  the latest embeddings; valid below `size`, so that a reset writes no row
    size: Array  # () int32  how many entered in this episode, without the opening one; see `entered`
    opening: Array  # [D] float32  of the opening observation; never overwritten, so that no memory is empty


def nearest_of_episode(k: int, capacity: int) -> Episodic:
    """The rule whose "bonus" are the squared distances ``[k]`` from an embedding to its k nearest of this episode.

    Ascending; inf where the episode is shorter. The opening embedding and the `capacity` - 1 before this one are kept.
    """

    def init(x0):
        return RingMemory(jnp.zeros((capacity, *x0.shape)), jnp.int32(0), x0)

    def reset(memory, x0):
        return memory._replace(size=jnp.int32(0), opening=x0)

    def step(memory, x):
        # Written before it is read: the other way round XLA copies the whole buffer at every step, at three times the
        # cost. No row is its own neighbour, so that its slot stands for the opening one.
        place, slots = memory.size % capacity, jnp.arange(capacity)
        rows = memory.rows.at[place].set(x)
        squared = jnp.where(slots < memory.size, _squared_distances(x, rows), jnp.inf)
        squared = jnp.where(slots == place, ((x - memory.opening) ** 2).sum(), squared)
        return RingMemory(rows, entered(memory.size, capacity), memory.opening), _smallest(squared, k)

    return Episodic(init, step, reset)


def entered(size: Array, capacity: int) -> Array:
    """The size of a ring with one more row, less a whole round where it would be two: an episode has no longest."""
    return jnp.where(size + 1 < 2 * capacity, size + 1, capacity)


def _squared_distances(x: Array, points: Array) -> Array:
    return ((points - x) ** 2).sum(-1)


def _smallest(values: Array, k: int) -> Array:
    return -jax.lax.top_k(-values, k)[0]
