"""MuJoCo Playground's control suite: ``playground/CartpoleBalance`` and so on, on MJX's JAX backend.

The library's default backend needs an NVIDIA GPU; ``impl="jax"`` runs everywhere and is forced here. Its locomotion and
manipulation environments are not listed: they download robot models when they are made.
"""

from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
from mujoco_playground import dm_control_suite

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.errors import UserError
from jaxrl.types import Array, Box, Key, PyTree

NAMES = tuple(f"playground/{name}" for name in dm_control_suite.ALL_ENVS)


class State(NamedTuple):
    playground: PyTree  # the library's own State: MJX data, and more
    time: Array  # [] int32  steps since the reset


@flax.struct.dataclass
class Params:
    episode_length: int = 1000  # the step at which an episode is truncated


def make(name: str, **kwargs: Any) -> Task:
    """The task of a Playground name; arguments: ``episode_length``, and entries of the environment's config."""
    short = name.removeprefix("playground/")

    def build(**config: Any) -> Playground:
        if config.get("impl", "jax") != "jax":
            raise UserError(f"impl = {config['impl']!r} of {name}: only 'jax' runs on every device")
        try:
            return Playground(dm_control_suite.load(short, config_overrides={**config, "impl": "jax"}))
        except KeyError as error:
            known = ", ".join(sorted(dm_control_suite.get_default_config(short)))
            raise UserError(f"unknown argument of {name}: {error.args[0]}; its config has {known}") from error

    return construct(name, build, kwargs)


class Playground(AutoReset):
    """A Playground environment whose episodes start from fresh keys and are truncated at ``episode_length`` steps.

    The suite's tasks never end by themselves but for numbers that are no longer finite: that terminates. Dictionaries
    of observations become one float32 vector. Actions are clipped to [-1, 1]. Nobody named a `solved` return.
    """

    lazy_reset = True

    def __init__(self, env: Any):
        self.env = env
        self.default_params = Params(episode_length=int(env._config.episode_length))
        self.actions = Box(-1.0, 1.0, (env.action_size,))

    def max_steps(self, params: Params) -> int:
        return params.episode_length

    def reset_env(self, key: Key, params: Params) -> tuple[PyTree, State]:
        state = self.env.reset(key)
        return state.obs, State(state, jnp.int32(0))

    def step_env(self, key: Key, state: State, action: Array, params: Params) -> tuple:
        stepped = self.env.step(state.playground, jnp.clip(action, -1.0, 1.0))
        state = State(stepped, state.time + 1)
        return stepped.obs, state, stepped.reward, stepped.done > 0, state.time >= params.episode_length, {}
