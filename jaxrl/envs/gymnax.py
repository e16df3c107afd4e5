"""gymnax 1.0: every registered name as it is, and environments derived from gymnax's base class."""

import dataclasses
from typing import Any

import gymnax
import jax
import numpy as np
from gymnax.environments.bsuite.deep_sea import DeepSea

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.envs.gymnax_pictures import picture
from jaxrl.errors import UserError
from jaxrl.types import Array, Key, PyTree

# reward_threshold in Gymnasium's registry (gymnasium/envs/__init__.py), for the published parameters.
_SOLVED = {"CartPole-v1": 475.0, "Acrobot-v1": -100.0, "MountainCar-v0": -110.0, "MountainCarContinuous-v0": 90.0}

_FOR_EVER = 2**30  # steps

NAMES = tuple(gymnax.registration._registry)


def make(name: str, **kwargs: Any) -> Task:
    """The task of a registered gymnax name, with gymnax's own defaults."""
    return construct(name, gymnax.registration._registry[name], kwargs)


class Gymnax(AutoReset):
    """A gymnax environment with float32 rewards, no weak types, and truncation kept apart from termination.

    gymnax's own ``step`` gives six values too, but some rewards are integers (UmbrellaChain, BernoulliBandit) and some
    states have weak types that change at the first step, which would compile every program twice; AutoReset mends both.
    DeepSea counts bad episodes across resets in its state; here such counts start again with each episode. An
    environment of before 1.0 ends at ``max_steps_in_episode`` as if the world did: whatever does not end with that
    limit out of reach (the step is traced a second time) is truncated.
    """

    def __init__(self, env: Any):
        self.env = env
        self.default_params = env.default_params
        self.action_space = env.action_space
        # No class of gymnax 1.0 ends at the limit by itself; one of before, whose is_terminal holds it, does.
        self.lifted = not type(env).__module__.startswith("gymnax.")
        if isinstance(env, DeepSea):
            # A column never exceeds its row, so the agent acts in a triangle of cells; row == size is terminal.
            self.num_states = env.size * (env.size + 1) // 2
            self.state_id = lambda state, params: state.row * (state.row + 1) // 2 + state.column
            rows, columns = np.tril_indices(env.size)
            self.map_shape, self.map_cells = (env.size, env.size), rows * env.size + columns
        if type(env).__module__.startswith("gymnax.") and (render := picture(env)):
            self.render = render

    def solved(self, params: Any) -> float | None:
        """The return that counts as solved, or None where nobody published one for these parameters."""
        if type(self.env) is DeepSea:
            # Ours: the treasure is worth 1, all moves to it cost unscaled_move_cost (0.99 in total by default), and
            # every policy that misses the treasure earns at most 0.
            return 0.9 if params.deterministic and params.unscaled_move_cost < 0.1 else None
        own = not self.lifted
        unchanged = jax.tree.all(jax.tree.map(np.array_equal, params, self.default_params))
        return _SOLVED.get(self.env.name) if own and unchanged else None

    def reset_env(self, key: Key, params: Any) -> tuple[PyTree, PyTree]:
        return self.env.reset_env(key, params)

    def step_env(self, key: Key, state: PyTree, action: Array, params: Any) -> tuple:
        try:
            obs, after, reward, terminated, info = self.env.step_env(key, state, action, params)
        except NotImplementedError as error:
            raise UserError(
                f"environment {self.env.name!r} is written for gymnax before 1.0: call its is_terminal is_terminated, "
                "without the time limit, which is_truncated(state, params) tells"
            ) from error
        truncated = self.env.is_truncated(after, params)
        if self.lifted:
            unlimited = dataclasses.replace(params, max_steps_in_episode=_FOR_EVER)
            ended = self.env.step_env(key, state, action, unlimited)[3]
            terminated, truncated = ended, truncated | (terminated & ~ended)
        return obs, after, reward, terminated, truncated, info
