"""Mazes with one goal and one reward: ``brax/point-umaze`` and ``-large``, ``brax/ant-umaze`` and ``-large``.

Reaching the goal pays 1 and terminates; nothing else pays, and a fall does not end the episode. The start is random
within its cell, the goal is fixed and not observed. ``state_id`` numbers the cells that are no wall, row by row, for
coverage. Solved (ours): 9 of 10 episodes reach the goal. The maps are after those of D4RL; limits and sizes are ours.
"""

import functools
from importlib.resources import files
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from brax.io import mjcf
from brax.spring import pipeline

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.types import Array, Box, Key, PyTree

_MAPS = {
    "umaze": """
        #####
        #S..#
        ###.#
        #G..#
        #####""",
    "large": """
        ############
        #S...#.....#
        #.##.#.#.#.#
        #......#...#
        #.####.###.#
        #..#.#.....#
        ##.#.#.#.###
        #..#...#.G.#
        ############""",
}
_LIMITS = {"point": {"umaze": 200, "large": 600}, "ant": {"umaze": 700, "large": 1000}}
NAMES = tuple(f"brax/{body}-{maze}" for body in ("point", "ant") for maze in _MAPS)
CELL = 4.0  # metres; for the ant, whose body is about 1.5 across
_FRAMES, _TIMESTEP = 10, 0.005  # as brax's own ant in the spring pipeline


def make(name: str, **kwargs: Any) -> Task:
    """The task of a maze; arguments: ``max_steps`` and the params' fields."""
    body, maze = name.removeprefix("brax/").split("-")
    kind = {"point": PointMaze, "ant": AntMaze}[body]
    return construct(name, lambda max_steps=_LIMITS[body][maze]: kind(_MAPS[maze], max_steps), kwargs)


class Maze(AutoReset):
    """What both bodies share: a map of ``#`` walls, ``S`` the start, ``G`` the goal; positions are (x, y) in cells."""

    solved = 0.9

    def __init__(self, text: str, max_steps: int):
        rows = text.split()
        self.max_steps = max_steps
        self.walls = np.array([[cell == "#" for cell in row] for row in rows])
        self.height, self.width = self.walls.shape
        self.num_states = int((~self.walls).sum())
        self.numbers = np.where(self.walls, 0, np.cumsum(~self.walls).reshape(self.walls.shape) - 1).astype(np.int32)
        (self.start,) = [(x, y) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell == "S"]
        (self.goal,) = [(x, y) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell == "G"]

    def cell(self, position: Array) -> Array:
        """The cell (x, y) int32 ``[2]`` that a position ``[2]`` lies in; outside the maze, the nearest."""
        return jnp.clip(jnp.round(position), 0, jnp.array([self.width - 1, self.height - 1])).astype(jnp.int32)

    def blocked(self, position: Array) -> Array:
        x, y = self.cell(position)
        return jnp.asarray(self.walls)[y, x]

    def scaled(self, position: Array) -> Array:
        """The position as it is observed: in [-1, 1] from wall to wall."""
        return 2 * position / jnp.array([self.width - 1.0, self.height - 1.0]) - 1

    def distance(self, position: Array) -> Array:
        return jnp.linalg.norm(position - jnp.array(self.goal, jnp.float32))

    def state_id(self, state: Any, params: Any) -> Array:
        x, y = self.cell(state.position)
        return jnp.asarray(self.numbers)[y, x]


@flax.struct.dataclass
class PointParams:
    speed: float = 0.2  # cells per step at full action, below 5; may be traced
    noise: float = 0.0  # standard deviation of the noise on each coordinate of the action; may be traced
    goal_radius: float = 0.5  # cells; may be traced


class PointState(NamedTuple):
    position: Array  # [2] float32, (x, y) in cells
    time: Array  # [] int32


class PointMaze(Maze):
    """A point that the action (x, y), in [-1, 1], moves by ``speed`` cells; observation float32 ``[2]``, its position.

    A step is ten small moves along each axis in turn, each undone if it ends in a wall, so the point slides along walls
    and cannot pass through one. No inertia.
    """

    default_params = PointParams()
    actions = Box(-1.0, 1.0, (2,))

    def reset_env(self, key: Key, params: PointParams) -> tuple[Array, PointState]:
        position = jnp.array(self.start, jnp.float32) + jax.random.uniform(key, (2,), minval=-0.25, maxval=0.25)
        return self.scaled(position), PointState(position, jnp.int32(0))

    def step_env(self, key: Key, state: PointState, action: Array, params: PointParams) -> tuple:
        action = jnp.clip(action + params.noise * jax.random.normal(key, (2,)), -1.0, 1.0)

        def move(position, _):
            for axis in jnp.eye(2):
                moved = position + params.speed / 10 * action * axis
                position = jnp.where(self.blocked(moved), position, moved)
            return position, None

        position, _ = jax.lax.scan(move, state.position, None, 10)
        time = state.time + 1
        reached = self.distance(position) < params.goal_radius
        return self.scaled(position), PointState(position, time), reached, reached, time >= self.max_steps, {}


@flax.struct.dataclass
class AntParams:
    goal_radius: float = 1.0  # metres; may be traced


class AntState(NamedTuple):
    pipeline: PyTree  # the state of brax's spring pipeline
    time: Array  # [] int32

    @property
    def position(self) -> Array:
        return self.pipeline.x.pos[0, :2] / CELL


class AntMaze(Maze):
    """brax's ant between walls 1 m high, cells 4 m wide; observation float32 ``[29]``: x, y scaled, the joints, speeds.

    Physics is brax's spring pipeline with the constants of its own ant; feet and torso collide with floor and walls.
    """

    default_params = AntParams()

    def __init__(self, text: str, max_steps: int):
        super().__init__(text, max_steps)
        self.system = _ant_between(tuple(map(tuple, self.walls)))
        self.actions = Box(-1.0, 1.0, (self.system.act_size(),))

    def reset_env(self, key: Key, params: AntParams) -> tuple[Array, AntState]:
        place_key, joint_key, speed_key = jax.random.split(key, 3)
        system = self.system
        place = jnp.array(self.start) + jax.random.uniform(place_key, (2,), minval=-0.25, maxval=0.25)
        joints = system.init_q + jax.random.uniform(joint_key, system.init_q.shape, minval=-0.1, maxval=0.1)
        speeds = 0.1 * jax.random.normal(speed_key, (system.qd_size(),))
        state = AntState(pipeline.init(system, joints.at[:2].set(CELL * place), speeds), jnp.int32(0))
        return self._observe(state), state

    def step_env(self, key: Key, state: AntState, action: Array, params: AntParams) -> tuple:
        action = jnp.clip(action, -1.0, 1.0)
        frame = lambda physics, _: (pipeline.step(self.system, physics, action), None)
        state = AntState(jax.lax.scan(frame, state.pipeline, None, _FRAMES)[0], state.time + 1)
        reached = CELL * self.distance(state.position) < params.goal_radius
        return self._observe(state), state, reached, reached, state.time >= self.max_steps, {}

    def _observe(self, state: AntState) -> Array:
        return jnp.concatenate([self.scaled(state.position), state.pipeline.q[2:], state.pipeline.qd])


@functools.cache
def _ant_between(walls: tuple) -> Any:
    """The brax system of the ant that brax ships, with a box for each straight stretch of wall."""
    text = files("brax").joinpath("envs/assets/ant.xml").read_text()
    text = text.replace('name="torso_geom"', 'name="torso_geom" contype="1"')
    text = text.replace("</worldbody>", _boxes(np.array(walls)) + "</worldbody>")
    return mjcf.loads(text).tree_replace({"opt.timestep": _TIMESTEP})


def _boxes(walls: np.ndarray) -> str:
    """MuJoCo boxes that cover the walls, few and long: runs along a row first, then what is left along columns."""
    left, boxes = walls.copy(), []
    for along_column in (False, True):
        grid = left.T if along_column else left
        for line, cells in enumerate(grid):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], cells, [False]]).astype(int)))
            for first, end in edges.reshape(-1, 2):
                if end - first == 1 and not along_column:
                    continue
                grid[line, first:end] = False
                middle, half = CELL * (first + end - 1) / 2, CELL * (end - first) / 2
                place, size = ((CELL * line, middle), (CELL / 2, half)) if along_column else (
                    (middle, CELL * line),
                    (half, CELL / 2),
                )
                boxes.append((place, size))
    geom = '<geom type="box" pos="{} {} 0.5" size="{} {} 0.5" contype="0" conaffinity="1" condim="3"/>'
    return "".join(geom.format(*place, *size) for place, size in boxes)
