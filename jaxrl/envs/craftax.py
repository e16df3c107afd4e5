"""Craftax and Craftax-Classic: ``craftax/Symbolic``, ``craftax/Pixels``, ``craftax/Classic-Symbolic``, ``-Pixels``.

Every episode is a fresh world. A world costs far more than a step, so ``lazy_reset`` is set: the rollout makes worlds
only for the environments that ended, each from its own key. That replaces the library's optimistic resets, which hand
one world to several environments at once (Craftax_Baselines issue 11).
"""

from typing import Any

import jax.numpy as jnp
from craftax.craftax.constants import Achievement
from craftax.craftax_classic.constants import Achievement as ClassicAchievement
from craftax.craftax_env import make_craftax_env_from_params

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.types import Array, Discrete, Key, PyTree

NAMES = ("craftax/Symbolic", "craftax/Pixels", "craftax/Classic-Symbolic", "craftax/Classic-Pixels")
_FOR_EVER = jnp.iinfo(jnp.int32).max


def make(name: str, **kwargs: Any) -> Task:
    """The task of a Craftax name; arguments are fields of Craftax's params (``max_timesteps``, ``day_length``, ...)."""
    return construct(name, lambda: Craftax("Classic" in name, "Symbolic" in name), kwargs)


class Craftax(AutoReset):
    """A Craftax world; observation float32 ``[8268]`` (symbolic; Classic: 1345) or pixels in [0, 1], ``[H, W, 3]``.

    Death (and, in the full game, victory) terminates; ``max_timesteps`` steps truncate, which the library's own `done`
    does not tell apart. Rewards are the library's: achievements unlocked, and health. ``info`` holds after each step
    which achievements the episode has unlocked so far, 0 or 1 each as ``achievements/<name>``, and how many as
    ``achievements``. No `solved`: nobody named a return.
    """

    lazy_reset = True

    def __init__(self, classic: bool, symbolic: bool):
        self.env = make_craftax_env_from_params(classic, symbolic, auto_reset=False)
        self.default_params = self.env.default_params
        self.actions = Discrete(self.env.num_actions)
        self.achievements = {one.name.lower(): one.value for one in (ClassicAchievement if classic else Achievement)}

    def max_steps(self, params: Any) -> int:
        return params.max_timesteps

    def reset_env(self, key: Key, params: Any) -> tuple[Array, PyTree]:
        return self.env.reset_env(key, params)

    def step_env(self, key: Key, state: PyTree, action: Array, params: Any) -> tuple:
        obs, state, reward, _, _ = self.env.step_env(key, state, action, params)
        terminated = self.env.is_terminal(state, params.replace(max_timesteps=_FOR_EVER))
        truncated = (state.timestep >= params.max_timesteps) & ~terminated
        unlocked = state.achievements.astype(jnp.float32)
        info = {f"achievements/{name}": unlocked[place] for name, place in self.achievements.items()}
        return obs, state, reward, terminated, truncated, {**info, "achievements": unlocked.sum()}
