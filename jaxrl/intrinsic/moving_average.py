"""Bonuses scaled by exponential moving averages, batch by batch: normalisers that forget."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.types import Array, IntrinsicReward, PyTree


class MovingAverage(NamedTuple):
    batches: Array  # () float32  how many were averaged
    mean: Array  # () float32
    variance: Array  # () float32  about the mean as it was after each batch


def no_average() -> MovingAverage:
    return MovingAverage(*jnp.zeros(3))


def averaged(average: MovingAverage, values: Array, momentum) -> MovingAverage:
    """`average` with one more batch of `values`, any shape: the batches' weights fall by `momentum` and sum to one.

    That is the usual average corrected for its start, as Adam's are, without storing the uncorrected one.
    """
    batches = average.batches + 1.0
    rate = (1.0 - momentum) / (1.0 - momentum**batches)
    mean = average.mean + rate * (values.mean() - average.mean)
    variance = average.variance + rate * (((values - mean) ** 2).mean() - average.variance)
    return MovingAverage(batches, mean, variance)


def deviation(average: MovingAverage) -> Array:
    """Standard deviation ``()``, never below 1e-4."""
    return jnp.sqrt(average.variance + 1e-8)


class PrioritizeState(NamedTuple):
    raw: MovingAverage  # of the bonus
    scaled: MovingAverage  # of the bonus over its deviation
    inner: PyTree


def prioritize(reward: IntrinsicReward, momentum, *, threshold: bool) -> IntrinsicReward:
    """The reward prioritisation of BYOL-Explore (Guo et al. 2022, arXiv:2206.08332, section on intrinsic rewards).

        bonus = max(b / sigma - mu, 0)       without `threshold`, b / sigma

    sigma is the deviation of b, mu the mean of b / sigma, both moving averages that include the batch being labelled.
    """

    def init(key, example):
        inner, memory = reward.init(key, example)
        return PrioritizeState(no_average(), no_average(), inner), memory

    def label(state, memory, batch):
        memory, raw, trace = reward.label(state.inner, memory, batch)
        average = averaged(state.raw, raw, momentum)
        bonus = raw / deviation(average)
        scaled = averaged(state.scaled, bonus, momentum)
        measured = {"bonus_raw_mean": raw.mean(), "bonus_raw_max": raw.max(), "bonus_std": deviation(average)}
        bonus = jnp.maximum(bonus - scaled.mean, 0.0) if threshold else bonus
        return memory, bonus, (average, scaled, measured, trace)

    def update(key, state, memory, batch, trace):
        average, scaled, measured, trace = trace
        inner, metrics = reward.update(key, state.inner, memory, batch, trace)
        return PrioritizeState(average, scaled, inner), {**measured, **metrics}

    return IntrinsicReward(init, label, update)
