"""brax: every registered environment as ``brax/<name>``, sparse-reward versions, mazes, and a user's own."""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import brax.envs
import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs import brax_mazes
from jaxrl.envs.construct import arguments_of, construct
from jaxrl.envs.contract import AutoReset, Task, sample_action
from jaxrl.errors import UserError
from jaxrl.keys import key_of
from jaxrl.types import Array, Box, Key, PyTree


class State(NamedTuple):
    brax: PyTree  # brax's own State
    time: Array  # [] int32  steps since the reset


@flax.struct.dataclass
class Params:
    episode_length: int = 1000  # the step at which an episode is truncated


@flax.struct.dataclass
class SparseParams(Params):
    threshold: float = 5.0  # metres that the torso must be beyond


# (coordinate of the torso's position, threshold in metres). Ours, in the manner of VIME's sparse HalfCheetah.
_SPARSE = {
    "halfcheetah": (0, 5.0),
    "ant": (0, 3.0),
    "hopper": (0, 1.0),
    "walker2d": (0, 1.0),
    "humanoid": (0, 1.0),
    "humanoidstandup": (2, 1.0),
}
NAMES = (
    *(f"brax/{name}" for name in brax.envs._envs),
    *(f"brax/sparse-{name}" for name in _SPARSE),
    *brax_mazes.NAMES,
)


def make(name: str, **kwargs: Any) -> Task:
    """The task ``brax/<name>``; arguments: ``backend``, ``episode_length``, and the environment's own.

    ``brax/sparse-<name>`` also takes ``threshold``; mazes have other arguments, see `jaxrl.envs.brax_mazes`.
    """
    if name in brax_mazes.NAMES:
        return brax_mazes.make(name, **kwargs)
    short = name.removeprefix("brax/")
    if short.startswith("sparse-"):
        return construct(name, _sparse(short.removeprefix("sparse-")), {"backend": "spring", **kwargs})
    # Of brax's pipelines spring is the one for "fast and cheap simulation" (its README): the shortest compilation and
    # the most steps per second. swimmer exists in generalized coordinates only.
    backend = "generalized" if short == "swimmer" else "spring"
    task = construct(name, brax.envs._envs[short], {"backend": backend, **kwargs})
    if short == "swimmer":
        _check_fluid(task)
    return task


def _sparse(name: str) -> Callable:
    """A factory that takes what the robot's own class takes, so that every other argument is looked for in params."""

    def build(**options: Any) -> Sparse:
        return Sparse(name, **options)

    accepted, _ = arguments_of(brax.envs._envs[name])
    keywords = [inspect.Parameter(one, inspect.Parameter.KEYWORD_ONLY, default=None) for one in dict.fromkeys(accepted)]
    build.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return build


def _check_fluid(task: Task) -> None:
    """Only swimmer has fluid forces; brax 0.14.2 computes them with an argument of jnp.clip that jax has removed."""
    env, params, action = task.env, task.params, sample_action(task.actions, key_of(0))
    try:
        jax.eval_shape(lambda key: env.step(key, env.reset(key, params)[1], action, params), key_of(0))
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
        return stepped.obs, state, stepped.reward, stepped.done > 0, state.time >= params.episode_length, {}


class Sparse(Brax):
    """A brax robot that is paid 1 for every step that ends with its torso beyond ``threshold``, and nothing else.

    Beyond means forward (x, which starts within 0.1 of 0), for humanoidstandup above the ground (z). A fall still ends
    the episode where it does in brax. ``threshold`` is in metres and may be traced. Solved (ours): half of an episode's
    steps are paid.
    """

    def __init__(self, name: str, **options: Any):
        super().__init__(brax.envs._envs[name](**options))
        self.axis, threshold = _SPARSE[name]
        self.default_params = SparseParams(threshold=threshold)

    def solved(self, params: SparseParams) -> float:
        return params.episode_length / 2

    def step_env(self, key: Key, state: State, action: Array, params: SparseParams) -> tuple:  # type: ignore[override]
        obs, state, _, terminated, truncated, info = super().step_env(key, state, action, params)
        place = state.brax.pipeline_state.x.pos[0, self.axis]
        return obs, state, place > params.threshold, terminated, truncated, info
