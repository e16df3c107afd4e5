"""The environment contract: what a Task is, and a base class to write one; ``check_env`` (check.py) tests any.

``reset(key, params) -> (obs, state)`` and
``step(key, state, action, params) -> (obs, state, reward, terminated, truncated, info)``: one environment, no batch
axis. ``step`` resets by itself where an episode ended, and ``info["final_observation"]`` is the observation that the
action produced, before that reset, on every step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UserError
from jaxrl.keys import key_of
from jaxrl.shapes import calling, parts
from jaxrl.spaces import read, sample
from jaxrl.types import Array, Box, Discrete, Key, PyTree


class Task(NamedTuple):
    """An environment with everything that a program needs to know about it before it runs."""

    name: str
    env: Any  # reset and step as above
    params: Any  # handed to reset and step
    actions: Discrete | Box
    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype
    max_steps: int  # an episode's step limit; evaluation's cap
    solved: float | None  # evaluation return that counts as solved, where the environment names one
    num_states: int | None  # how many states the agent can act in, where the environment can name them
    state_id: Any  # (state, params) -> int32 in [0, num_states), or None


class AutoReset:
    """Base class: write ``reset_env`` and ``step_env``, inherit ``reset`` and ``step`` that keep the contract.

    Also needed: ``actions`` (Discrete or Box) and ``max_steps``, or ``default_params`` with ``max_steps_in_episode``.
    May be given: ``solved``, ``default_params``, ``num_states`` with ``state_id(state, params)``,
    ``render(state, params) -> uint8[H, W, 3]``, ``map_shape``, the (rows, columns) that states are the cells of, row by
    row, with ``map_cells``, the cell ``[num_states]`` of each, where they do not fill it, ``ways(state, params)``, in
    which ``jaxrl.envs.solvable`` looks for one to the goal. ``step_env`` itself must set ``truncated`` at the limit.
    """

    default_params: Any = None
    lazy_reset = False  # True where a reset costs more than a step: a rollout then resets only what ended

    def reset_env(self, key: Key, params: Any) -> tuple[PyTree, PyTree]:
        """(obs, state) at the start of an episode."""
        raise NotImplementedError

    def step_env(self, key: Key, state: PyTree, action: Array, params: Any) -> tuple:
        """(obs, state, reward, terminated, truncated, info) as the action produced them, without a reset."""
        raise NotImplementedError

    def reset(self, key: Key, params: Any = None) -> tuple[PyTree, PyTree]:
        return strong(self.reset_env(key, params))

    def step(self, key: Key, state: PyTree, action: Array, params: Any = None) -> tuple:
        step_key, reset_key = jax.random.split(key)
        next_obs, state, reward, terminated, truncated, info = self.advance(step_key, state, action, params)
        obs, state = _where(terminated | truncated, self.reset(reset_key, params), (next_obs, state))
        return obs, state, reward, terminated, truncated, info

    def advance(self, key: Key, state: PyTree, action: Array, params: Any = None) -> tuple:
        """``step`` without the reset where the episode ended."""
        obs, state, reward, terminated, truncated, info = self.step_env(key, state, action, params)
        obs, state, info = strong((obs, state, info))
        reward = jnp.asarray(reward, jnp.float32)
        terminated, truncated = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
        return obs, state, reward, terminated, truncated, {**info, "final_observation": obs}


def strong(tree: PyTree) -> PyTree:
    """The tree with arrays for leaves and no weak types, so that a state looks the same after each step as after reset.

    A state that begins as the Python number 0 would otherwise change its type at the first step, and every program
    that carries it would be compiled twice.
    """

    def leaf(x):
        x = jnp.asarray(x)
        return jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(leaf, tree)


def _where(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def sample_action(actions: Discrete | Box, key: Key) -> Array:
    """One uniform action: int32 ``[]`` or float32 ``[*A]``."""
    return sample(actions, key)


def task_of(env: Any, params: Any = None, name: str | None = None) -> Task:
    """The Task of an environment object; observations that are not one array are flattened (``flattened``).

    Raises UserError with a sentence for each part of the contract that is missing or cannot be used.
    """
    from jaxrl.envs.wrappers.observations import flattened, is_single  # wrappers derive from AutoReset

    name = name or type(env).__name__
    for method, arguments in (("reset", "key, params"), ("step", "key, state, action, params")):
        if not callable(getattr(env, method, None)):
            raise UserError(f"environment {name!r} has no method {method}({arguments})")
    num_states, state_id = getattr(env, "num_states", None), getattr(env, "state_id", None)
    if (num_states is None) != (state_id is None):
        raise UserError(f"environment {name!r} must have both num_states and state_id(state, params), or neither")
    actions, max_steps, solved = actions_of(name, env, params), _max_steps(name, env, params), solved_of(env, params)
    example = _example(name, env, params)
    if not jax.tree.leaves(example):
        raise UserError(f"environment {name!r} returns an observation without any array from reset")
    if not is_single(example):
        env = flattened(env)
        example = _example(name, env, params)
    shape, dtype = tuple(example.shape), np.dtype(example.dtype)
    return Task(name, env, params, actions, shape, dtype, max_steps, solved, num_states, state_id)


def _example(name: str, env: Any, params: Any) -> PyTree:
    """The shapes of an observation."""
    what = f"environment {name!r} breaks the contract: {'reset_env' if isinstance(env, AutoReset) else 'reset'}"

    def observed(key):
        with calling(what):
            begun = env.reset(key, params)
        return parts(what, "(obs, state)", begun)[0]

    return jax.eval_shape(observed, key_of(0))


def solved_of(env: Any, params: Any) -> Any:
    """The evaluation return that counts as solved with these params; None where the environment names none."""
    return _given(getattr(env, "solved", None), params)


def step_limit(env: Any, params: Any) -> Any:
    """The step limit as the environment gives it, unchecked; None where it gives none."""
    limit = _given(getattr(env, "max_steps", None), params)
    return getattr(params, "max_steps_in_episode", None) if limit is None else limit


def _given(attribute: Any, params: Any) -> Any:
    return attribute(params) if callable(attribute) else attribute


def _max_steps(name: str, env: Any, params: Any) -> int:
    limit = step_limit(env, params)
    if limit is None:
        raise UserError(f"environment {name!r} has no step limit: give it max_steps, or params.max_steps_in_episode")
    if not (isinstance(limit, (int, float, np.integer)) and limit >= 1 and limit == limit // 1):
        raise UserError(f"environment {name!r} has the step limit {limit!r}: it must be a whole number, at least 1")
    return int(limit)


def actions_of(name: str, env: Any, params: Any) -> Discrete | Box:
    """The action space in jaxrl's types; raises UserError, calling the environment `name`, for one it cannot use."""
    space = getattr(env, "actions", None)
    if space is None:
        space = _given(getattr(env, "action_space", None), params)
    if space is None:
        raise UserError(f"environment {name!r} has no actions: set Discrete(n) or Box(low, high, shape)")
    return read(name, space)
