"""Rewards taken away, thinned out or paid late. What the environment itself paid is ``info["original_reward"]``."""

from typing import Any

import flax.struct
import jax.numpy as jnp

from jaxrl.envs.params import Around
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.types import Array


def reward_free(env) -> Wrapper:
    """Reward 0 on every step. Nothing counts as solved."""
    return RewardFree(env)


def sparse_reward(
    env,
    threshold=0.0,  # what a reward, or an episode's sum, must exceed
    *,
    at_end=False,  # judge and pay the episode's sum, at its end
) -> Wrapper:
    """A step's reward where it exceeds `threshold`, else 0; or, `at_end`, the episode's sum by the same rule.

    The environment's rule of what counts as solved is about other returns, so there is none.
    """
    return SparseReward(env, Threshold(threshold), at_end)


def delayed_reward(
    env,
    period=10,  # steps between payments; 0: at the episode's end only
) -> Wrapper:
    """What has been earned since the last payment is paid every `period` steps of an episode, and at its end.

    Returns of whole episodes, and what counts as solved, stay as they are.
    """
    return DelayedReward(env, Period(int(period)))


@flax.struct.dataclass
class Threshold:
    threshold: Array | float


@flax.struct.dataclass
class Period:
    period: Array | int


class RewardFree(Wrapper):
    remembers = False

    def solved(self, params):
        return None

    def step_env(self, key, state, action, params):
        obs, state, reward, terminated, truncated, info = self.env.step_env(key, state, action, params)
        return obs, state, 0.0, terminated, truncated, _with_original(info, reward)


class SparseReward(Wrapper):
    """The memory is the sum of the episode's rewards."""

    def __init__(self, env: Any, own: Any, at_end: bool):
        super().__init__(env, own)
        self.at_end = at_end

    def solved(self, params):
        return None

    def reset_env(self, key, params):
        obs, inner = self.env.reset_env(key, params.inner)
        return obs, Around(jnp.float32(0), inner)

    def step_env(self, key, state, action, params):
        obs, inner, reward, terminated, truncated, info = self.env.step_env(key, state.inner, action, params.inner)
        total = state.own + reward
        judged, due = (total, terminated | truncated) if self.at_end else (reward, True)
        paid = jnp.where(due & (judged > params.own.threshold), judged, 0.0)
        return obs, Around(total, inner), paid, terminated, truncated, _with_original(info, reward)


class DelayedReward(Wrapper):
    """The memory is (what is owed, float32; steps since the reset, int32)."""

    def reset_env(self, key, params):
        obs, inner = self.env.reset_env(key, params.inner)
        return obs, Around((jnp.float32(0), jnp.int32(0)), inner)

    def step_env(self, key, state, action, params):
        obs, inner, reward, terminated, truncated, info = self.env.step_env(key, state.inner, action, params.inner)
        owed, time = state.own[0] + reward, state.own[1] + 1
        period = params.own.period
        due = terminated | truncated | ((period > 0) & (time % jnp.maximum(period, 1) == 0))
        own = jnp.where(due, 0.0, owed), time
        return obs, Around(own, inner), jnp.where(due, owed, 0.0), terminated, truncated, _with_original(info, reward)


def _with_original(info: dict, reward: Any) -> dict:
    # Beneath another wrapper of rewards the entry is there already, and that one is the environment's.
    return {"original_reward": jnp.float32(reward), **info}
