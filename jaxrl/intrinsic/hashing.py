"""Hash an observation to a bucket, on any backend, with no state: equal observations, equal bucket.

Distinct observations share a bucket with probability 1 / buckets, so of n distinct ones about n^2 / (2 * buckets)
pairs are confused: half a pair among a thousand states in 2^20 buckets.
"""

import jax.numpy as jnp

from jaxrl.errors import UserError
from jaxrl.types import Array

QUANTUM = 1e-3  # ours: floats that round to the same multiple are one state
LARGEST = 2.1e9  # quanta: floats beyond 2.1 million are one state


def bucket(x: Array, buckets: int) -> Array:
    """int32 scalar in [0, buckets) for one array `x` of any shape; `buckets` is a power of two, at most 2^31.

    Each coordinate is mixed with its position by the 32-bit finaliser of MurmurHash3, the results are summed modulo
    2^32 and mixed again. Floats are first rounded to multiples of QUANTUM.

    Raises:
        UserError: `buckets` is not such a power of two.
    """
    if not 1 <= buckets <= 2**31 or buckets & (buckets - 1):
        raise UserError(f"buckets={buckets} must be a power of two, at most 2**31")
    x = x.reshape(-1)
    if jnp.issubdtype(x.dtype, jnp.floating):
        # Clipped, because what a float beyond int32 becomes differs from backend to backend.
        x = jnp.clip(jnp.nan_to_num(jnp.round(x.astype(jnp.float32) / QUANTUM)), -LARGEST, LARGEST)
    position = jnp.arange(1, x.shape[0] + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)  # golden ratio, Knuth 6.4
    total = _mix(_mix(x.astype(jnp.int32).astype(jnp.uint32) + position).sum(dtype=jnp.uint32))
    return (total & jnp.uint32(buckets - 1)).astype(jnp.int32)


def _mix(h: Array) -> Array:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
