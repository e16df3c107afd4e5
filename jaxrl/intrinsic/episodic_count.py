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

import jax
import jax.numpy as jnp

from jaxrl.intrinsic.base import openings
from jaxrl.intrinsic.features import frozen
from jaxrl.intrinsic.hashing import bucket
from jaxrl.networks import over
from jaxrl.types import Array, IntrinsicReward

MOST = jnp.iinfo(jnp.int32).max
BLOCK = 64  # ours: steps of which all pairs are compared at once


class EpisodicCountMemory(NamedTuple):
    visits: Array  # [buckets] int32, to about the largest  valid only where `stamp` is this episode
    stamp: Array  # [buckets] int32  episode in which the bucket was last visited
    episode: Array  # () int32
    opening: Array  # () int32  bucket of the opening state; kept apart so that a reset writes no table


def visits(memory: EpisodicCountMemory, first: Array, x0: Array, x: Array) -> tuple[EpisodicCountMemory, Array]:
    """Of one environment: memory after B steps, and int32 ``[B]``, which visit of its episode each arrival is.

    x and x0 are the buckets of the arrivals and of what opened their episodes. To the last integer of the tables this
    is what one step after the other leaves, in two gathers and two scatters instead of B.
    """
    time, number = jnp.arange(len(x)), jnp.cumsum(first)
    episode, opening = memory.episode + number, jnp.where(number > 0, x0, memory.opening)
    same = x == x[:, None]  # [B, B]
    earlier = same & (number == number[:, None]) & (time < time[:, None])
    before = jnp.minimum(memory.visits[x], MOST - 2 * len(x))
    n = jnp.where(memory.stamp[x] == episode, before, 0) + earlier.sum(1) + 1
    # A bucket is written once, by the last step that visits it; the others write beyond the table, which drops it.
    written = jnp.where((same & (time > time[:, None])).any(1), memory.visits.shape[0], x)
    table = memory.visits.at[written].set(n, mode="drop")
    stamp = memory.stamp.at[written].set(episode, mode="drop")
    return EpisodicCountMemory(table, stamp, episode[-1], opening[-1]), n + (x == opening)


visits_of_all = jax.vmap(visits, (0, 1, 1, 1), (0, 1))


def episodic_count(*, first_visit=False, buckets=2**14) -> IntrinsicReward:
    """Bonus ``[T, N]`` float32 in (0, 1] ({0, 1} with `first_visit`). No state; memory 8 * buckets bytes a row of N.

    `buckets` is a power of two: an episode of n distinct states takes about n^2 / (2 * buckets) of them for others.
    """

    features = frozen(lambda obs: bucket(obs, buckets))

    def init(key, example):
        empty = jnp.zeros((example.first.shape[0], buckets), jnp.int32)
        ones = jnp.ones_like(example.first, jnp.int32)
        return (), EpisodicCountMemory(empty, empty, ones, features.embed((), example.obs))

    def label(state, memory, batch):
        steps, envs = batch.first.shape
        block = min(BLOCK, steps)
        # Steps that fill up the last block open no episode and fall into no bucket.
        fill = lambda x, **mode: jnp.pad(x, ((0, -steps % block), (0, 0)), **mode).reshape(-1, block, envs)
        blocks = (
            fill(batch.first),
            fill(openings(features, (), batch), mode="edge"),
            fill(over(features.embed, 2)((), batch.next_obs), constant_values=buckets),
        )
        memory, n = jax.lax.scan(lambda memory, block: visits_of_all(memory, *block), memory, blocks)
        n = n.reshape(-1, envs)[:steps].astype(jnp.float32)
        return memory, (n == 1.0).astype(jnp.float32) if first_visit else 1.0 / jnp.sqrt(n), ()

    def update(key, state, memory, batch, trace):
        return (), {}

    return IntrinsicReward(init, label, update)
