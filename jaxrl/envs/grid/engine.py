"""The rules of MiniGrid for one world: what the seven actions do, when an episode ends, what it pays, what is seen.

A task subclasses ``Grid`` and writes ``generate``; some change one rule. ``Compass`` has four moves in place of the
seven actions.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs.contract import AutoReset
from jaxrl.envs.grid import cells
from jaxrl.envs.grid.cells import EMPTY, cell, kind_of
from jaxrl.envs.grid.view import agent_view, full_view, step_of
from jaxrl.errors import UserError, unknown
from jaxrl.types import Array, Discrete, Key

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
VIEWS = ("agent", "full")


class GridState(NamedTuple):
    """One world; 2 bytes a cell and 24 bytes."""

    grid: Array  # [H, W] uint16, see cells.py
    x: Array  # [] int32  column of the agent
    y: Array  # [] int32  row, growing downwards
    direction: Array  # [] int32  0 right, 1 down, 2 left, 3 up
    carrying: Array  # [] uint16  a cell; EMPTY for nothing
    time: Array  # [] int32  steps taken
    mission: Array  # [] int32  what the task keeps: a cell's index, the context's number, ...


class Grid(AutoReset):
    """Base class of the tasks: MiniGrid's rules, 7 actions, reward ``1 - 0.9 t / max_steps`` when the goal is reached.

    Observation: uint8 ``[7, 7, 3]`` first-person (``view="agent"``) or ``[W, H, 3]`` (``view="full"``), as in MiniGrid;
    its ``direction`` and mission text are not part of it. ``state_id`` is the agent's cell, ``y * width + x``.
    ``solved`` is the return of success in ``par`` steps: what a policy needs that goes to the goal without wandering.
    """

    lazy_reset = True
    actions = Discrete(7)
    see_through_walls = False

    decay = 0.9  # of the reward over an episode; 0 pays 1 whenever the goal is reached

    def __init__(self, width: int, height: int, max_steps: int | None, default_steps: int, par: float, view: str):
        if view not in VIEWS:
            raise unknown("view", view, VIEWS)
        if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1):
            raise UserError(f"max_steps={max_steps!r} must be a whole number of steps, at least 1")
        self.width, self.height, self.view = width, height, view
        self.max_steps = default_steps if max_steps is None else max_steps
        self.solved: float | None = self.success_reward(min(par, self.max_steps))
        self.num_states, self.map_shape = width * height, (height, width)

    def generate(self, key: Key, params: Any) -> GridState:
        """A world at the start of an episode."""
        raise NotImplementedError

    def state_id(self, state: GridState, params: Any = None) -> Array:
        """The agent's cell, ``y * width + x``, int32."""
        return state.y * self.width + state.x

    def success_reward(self, time):
        return 1 - self.decay * (time / self.max_steps)

    def reset_env(self, key, params):
        state = self.generate(key, params)
        return self.observe(state, params), state

    def step_env(self, key, state, action, params):
        state, success, failure = self.act(key, state, action, params)
        reward = jnp.where(success, self.success_reward(state.time), 0.0).astype(jnp.float32)
        truncated = state.time >= self.max_steps
        return self.observe(state, params), state, reward, success | failure, truncated, {}

    def observe(self, state: GridState, params: Any) -> Array:
        if self.view == "full":
            return full_view(state.grid, state.x, state.y, state.direction)
        return agent_view(
            state.grid, state.x, state.y, state.direction, state.carrying, see_through=self.see_through_walls
        )

    def render(self, state: GridState, params: Any = None) -> Array:
        """The world from above, uint8 ``[8 H, 8 W, 3]``; what the first-person view shows is lighter."""
        from jaxrl.envs.grid.render import render  # its tiles are drawn on import

        return render(state, visible=self.view == "agent", see_through=self.see_through_walls)

    def act(self, key: Key, state: GridState, action: Array, params: Any) -> tuple[GridState, Array, Array]:
        """(state, success, failure) after one action; the border of every world is wall, so nobody looks past it."""
        x, y = state.x, state.y
        dx, dy = step_of(state.direction)
        front = state.grid.at[y + dy, x + dx].get(mode="promise_in_bounds")
        kind, door_state = kind_of(front), (front >> 7) & 3
        is_door = kind == cells.DOOR
        enterable = (kind == EMPTY) | (kind == cells.FLOOR) | (kind == cells.GOAL) | (kind == cells.LAVA)
        moves = (action == FORWARD) & (enterable | is_door & (door_state == cells.OPEN))

        movable = (kind == cells.KEY) | (kind == cells.BALL) | (kind == cells.BOX)
        swaps = (action == PICKUP) & movable & (state.carrying == EMPTY) | (action == DROP) & (front == EMPTY)
        fits = (state.carrying & 127) == cell(cells.KEY, (front >> 4) & 7)
        turns = is_door & ((door_state != cells.LOCKED) | fits)
        becomes = jnp.where(door_state == cells.OPEN, cells.CLOSED, cells.OPEN).astype(jnp.uint16)
        opened = front & ~jnp.uint16(3 << 7) | becomes << 7
        hidden = jnp.maximum(front >> 9, EMPTY)
        toggled = jnp.where(turns, opened, jnp.where(kind == cells.BOX, hidden, front))
        after = jnp.where(swaps, state.carrying, jnp.where(action == TOGGLE, toggled, front))

        height, width = state.grid.shape
        there = (jnp.arange(height)[:, None] == y + dy) & (jnp.arange(width) == x + dx)
        turn = (action == RIGHT).astype(jnp.int32) - (action == LEFT)
        state = GridState(
            jnp.where(there, after, state.grid),
            x + jnp.where(moves, dx, 0),
            y + jnp.where(moves, dy, 0),
            (state.direction + turn) & 3,
            jnp.where(swaps, front, state.carrying),
            state.time + 1,
            state.mission,
        )
        return state, moves & (kind == cells.GOAL), moves & (kind == cells.LAVA)


@flax.struct.dataclass
class MoveParams:
    """Traced numbers of a Compass task."""

    slip: float = 0.0  # probability that a uniformly random action is played instead


class Compass(Grid):
    """Four actions, right, down, left, up: turn that way and step forward; reward 1 whenever the goal is reached.

    ``solved``: the goal is reached in 95 of 100 evaluation episodes (ours).
    """

    actions = Discrete(4)
    decay = 0.0
    default_params: Any = MoveParams()

    def __init__(self, width: int, height: int, max_steps: int | None, default_steps: int, view: str):
        super().__init__(width, height, max_steps, default_steps, par=0, view=view)
        self.solved = 0.95

    def act(self, key, state, action, params):
        direction = slipped(key, action, 4, params.slip)
        return super().act(key, state._replace(direction=direction), jnp.int32(FORWARD), params)


def slipped(key: Key, action: Array, number: int, slip: Array) -> Array:
    """The action, int32, or with probability ``slip`` one of all ``number`` at random."""
    slips, other = jax.random.uniform(key, (2,))
    return jnp.where(slips < slip, jnp.floor(other * number), action).astype(jnp.int32)


def check_size(name: str, value: Any, least: int, most: int, odd: bool = False) -> None:
    """Raises UserError unless ``value`` is a whole number (an odd one) from ``least`` to ``most``."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and least <= value <= most and (value % 2 == 1 or not odd)):
        kind = "an odd number" if odd else "a whole number"
        raise UserError(f"{name}={value!r} must be {kind} from {least} to {most}")
