"""Normalisers of what a bonus sees and of what it pays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.moments import Moments, deviation, empty_moments, merge, whitened
from jaxrl.types import Array, IntrinsicReward, PyTree


class NormalizeObsState(NamedTuple):
    moments: Moments  # [*O] of next_obs
    inner: PyTree


def normalize_obs(reward: IntrinsicReward, clip=5.0) -> IntrinsicReward:
    """Whiten what `reward` sees: clip((o - mean) / std, -clip, clip) (Burda et al. 2018, section 2.4).

    The moments are those of the observations before the batch; `update` adds the batch's next_obs. Until any were
    seen, observations pass unchanged apart from the clip.
    """

    def seen(state, batch):
        obs, next_obs = (whitened(state.moments, obs, clip) for obs in (batch.obs, batch.next_obs))
        return batch._replace(obs=obs, next_obs=next_obs)

    def init(key, example):
        moments = empty_moments(example.obs.shape[1:])
        inner, memory = reward.init(key, seen(NormalizeObsState(moments, ()), example))
        return NormalizeObsState(moments, inner), memory

    def label(state, memory, batch):
        return reward.label(state.inner, memory, seen(state, batch))

    def update(key, state, memory, batch, trace):
        inner, metrics = reward.update(key, state.inner, memory, seen(state, batch), trace)
        return NormalizeObsState(merge(state.moments, batch.next_obs), inner), metrics

    return IntrinsicReward(init, label, update)


def is_warmable(state: PyTree) -> bool:
    """Whether `state` holds observation moments, which random-policy rollouts can initialise."""
    return any(_is_obs_state(node) for node in jax.tree.leaves(state, is_leaf=_is_obs_state))


def keep_warmed(initial: PyTree, warmed: PyTree) -> PyTree:
    """`initial` with the observation moments of `warmed`: all that a warm-up may leave behind."""

    def choose(before, after):
        if _is_obs_state(before):
            return NormalizeObsState(after.moments, keep_warmed(before.inner, after.inner))
        return before

    return jax.tree.map(choose, initial, warmed, is_leaf=_is_obs_state)


def _is_obs_state(node) -> bool:
    return isinstance(node, NormalizeObsState)


class ReturnMemory(NamedTuple):
    filtered: Array  # [N] float32  running discounted bonus; by design never reset
    inner: PyTree


class ScaleState(NamedTuple):
    moments: Moments  # scalar
    inner: PyTree


def normalize_return(reward: IntrinsicReward, discount=0.99) -> IntrinsicReward:
    """Divide the bonus by the running standard deviation of its discounted sum (Burda et al. 2018, section 2.4).

        F_t = discount * F_{t-1} + b_t     per environment, forward in time, across rollouts and episode ends
        bonus = b / std(F)

    No mean is subtracted. The moments of F include the batch that is being labelled, as in the released code.
    """

    def init(key, example):
        inner, memory = reward.init(key, example)
        return ScaleState(empty_moments(), inner), ReturnMemory(jnp.zeros(example.reward.shape), memory)

    def label(state, memory, batch):
        inner_memory, bonus, inner_trace = reward.label(state.inner, memory.inner, batch)

        def step(filtered, bonus):
            filtered = discount * filtered + bonus
            return filtered, filtered

        filtered, sums = jax.lax.scan(step, memory.filtered, bonus, unroll=8)  # over T, forward
        moments = merge(state.moments, sums)
        return ReturnMemory(filtered, inner_memory), bonus / deviation(moments), (moments, _raw(bonus), inner_trace)

    def update(key, state, memory, batch, trace):
        moments, raw, inner_trace = trace
        inner, metrics = reward.update(key, state.inner, memory.inner, batch, inner_trace)
        return ScaleState(moments, inner), {**raw, **metrics, "bonus_return_std": deviation(moments)}

    return IntrinsicReward(init, label, update)


def standardize(reward: IntrinsicReward, *, center=True) -> IntrinsicReward:
    """(b - mean) / std by running moments of the bonus, the batch included; `center=False` only divides.

    Centred, it is the life-long factor of NGU (Badia et al. 2020, arXiv:2002.06038, section 2); not centred, the
    running-std normalisation of E3B (Henaff et al. 2022).
    """

    def init(key, example):
        inner, memory = reward.init(key, example)
        return ScaleState(empty_moments(), inner), memory

    def label(state, memory, batch):
        memory, bonus, inner_trace = reward.label(state.inner, memory, batch)
        moments = merge(state.moments, bonus)
        mean = moments.mean if center else 0.0
        return memory, (bonus - mean) / deviation(moments), (moments, _raw(bonus), inner_trace)

    def update(key, state, memory, batch, trace):
        moments, raw, inner_trace = trace
        inner, metrics = reward.update(key, state.inner, memory, batch, inner_trace)
        return ScaleState(moments, inner), {**raw, **metrics, "bonus_std": deviation(moments)}

    return IntrinsicReward(init, label, update)


def _raw(bonus):
    return {"bonus_raw_mean": bonus.mean(), "bonus_raw_max": bonus.max()}
