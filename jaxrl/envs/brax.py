"""brax: every registered environment as ``brax/<name>``, and environments derived from brax's base class."""

import dataclasses
from importlib.metadata import version
from typing import Any, NamedTuple

import brax.envs
import jax
import jax.numpy as jnp

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task, sample_action
from jaxrl.errors import UserError
from jaxrl.types import Array, Box, Key, PyTree


class State(NamedTuple):
    brax: PyTree  # brax's own State
    time: Array  # [] int32  steps since the reset


@dataclasses.dataclass(frozen=True)
class Params:
    episode_length: int = 1000  # the step at which an episode is truncated


def make(name: str, **kwargs: Any) -> Task:
    """The task ``brax/<name>``; arguments: ``backend``, ``episode_length``, and the environment's own."""
    short = name.removeprefix("brax/")
    # Of brax's pipelines spring is the one for "fast and cheap simulation" (its README): the shortest compilation and
    # the most steps per second. swimmer exists in generalized coordinates only.
    backend = "generalized" if short == "swimmer" else "spring"
    task = construct(name, brax.envs._envs[short], {"backend": backend, **kwargs})
    if short == "swimmer":
        _check_fluid(task)
    return task


def _check_fluid(task: Task) -> None:
    """Only swimmer has fluid forces; brax 0.14.2 computes them with an argument of jnp.clip that jax has removed."""
    env, params, action = task.env, task.params, sample_action(task.actions, jax.random.key(0))
    try:
        jax.eval_shape(lambda key: env.step(key, env.reset(key, params)[1], action, params), jax.random.key(0))
    except TypeError as error:
        raise UserError(
            f"environment {task.name!r} does not run with this pair of versions, brax {version('brax')} and "
            f"jax {jax.__version__}: {error}"
        ) from error


class Brax(AutoReset):
    """A brax environment that starts every episode from a fresh key and is truncated at ``episode_length`` steps.

    brax's own wrappers are not used: its auto-reset returns to the first state ever drawn, and folds the time limit
    into ``done``. Actions are clipped to [-1, 1], the range that brax maps onto its actuators without checking it.
    """

    default_params = Params()

    def __init__(self, env: Any):
        self.env = env
        self.actions = Box(-1.0, 1.0, (env.action_size,))

    def max_steps(self, params: Params) -> int:
        return params.episode_length

    def reset_env(self, key: Key, params: Params) -> tuple[PyTree, State]:
        state = self.env.reset(key)
        return state.obs, State(state, jnp.int32(0))

    def step_env(self, key: Key, state: State, action: Array, params: Params) -> tuple:
        stepped = self.env.step(state.brax, jnp.clip(action, -1.0, 1.0))
        state = State(stepped, state.time + 1)
        return stepped.obs, state, stepped.reward, stepped.done, state.time >= params.episode_length, {}
