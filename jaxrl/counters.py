"""Counts that go on where an int32 would turn negative and a float32 stand still.

jax has no 64-bit integers by default. A total that other numbers are divided by is exact, in two words; a table of
visits, each of which is only ever looked at as 1 / sqrt(n), stops at the largest uint32, where that is 1.5e-5.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array

MOST = np.uint32(2**32 - 1)


class Count(NamedTuple):
    """high * 2^32 + low, exact."""

    high: Array  # () uint32
    low: Array  # () uint32


def none() -> Count:
    return Count(jnp.uint32(0), jnp.uint32(0))


def plus(count: Count, more: Array | int) -> Count:
    """`count` and `more`, a whole number below 2^32."""
    low = count.low + jnp.asarray(more, jnp.uint32)
    return Count(count.high + (low < count.low), low)


def number(count: Count) -> Array:
    """The count as float32 ``()``."""
    return count.high.astype(jnp.float32) * 2.0**32 + count.low.astype(jnp.float32)


def tallied(counts: Array, index: Array) -> Array:
    """`counts` ``[S]`` uint32 with one more for each entry of `index`, any shape; none goes beyond `MOST`."""
    after = counts.at[index.reshape(-1)].add(1)
    return jnp.where(after < counts, MOST, after)
