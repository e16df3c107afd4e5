"""A ring of the latest visits, for bonuses that learn again from what they have seen.

Observations are kept raw, in the environment's dtype, and whitened when they are used, by the moments of that moment:
two visits to one state are the same input to a network, whenever they were made.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UserError
from jaxrl.intrinsic.normalize import NormalizeObsState
from jaxrl.moments import empty_moments, merge, whitened
from jaxrl.types import Array, Key, PyTree


class Replay(NamedTuple):
    visits: PyTree  # [capacity, ...]
    end: Array  # () int32  the row that the next visit takes
    stored: Array  # () int32  how many rows are visits; they are the first ones


def empty_replay(visit: PyTree, capacity: int) -> Replay:
    """A ring of `capacity` visits, each with leaves of the shapes and dtypes of `visit`."""
    rows = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), visit)
    return Replay(rows, jnp.int32(0), jnp.int32(0))


def store(replay: Replay, visits: PyTree) -> Replay:
    """Put `visits` ``[B, ...]`` in the place of the oldest; UserError if the ring is too small for one batch."""
    capacity, rows = (len(jax.tree.leaves(tree)[0]) for tree in (replay.visits, visits))
    if rows > capacity:
        raise UserError(f"capacity={capacity} must be at least num_steps * num_envs = {rows}")
    index = (replay.end + jnp.arange(rows)) % capacity
    kept = jax.tree.map(lambda old, new: old.at[index].set(new), replay.visits, visits)
    return Replay(kept, (replay.end + rows) % capacity, jnp.minimum(replay.stored + rows, capacity))


def equal_weights(replay: Replay) -> Array:
    """1 for every visit, 0 for the rows that hold none yet: ``[capacity]`` float32."""
    return (jnp.arange(len(jax.tree.leaves(replay.visits)[0])) < replay.stored).astype(jnp.float32)


def draw(key: Key, weights: Array, shape: tuple[int, ...]) -> Array:
    """Rows in proportion to `weights` ``[capacity]``, independently: int32 of `shape`."""
    total = jnp.cumsum(weights)
    at = jax.random.uniform(key, shape) * total[-1]
    return jnp.searchsorted(total, at, side="right").astype(jnp.int32)


def no_moments(obs: Array) -> NormalizeObsState:
    """Moments of no observation ``[N, *O]`` yet, in the form that random-policy rollouts can initialise."""
    return NormalizeObsState(empty_moments(obs.shape[1:]), ())


def add_moments(seen, obs: Array):
    """`seen` with observations ``[..., *O]``; `()`, of a bonus that does not whiten, stays as it is."""
    return NormalizeObsState(merge(seen.moments, obs), ()) if isinstance(seen, NormalizeObsState) else seen


def as_seen(seen, obs: Array, clip) -> Array:
    """`obs` whitened by `seen`, or as it is where `seen` is `()`."""
    return whitened(seen.moments, obs, clip) if isinstance(seen, NormalizeObsState) else obs
