"""A task as a Gymnasium environment, for code that steps one environment from Python."""

from typing import Any

import gymnasium
import jax
import numpy as np

from jaxrl.envs import make
from jaxrl.envs.contract import Task
from jaxrl.errors import UserError
from jaxrl.keys import key_of, with_generator
from jaxrl.spaces import bounds
from jaxrl.types import Box, Discrete

FRAMES_PER_SECOND = 10


def to_gymnasium(task_or_env: Any) -> gymnasium.Env:
    """The Gymnasium environment of a Task, or of whatever ``make`` accepts: NumPy in, NumPy out, one at a time.

    ``step`` gives the observation that the action produced, and the episode's end does not reset: Gymnasium's callers
    do. ``reset(seed=)`` chooses the world and all chance after it; without a seed each reset draws a new one.
    ``render()`` gives uint8 ``[H, W, 3]`` where the environment draws itself.
    """
    return _Gymnasium(task_or_env if isinstance(task_or_env, Task) else make(task_or_env))


class _Gymnasium(gymnasium.Env):
    def __init__(self, task: Task):
        self.task = task
        draws = callable(getattr(task.env, "render", None))
        self.metadata = {"render_modes": ["rgb_array"] if draws else [], "render_fps": FRAMES_PER_SECOND}
        self.render_mode = "rgb_array" if draws else None
        self.observation_space = _observations(task)
        self.action_space = _actions(task.actions)
        self._reset = jax.jit(with_generator(lambda key: task.env.reset(key, task.params)))
        step = lambda key, state, action: task.env.step(key, state, action, task.params)
        self._step = jax.jit(with_generator(step))
        self._render = jax.jit(lambda state: task.env.render(state, task.params)) if draws else None
        self._key: Any = None
        self._state: Any = None  # None: no episode is running

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if seed is None and self._key is not None:
            start = self._key
        else:
            start = key_of(int(self.np_random.integers(2**32)) if seed is None else seed)
        self._key, key = jax.random.split(start)
        obs, self._state = self._reset(key)
        self._shown = self._state
        return self._plain(obs), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._state is None:
            raise UserError(f"environment {self.task.name!r}: call reset before the first step and after an end")
        if not self.action_space.contains(action):
            raise UserError(f"environment {self.task.name!r}: action = {action!r} is not in {self.action_space}")
        self._key, key = jax.random.split(self._key)
        _, state, reward, terminated, truncated, info = self._step(key, self._state, action)
        ended = bool(terminated) or bool(truncated)
        self._state = None if ended else state
        self._shown = self._shown if ended else state  # jaxrl's step has reset by then: the last state is gone
        return self._plain(info["final_observation"]), float(reward), bool(terminated), bool(truncated), {}

    def _plain(self, obs: jax.Array) -> np.ndarray:
        return np.asarray(obs, self.observation_space.dtype)  # flags are int8 there

    def render(self) -> np.ndarray | None:
        if self._render is None:
            raise UserError(f"environment {self.task.name!r} cannot draw itself: give it render(state, params)")
        return np.asarray(self._render(self._shown))


def _observations(task: Task) -> gymnasium.spaces.Box:
    if np.issubdtype(task.obs_dtype, np.bool_):
        return gymnasium.spaces.Box(0, 1, task.obs_shape, np.int8)
    limits = np.iinfo(task.obs_dtype) if np.issubdtype(task.obs_dtype, np.integer) else None
    low, high = (limits.min, limits.max) if limits else (-np.inf, np.inf)
    return gymnasium.spaces.Box(low, high, task.obs_shape, task.obs_dtype.type)


def _actions(actions: Discrete | Box) -> gymnasium.Space:
    if isinstance(actions, Discrete):
        return gymnasium.spaces.Discrete(actions.n)
    low, high = bounds(actions)
    return gymnasium.spaces.Box(low, high, dtype=np.float32)
