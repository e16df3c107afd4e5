"""Running mean and variance, merged batch by batch (Chan, Golub and LeVeque 1979), in float32.

The variance is kept where the paper keeps the sum of squares, which in float32 would stand still while rows are added.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl import counters
from jaxrl.types import Array


class Moments(NamedTuple):
    rows: counters.Count  # how many were seen
    mean: Array  # [*shape] float32
    spread: Array  # [*shape] float32  population variance; 0 while there is no data


def empty_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Moments of no data: mean 0, and `variance` 1 so that dividing by the deviation changes nothing."""
    return Moments(counters.none(), jnp.zeros(shape), jnp.zeros(shape))


def merge(moments: Moments, rows: Array) -> Moments:
    """Add `rows` ``[..., *shape]``, any number of leading axes, to moments of ``[*shape]``."""
    rows = rows.astype(jnp.float32).reshape(-1, *moments.mean.shape)
    mean = rows.mean(0)
    count = counters.plus(moments.rows, rows.shape[0])
    delta = mean - moments.mean
    share = rows.shape[0] / counters.number(count)
    spread = ((rows - mean) ** 2).mean(0) + delta**2 * (1.0 - share)
    return Moments(count, moments.mean + delta * share, moments.spread + (spread - moments.spread) * share)


def variance(moments: Moments) -> Array:
    """Population variance ``[*shape]``; 1 while there is no data."""
    return jnp.where(counters.number(moments.rows) > 0, moments.spread, 1.0)


def deviation(moments: Moments, epsilon: float = 1e-8) -> Array:
    """Standard deviation ``[*shape]``, never below sqrt(epsilon) (ours: keeps constant coordinates finite)."""
    return jnp.sqrt(variance(moments) + epsilon)


def whitened(moments: Moments, rows: Array, clip) -> Array:
    """clip((rows - mean) / deviation, -clip, clip), float32 ``[..., *shape]``."""
    return jnp.clip((rows.astype(jnp.float32) - moments.mean) / deviation(moments), -clip, clip)
