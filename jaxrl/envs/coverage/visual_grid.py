"""VisualGrid: an empty grid seen as a picture, for bonuses that should be counts."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import AutoReset
from jaxrl.envs.coverage.limits import check_params, check_whole
from jaxrl.types import Array, Discrete, Key

PIXELS = 2  # a side of one cell
_TILE = 8  # the same in `render`
_MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
_FLOOR, _GRID, _AGENT, _GOAL = np.array([[235, 235, 235], [205, 205, 205], [200, 40, 40], [60, 160, 60]], np.uint8)


@flax.struct.dataclass
class VisualGridParams:
    noise: Array | float = 0.0  # probability that a uniformly random action takes the place of the chosen one


class VisualGridState(NamedTuple):
    row: Array  # [] int32
    column: Array  # [] int32
    time: Array  # [] int32  steps taken


class VisualGrid(AutoReset):
    """A ``size`` x ``size`` grid without walls: up (0), right (1), down (2), left (3); a move past the edge stays.

    After the visual gridworld of CFN (Lobel et al. 2023): 42 x 42 cells drawn at 84 x 84, a fixed start in one corner,
    the goal in the far one, 150 steps, action noise 0 to 0.5. Observation: uint8 ``[2 size, 2 size, 1]``, black but for
    the 2 x 2 pixels of the agent's cell, 255. ``state_id`` is the cell, ``row * size + column``.

    Reward-free by default: 0 at each step, and only ``max_steps`` truncates. With ``goal=True`` the far corner pays 1
    and terminates; it is not drawn, and no state that is acted in. ``solved`` is then 0.9, nine goals in ten episodes
    (ours). Of 42 x 42 cells within 150 steps the best policy reaches it in 0.998 of episodes at noise 0.3, in 0.889 at
    0.4 and in 0.376 at 0.5: more noise wants more steps.

    Ours: what noise means exactly (with probability ``noise`` one of the four actions is drawn evenly), 21 cells by
    default. Raises UserError for a size, a step limit or a noise out of range.
    """

    actions = Discrete(4)
    default_params = VisualGridParams()

    def __init__(self, size: int = 21, goal: bool = False, max_steps: int = 150):
        self.size = check_whole("size", size, 2, 256)
        self.max_steps = check_whole("max_steps", max_steps, 1, 2**30)
        self.goal = goal
        self.solved = 0.9 if goal else None
        self.num_states = size * size - goal  # the goal's is the last number
        self.map_shape = None if goal else (size, size)

    def state_id(self, state: VisualGridState, params: VisualGridParams) -> Array:
        return state.row * self.size + state.column

    def reset_env(self, key: Key, params: VisualGridParams) -> tuple[Array, VisualGridState]:
        check_params(params, self.default_params, {"noise": (0, 1)})
        state = VisualGridState(jnp.int32(0), jnp.int32(0), jnp.int32(0))
        return self.observe(state), state

    def step_env(self, key: Key, state: VisualGridState, action: Array, params: VisualGridParams) -> tuple:
        noise_key, action_key = jax.random.split(key)
        random = jax.random.uniform(noise_key) < params.noise
        move = jnp.asarray(_MOVES)[jnp.where(random, jax.random.randint(action_key, (), 0, 4), action)]
        row = jnp.clip(state.row + move[0], 0, self.size - 1)
        column = jnp.clip(state.column + move[1], 0, self.size - 1)
        state = VisualGridState(row, column, state.time + 1)
        last = self.size - 1
        reached = (row == last) & (column == last) & self.goal
        return self.observe(state), state, reached, reached, (state.time >= self.max_steps) & ~reached, {}

    def observe(self, state: VisualGridState) -> Array:
        cell = jnp.arange(PIXELS * self.size) // PIXELS
        here = (cell == state.row)[:, None] & (cell == state.column)
        return jnp.where(here, jnp.uint8(255), jnp.uint8(0))[..., None]

    def render(self, state: VisualGridState, params: VisualGridParams) -> Array:
        """uint8 ``[8 size, 8 size, 3]``: the agent red, the goal green."""
        row, column = np.indices((_TILE * self.size, _TILE * self.size))
        picture = np.where(((row % _TILE == 0) | (column % _TILE == 0))[..., None], _GRID, _FLOOR)
        row, column = row // _TILE, column // _TILE
        if self.goal:
            picture = np.where((row + column == 2 * (self.size - 1))[..., None], _GOAL, picture)
        here = (row == state.row) & (column == state.column)
        return jnp.where(here[..., None], _AGENT, picture)
