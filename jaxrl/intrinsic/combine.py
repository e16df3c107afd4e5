"""Combinators: bonuses made of bonuses. State, memory and trace are tuples of the children's.

They take built parts, never the parts' arguments. A child's metrics are prefixed with its position.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UserError
from jaxrl.types import Array, IntrinsicReward, PyTree


def together(rewards, reduce) -> IntrinsicReward:
    """All `rewards` side by side; the bonus is `reduce` of the list of theirs, ``[T, N]`` each."""
    if not rewards:
        raise ValueError("add and product need at least one bonus")

    def init(key, example):
        made = [r.init(k, example) for r, k in zip(rewards, jax.random.split(key, len(rewards)), strict=True)]
        return tuple(s for s, _ in made), tuple(m for _, m in made)

    def label(state, memory, batch):
        out = [r.label(s, m, batch) for r, s, m in zip(rewards, state, memory, strict=True)]
        return tuple(m for m, _, _ in out), reduce([b for _, b, _ in out]), tuple(t for _, _, t in out)

    def update(key, state, memory, batch, trace):
        keys = jax.random.split(key, len(rewards))
        out = [r.update(*a, batch, t) for r, *a, t in zip(rewards, keys, state, memory, trace, strict=True)]
        metrics = {f"{i}/{name}": value for i, (_, m) in enumerate(out) for name, value in m.items()}
        return tuple(s for s, _ in out), metrics

    return IntrinsicReward(init, label, update)


def add(*rewards: IntrinsicReward) -> IntrinsicReward:
    """Sum of the children's bonuses."""
    return together(rewards, sum)


def product(*rewards: IntrinsicReward) -> IntrinsicReward:
    """Product of the children's bonuses, e.g. global x episodic (Henaff et al. 2023, arXiv:2306.03236)."""
    return together(rewards, math.prod)


def map_bonus(reward: IntrinsicReward, function) -> IntrinsicReward:
    """Apply an elementwise `function` to the bonus ``[T, N]``."""

    def label(state, memory, batch):
        memory, bonus, trace = reward.label(state, memory, batch)
        return memory, function(bonus), trace

    return reward._replace(label=label)


def scale(reward: IntrinsicReward, factor) -> IntrinsicReward:
    """The bonus times `factor`, a number that may be traced.

    Raises:
        UserError: a factor that is known while building and not finite.
    """
    if isinstance(factor, (int, float)) and not math.isfinite(factor):
        raise UserError(f"factor = {factor}: a bonus can only be scaled by a finite number")
    return map_bonus(reward, lambda bonus: factor * bonus)


def map_obs(reward: IntrinsicReward, function) -> IntrinsicReward:
    """`reward` on what `function` makes of observations, ``[..., *O] -> [..., *P]`` for any leading axes."""

    def seen(batch):
        return batch._replace(obs=function(batch.obs), next_obs=function(batch.next_obs))

    def init(key, example):
        return reward.init(key, seen(example))

    def label(state, memory, batch):
        return reward.label(state, memory, seen(batch))

    def update(key, state, memory, batch, trace):
        return reward.update(key, state, memory, seen(batch), trace)

    return IntrinsicReward(init, label, update)


def difference(reward: IntrinsicReward, alpha=0.5) -> IntrinsicReward:
    """max(b(next_obs) - alpha * b(obs), 0), the frontier bonus of NovelD (Zhang et al. 2021, eq. 3).

    `reward` must read next_obs alone and be scaled outside, `normalize_return(difference(rnd(scale=False)))`: a scale
    of its own would differ between the two passes. Its memory advances by the pass over next_obs.
    """

    def label(state, memory, batch):
        _, before, _ = reward.label(state, memory, batch._replace(next_obs=batch.obs))
        memory, after, trace = reward.label(state, memory, batch)
        return memory, jnp.maximum(after - alpha * before, 0.0), trace

    return reward._replace(label=label)


class AnnealState(NamedTuple):
    updates: Array  # () int32
    inner: PyTree


def anneal(reward: IntrinsicReward, schedule) -> IntrinsicReward:
    """The bonus times `schedule(u)`, u the number of updates so far (int32), e.g. an optax schedule."""

    def init(key, example):
        state, memory = reward.init(key, example)
        return AnnealState(jnp.int32(0), state), memory

    def label(state, memory, batch):
        memory, bonus, trace = reward.label(state.inner, memory, batch)
        return memory, schedule(state.updates) * bonus, trace

    def update(key, state, memory, batch, trace):
        inner, metrics = reward.update(key, state.inner, memory, batch, trace)
        return AnnealState(state.updates + 1, inner), metrics

    return IntrinsicReward(init, label, update)
