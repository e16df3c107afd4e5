"""Observations of another form: flattened trees, stacked frames."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.params import Around
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.types import Array, Key, PyTree


def flatten_observation(env) -> Wrapper:
    """Observations become one vector ``[D]``: float32, leaves in the pytree's order; a single array keeps its dtype.

    ``make`` flattens trees by itself; asked for by name it flattens pictures too.
    """
    return FlattenObservation(env, pictures=True)


def frame_stack(
    env,
    *,
    frames=4,  # observations shown at once
) -> Wrapper:
    """The last `frames` observations at once, oldest first; an episode opens with its first observation repeated.

    Concatenated on the last axis for vectors ``[D]`` and pictures ``[H, W, C]``; a number ``[]`` or a picture
    ``[H, W]`` gets a last axis of its own.
    """
    return FrameStack(env, frames)


class FlattenObservation(Wrapper):
    """Flat observations; states and params are the environment's. Without `pictures` a single array stays as it is."""

    remembers = False

    def __init__(self, env: Any, pictures: bool = False):
        super().__init__(env)
        self.pictures = pictures

    def flat(self, obs: PyTree) -> Array:
        return jnp.asarray(obs).reshape(-1) if self.pictures and is_single(obs) else flatten(obs)

    def reset_env(self, key, params):
        obs, state = self.env.reset_env(key, params)
        return self.flat(obs), state

    def step_env(self, key, state, action, params):
        obs, *rest = self.env.step_env(key, state, action, params)
        return self.flat(obs), *rest


class FlattenStep:
    """Flat observations of an environment that has ``reset`` and ``step`` only."""

    def __init__(self, env: Any):
        self.env = env

    def reset(self, key: Key, params: Any = None) -> tuple[Array, PyTree]:
        obs, state = self.env.reset(key, params)
        return flatten(obs), state

    def step(self, key: Key, state: PyTree, action: Array, params: Any = None) -> tuple:
        obs, *rest, info = self.env.step(key, state, action, params)
        return flatten(obs), *rest, {**info, "final_observation": flatten(info["final_observation"])}


class FrameStack(Wrapper):
    """The memory is the stacked observation."""

    def __init__(self, env: Any, frames: int):
        super().__init__(env)
        self.frames = frames

    def reset_env(self, key, params):
        obs, inner = self.env.reset_env(key, params)
        frame = _frame(obs)
        stacked = jnp.concatenate([frame] * self.frames, -1)
        return stacked, Around(stacked, inner)

    def step_env(self, key, state, action, params):
        obs, inner, *rest = self.env.step_env(key, state.inner, action, params)
        frame = _frame(obs)
        stacked = jnp.concatenate([state.own[..., frame.shape[-1] :], frame], -1)
        return stacked, Around(stacked, inner), *rest


def flattened(env: Any) -> FlattenObservation | FlattenStep:
    """The environment with flat observations, whichever part of the contract it was written to."""
    return FlattenObservation(env) if callable(getattr(env, "step_env", None)) else FlattenStep(env)


def is_single(obs: PyTree) -> bool:
    """Is the observation one array, rather than a tree of them?"""
    return jax.tree_util.all_leaves([obs])


def flatten(obs: PyTree) -> Array:
    """One float32 vector ``[D]`` from a pytree; a single array keeps its shape and dtype."""
    if is_single(obs):
        return obs
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(obs)]
    return jnp.concatenate([leaf.reshape(math.prod(leaf.shape)).astype(jnp.float32) for leaf in leaves])


def _frame(obs: PyTree) -> Array:
    obs = jnp.asarray(flatten(obs))
    return obs[..., None] if obs.ndim in (0, 2) else obs
