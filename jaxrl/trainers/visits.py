"""Exact visit counts of a task's named states: the ground truth that bonuses are compared with."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl import counters
from jaxrl.types import Array

NEVER = float("inf")


class Visits(NamedTuple):
    """What N environments of a lane have visited together; empty when the task names no states."""

    counts: Array  # [num_states] uint32  how often each state was acted in, to the largest
    first: Array  # [num_states] float32  environment step of the first time, NEVER before
    steps: counters.Count  # environment steps so far


def no_visits(num_states: int) -> Visits:
    return Visits(jnp.zeros(num_states, jnp.uint32), jnp.full(num_states, NEVER), counters.none())


def visit(visits: Visits, states: Array) -> Visits:
    """Add the states acted in, ids ``[T, N]`` int32; steps are numbered on from those counted before, time first."""
    states = states.reshape(-1)
    step = counters.number(visits.steps) + jnp.arange(states.shape[0], dtype=jnp.float32)
    counts, first = counters.tallied(visits.counts, states), visits.first.at[states].min(step)
    return Visits(counts, first, counters.plus(visits.steps, states.shape[0]))


def exploration(visits: Visits) -> dict[str, Array]:
    """The metrics `coverage` and `first_visit` of `jaxrl.metrics`, () float32."""
    seen = visits.counts > 0
    steps = jnp.minimum(visits.first, counters.number(visits.steps))
    return {"coverage": seen.mean(dtype=jnp.float32), "first_visit": steps.mean()}


def correlation_with_counts(bonus: Array, visits: Visits, arrived: Array, valid: Array) -> Array:
    """Pearson correlation () of `bonus` with 1 / sqrt(n + 1), n the exact count of the state arrived at.

    Args:
        bonus: ``[T, N]`` float32. arrived: ids ``[T, N]`` int32. valid: ``[T, N]`` bool, the transitions compared.
        visits: before the batch.

    NaN where either does not vary.
    """
    weight = valid / jnp.maximum(valid.sum(), 1)
    mean = lambda x: (weight * x).sum()
    truth = 1.0 / jnp.sqrt(visits.counts[arrived].astype(jnp.float32) + 1.0)
    x, y = bonus - mean(bonus), truth - mean(truth)
    # What is constant varies by its rounding still.
    varies = (mean(x**2) > 1e-10 * mean(bonus**2)) & (mean(y**2) > 1e-10 * mean(truth**2))
    return jnp.where(varies, mean(x * y) / jnp.sqrt(mean(x**2) * mean(y**2)), jnp.nan)
