"""Visit counts: MBIE-EB's bonus on hashed states (Strehl and Littman 2008; Tang et al. 2017, arXiv:1611.04717).

    b = 1 / sqrt(N(x) + 1)      x = s', or (s, a) with with_action=True

N counts the visits committed before the batch, by all environments of the lane together; the + 1 is the visit being
paid, so a first visit earns 1. Departures: a batch of T x N transitions is judged by the counts before it, so repeats
within one batch earn the same; states are told apart by a hash (see `hashing`), floats rounded to 1e-3.

Kind: lifelong.
Memory: none.
Knows: the visits committed before the batch.
"""

import jax
import jax.numpy as jnp

from jaxrl import counters
from jaxrl.intrinsic.hashing import bucket
from jaxrl.types import IntrinsicReward


def count(*, with_action=False, buckets=2**16) -> IntrinsicReward:
    """Lifelong count bonus ``[T, N]`` float32 in (0, 1]. State: visits ``[buckets]`` uint32. No memory.

    `with_action` counts (obs, action) instead of next_obs. `buckets` is a power of two.
    """

    def key_of(step):  # one transition
        if not with_action:
            return bucket(step.next_obs, buckets)
        return bucket(jnp.stack([bucket(step.obs, 2**30), bucket(step.action, 2**30)]), buckets)

    def init(key, example):
        return jnp.zeros(buckets, jnp.uint32), ()

    def label(visits, memory, batch):
        index = jax.vmap(jax.vmap(key_of))(batch)
        return (), 1.0 / jnp.sqrt(visits[index].astype(jnp.float32) + 1.0), index

    def update(key, visits, memory, batch, index):
        visits = counters.tallied(visits, index)
        return visits, {"count/states": (visits > 0).sum().astype(jnp.float32)}

    return IntrinsicReward(init, label, update)
