"""Environments around environments."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key, PyTree


class FlattenObservation:
    """Observation pytrees become one float32 vector, leaves in the pytree's order."""

    def __init__(self, env: Any):
        self.env = env

    def reset(self, key: Key, params: Any = None) -> tuple[Array, PyTree]:
        obs, state = self.env.reset(key, params)
        return flatten(obs), state

    def step(self, key: Key, state: PyTree, action: Array, params: Any = None) -> tuple:
        obs, state, reward, terminated, truncated, info = self.env.step(key, state, action, params)
        info = {**info, "final_observation": flatten(info["final_observation"])}
        return flatten(obs), state, reward, terminated, truncated, info


def is_single(obs: PyTree) -> bool:
    """Is the observation one array, rather than a tree of them?"""
    return jax.tree_util.all_leaves([obs])


def flatten(obs: PyTree) -> Array:
    """One float32 vector ``[D]`` from a pytree; a single array keeps its shape and dtype."""
    if is_single(obs):
        return obs
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(obs)]
    return jnp.concatenate([leaf.reshape(math.prod(leaf.shape)).astype(jnp.float32) for leaf in leaves])
