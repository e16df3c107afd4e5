"""Mazes of corridors one cell wide: Maze, and RandomDiscoMaze whose walls flash."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.grid.cells import EMPTY, GREEN_GOAL, GREY_WALL, WALL, kind_of
from jaxrl.envs.grid.engine import Compass, MoveParams, check_size
from jaxrl.envs.grid.layout import below, choose_cell, context_key, coordinates, draws, put, start
from jaxrl.types import Array, Key


@flax.struct.dataclass
class MazeParams(MoveParams):
    """``contexts``: how many mazes there are; 0 for a new one in each episode."""

    contexts: int = 1


class Maze(Compass):
    """A maze of ``size`` cells a side (odd, its border included) between two opposite corners; step limit 200.

    A uniformly weighted spanning tree of the corridors' crossings. ``contexts`` mazes, the same ones under every seed
    (1 by default, as in SOFE's coverage experiments on a fixed 15x15 maze, Creus Castanyer et al. 2024; that paper's
    own mazes are not published), or a new one in each episode. Four moves; the whole grid is seen by default; reaching
    the goal pays 1, or with ``goal=False`` nothing pays and only the limit ends an episode.
    """

    default_params: Any = MazeParams()

    def __init__(self, size: int = 15, goal: bool = True, view: str = "full", max_steps: int | None = None):
        check_size("size", size, 5, 65, odd=True)
        super().__init__(size, size, max_steps, 200, view=view)
        self.goal = goal
        if not goal:
            self.solved = None

    def generate(self, key, params):
        grid = carve(context_key(key, params.contexts)[0], self.width)
        if self.goal:
            grid = put(grid, self.width - 2, self.height - 2, GREEN_GOAL)
        return start(grid, 1, 1, 0)


class RandomDiscoMaze(Compass):
    """NGU's test (Badia et al. 2020): a maze of which every wall cell gets one of 5 colours at each step.

    Four moves; stepping into a wall ends the episode; nothing pays. A new maze in each episode, 21 cells a side as
    there (11 in the small version); the agent starts in a random cell; step limit 500 (ours). The whole grid is seen.
    """

    default_params: Any = MoveParams()

    def __init__(self, size: int = 21, view: str = "full", max_steps: int | None = None):
        check_size("size", size, 5, 65, odd=True)
        super().__init__(size, size, max_steps, 500, view=view)
        self.solved = None

    def generate(self, key, params):
        maze_key, agent_key, colour_key = jax.random.split(key, 3)
        place, direction = draws(agent_key, 2)
        grid = carve(maze_key, self.width)
        return start(flash(colour_key, grid), *choose_cell(place, grid == EMPTY), below(direction, 4))

    def act(self, key, state, action, params):
        move_key, colour_key = jax.random.split(key)
        before = state.x, state.y
        state, _, _ = super().act(move_key, state, action, params)
        bumps = (state.x == before[0]) & (state.y == before[1])
        return state._replace(grid=flash(colour_key, state.grid)), jnp.bool_(False), bumps


def flash(key: Key, grid: Array) -> Array:
    """Walls in colours drawn from the first five, cell by cell."""
    colour = (jax.random.bits(key, grid.shape, jnp.uint16) % 5).astype(jnp.uint16)
    return jnp.where(kind_of(grid) == WALL, jnp.uint16(WALL) | colour << 4, grid)


def carve(key: Key, size: int) -> Array:
    """A maze with exactly one way between any two cells, uint16 ``[size, size]``: Kruskal over random weights."""
    side = (size - 1) // 2
    node = np.arange(side * side).reshape(side, side)
    edges = np.concatenate(
        [np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()], 1), np.stack([node[:-1].ravel(), node[1:].ravel()], 1)]
    )
    order = jnp.argsort(jax.random.uniform(key, (len(edges),)))

    def join(group, edge):
        a, b = group[edge[0]], group[edge[1]]
        return jnp.where(group == b, a, group), a != b

    _, opened = jax.lax.scan(join, jnp.arange(side * side, dtype=jnp.int32), jnp.asarray(edges)[order])
    opened = jnp.zeros(len(edges), bool).at[order].set(opened)
    right, down = jnp.split(opened, 2)  # as many edges of each kind: the maze is square
    x, y = coordinates(size, size)
    grid = jnp.where((x % 2 == 1) & (y % 2 == 1), jnp.uint16(EMPTY), jnp.uint16(GREY_WALL))
    to_cell = lambda opened: jnp.where(opened, jnp.uint16(EMPTY), jnp.uint16(GREY_WALL))
    grid = grid.at[1:-1:2, 2:-2:2].set(to_cell(right.reshape(side, side - 1)))
    return grid.at[2:-2:2, 1:-1:2].set(to_cell(down.reshape(side - 1, side)))
