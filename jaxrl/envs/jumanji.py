"""jumanji: ``jumanji/Maze`` is ``Maze-v0``, and so on for every game with one discrete action and one reward.

Not listed: games whose action is several numbers at once (Rubik's Cube, Sudoku, Minesweeper, Tetris, BinPack, FlatPack,
JobShop), games of several agents, and Sokoban, which downloads its levels.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import jumanji
from jumanji.environments import Maze
from jumanji.specs import DiscreteArray

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.errors import UserError
from jaxrl.types import Array, Discrete, Key, PyTree

# The registered id, and the step limit where the game has no `time_limit`: it then ends by itself within the problem's
# size (20 nodes or cities, each city and the depot in turn, 50 items); 2048 goes on for as long as a move is left, and
# its limit is ours.
_GAMES: dict[str, tuple[str, int | None]] = {
    "jumanji/Game2048": ("Game2048-v1", 10_000),
    "jumanji/GraphColoring": ("GraphColoring-v1", 20),
    "jumanji/SlidingTilePuzzle": ("SlidingTilePuzzle-v0", None),
    "jumanji/Knapsack": ("Knapsack-v1", 50),
    "jumanji/CVRP": ("CVRP-v1", 40),
    "jumanji/TSP": ("TSP-v1", 20),
    "jumanji/Maze": ("Maze-v0", None),
    "jumanji/Snake": ("Snake-v1", None),
    "jumanji/PacMan": ("PacMan-v1", None),
}
NAMES = tuple(_GAMES)
_FOR_EVER = 2**30


class State(NamedTuple):
    jumanji: PyTree  # the game's own state
    time: Array  # [] int32  steps since the reset


def make(name: str, **kwargs: Any) -> Task:
    """The task of a jumanji name; ``max_steps``, and numbers that the game's constructor takes (``num_rows``, ...)."""
    game, limit = _GAMES[name]

    def build(max_steps: int | None = None, **options: Any) -> Jumanji:
        if "time_limit" in options:
            raise UserError(f"time_limit = {options['time_limit']} of {name}: the limit is called max_steps")
        if max_steps is None:
            max_steps = limit or int(jumanji.make(game, **options).time_limit)  # type: ignore[attr-defined]
        unlimited = {} if limit else {"time_limit": _FOR_EVER}
        return Jumanji(jumanji.make(game, **options, **unlimited), max_steps)

    return construct(name, build, kwargs)


class Jumanji(AutoReset):
    """A jumanji game; its observation's arrays, the mask of legal actions among them, become one float32 vector.

    jumanji ends an episode at the time limit as if the game were over. Here the library's limit is out of reach, and
    ``max_steps`` truncates. An illegal action does what it does in jumanji: in most games it ends the episode. Maze
    names its state, the agent's cell row * width + column, and is solved (ours) when 9 of 10 episodes reach the target.
    """

    lazy_reset = True

    def __init__(self, env: Any, max_steps: int):
        self.env, self.max_steps = env, max_steps
        if type(env.action_spec) is not DiscreteArray:  # others have num_values too
            raise UserError(f"jumanji's {type(env).__name__} has the actions {env.action_spec}: one number is needed")
        self.actions = Discrete(env.action_spec.num_values)
        if isinstance(env, Maze):
            self.solved = 0.9
            self.num_states = env.num_rows * env.num_cols
            self.state_id = lambda state, params: self._cell(state.jumanji.agent_position)

    def _cell(self, position: Any) -> Array:
        return (position.row * self.env.num_cols + position.col).astype(jnp.int32)

    def reset_env(self, key: Key, params: Any) -> tuple[PyTree, State]:
        state, first = self.env.reset(key)
        return first.observation, State(state, jnp.int32(0))

    def step_env(self, key: Key, state: State, action: Array, params: Any) -> tuple:
        after, timestep = self.env.step(state.jumanji, action)
        time, terminated = state.time + 1, timestep.last()
        truncated = (time >= self.max_steps) & ~terminated
        return timestep.observation, State(after, time), timestep.reward, terminated, truncated, {}
