"""Episodic visit counts, as RIDE (Raileanu and Rocktaschel 2020) and NovelD (Zhang et al. 2021) gate with.

    b = 1 / sqrt(N_e(s'))       or, with first_visit=True, 1 if N_e(s') = 1 else 0

N_e counts visits in this episode by this environment, this one included. Departure from both released codes: the
opening state of an episode is counted, unpaid, before its first step (they reset after counting it and so lose it),
and counts are carried through the whole episode whatever the rollout length.

Kind: episodic.
Memory: 131,080 bytes, two tables of 2^14 buckets.
Knows: the episode so far.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.intrinsic.base import episodic
from jaxrl.intrinsic.features import frozen
from jaxrl.intrinsic.hashing import bucket
from jaxrl.types import Array, Episodic, IntrinsicReward


class EpisodicCountMemory(NamedTuple):
    visits: Array  # [buckets] int32  valid only where `stamp` is this episode
    stamp: Array  # [buckets] int32  episode in which the bucket was last visited
    episode: Array  # () int32
    opening: Array  # () int32  bucket of the opening state; kept apart so that a reset writes no table


def episodic_count(*, first_visit=False, buckets=2**14) -> IntrinsicReward:
    """Bonus ``[T, N]`` float32 in (0, 1] ({0, 1} with `first_visit`). No state; memory 8 * buckets bytes a row of N.

    `buckets` is a power of two: an episode of n distinct states takes about n^2 / (2 * buckets) of them for others.
    """

    def init(x0):
        table = jnp.zeros(buckets, jnp.int32)
        return EpisodicCountMemory(table, table, jnp.int32(1), x0)

    def reset(memory, x0):
        return memory._replace(episode=memory.episode + 1, opening=x0)

    def step(memory, x):
        before = jnp.where(memory.stamp[x] == memory.episode, memory.visits[x], 0)
        visits = memory.visits.at[x].set(before + 1)
        memory = memory._replace(visits=visits, stamp=memory.stamp.at[x].set(memory.episode))
        n = (before + 1 + (x == memory.opening)).astype(jnp.float32)
        return memory, (n == 1.0).astype(jnp.float32) if first_visit else 1.0 / jnp.sqrt(n)

    return episodic(frozen(lambda obs: bucket(obs, buckets)), Episodic(init, step, reset))
