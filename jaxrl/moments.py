"""Running mean and variance, merged batch by batch (Chan, Golub and LeVeque 1979), in float32."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.types import Array


class Moments(NamedTuple):
    rows: Array  # () float32  how many were seen; a batch of 2**13 rows is still counted exactly past 10**10 rows
    mean: Array  # [*shape] float32
    m2: Array  # [*shape] float32  sum of squared deviations from the mean


def empty_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Moments of no data: mean 0, and `variance` 1 so that dividing by the deviation changes nothing."""
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def merge(moments: Moments, rows: Array) -> Moments:
    """Add `rows` ``[..., *shape]``, any number of leading axes, to moments of ``[*shape]``."""
    rows = rows.astype(jnp.float32).reshape(-1, *moments.mean.shape)
    mean = rows.mean(0)
    count = moments.rows + rows.shape[0]
    delta = mean - moments.mean
    share = rows.shape[0] / count
    m2 = moments.m2 + ((rows - mean) ** 2).sum(0) + delta**2 * moments.rows * share
    return Moments(count, moments.mean + delta * share, m2)


def variance(moments: Moments) -> Array:
    """Population variance ``[*shape]``; 1 while there is no data."""
    return jnp.where(moments.rows > 0, moments.m2 / jnp.maximum(moments.rows, 1.0), 1.0)


def deviation(moments: Moments, epsilon: float = 1e-8) -> Array:
    """Standard deviation ``[*shape]``, never below sqrt(epsilon) (ours: keeps constant coordinates finite)."""
    return jnp.sqrt(variance(moments) + epsilon)


def whitened(moments: Moments, rows: Array, clip) -> Array:
    """clip((rows - mean) / deviation, -clip, clip), float32 ``[..., *shape]``."""
    return jnp.clip((rows.astype(jnp.float32) - moments.mean) / deviation(moments), -clip, clip)
