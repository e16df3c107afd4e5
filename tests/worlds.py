"""Environments that tests train on."""

import jax
import jax.numpy as jnp

from jaxrl.envs import AutoReset
from jaxrl.types import Discrete

CELLS, LIMIT = 36, 44


class Corridor(AutoReset):
    """Cells 0 to 35 from left to right, one-hot; start at 0; reward 1 at the end, which ends the episode; 44 steps.

    Which action goes right differs from cell to cell (a fixed coin each, as in DeepSea), so that a policy that merely
    drifts towards one action goes nowhere.
    """

    actions, max_steps, solved = Discrete(2), LIMIT, 0.9
    num_states = CELLS

    def state_id(self, state, params):
        return state[0]

    def reset_env(self, key, params):
        return jnp.arange(CELLS) == 0, (0, 0)

    def step_env(self, key, state, action, params):
        swapped = jax.random.bernoulli(jax.random.key(3), shape=(CELLS,))[state[0]]
        cell, time = jnp.clip(state[0] + jnp.where((action == 1) ^ swapped, 1, -1), 0, CELLS - 1), state[1] + 1
        end = cell == CELLS - 1
        return jnp.arange(CELLS) == cell, (cell, time), end, end, time >= LIMIT, {}
