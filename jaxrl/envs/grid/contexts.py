"""Worlds of the study of global and episodic bonuses (Henaff et al. 2023): Corridors, ContextRooms."""

from typing import Any

import flax.struct
import jax.numpy as jnp

from jaxrl.envs.grid.cells import EMPTY, GREEN_GOAL, GREY_WALL, RED_LAVA
from jaxrl.envs.grid.engine import Compass, MoveParams, check_size
from jaxrl.envs.grid.layout import at, between, choose_cell, context_key, coordinates, draws, put, start


@flax.struct.dataclass
class CorridorsParams(MoveParams):
    """``goal``: the corridor that pays, counted from the top; the topmost is one of the two farthest."""

    goal: int = 0


class Corridors(Compass):
    """A fixed map: ``corridors`` dead ends of ``length`` cells off one hall, one of them with the goal at its end.

    The agent starts in the hall's middle and sees its surroundings only (``view="agent"``), or all of it. The default
    step limit, length + corridors, lets it walk to the end of any one corridor in an episode, not of a second one.
    Reaching the goal pays 1. The comb shape is ours: in a grid one cell cannot have more than four exits.
    """

    default_params: Any = CorridorsParams()

    def __init__(self, corridors: int = 5, length: int = 12, view: str = "agent", max_steps: int | None = None):
        check_size("corridors", corridors, 2, 100)
        check_size("length", length, 1, 200)
        width, height = length + 3, 2 * corridors + 1
        super().__init__(width, height, max_steps, length + corridors, view=view)
        self.corridors = corridors

    def generate(self, key, params):
        x, y = coordinates(self.width, self.height)
        hall = (x == 1) & (y >= 1) & (y <= self.height - 2)
        corridor = (y % 2 == 1) & (x >= 1) & (x <= self.width - 2)
        grid = jnp.where(hall | corridor, jnp.uint16(EMPTY), jnp.uint16(GREY_WALL))
        goal = jnp.clip(params.goal, 0, self.corridors - 1)
        return start(put(grid, self.width - 2, 2 * goal + 1, GREEN_GOAL), 1, self.corridors, 0)


@flax.struct.dataclass
class ContextRoomsParams(MoveParams):
    """``contexts``: how many different worlds there are; 0 for a new one in each episode."""

    contexts: int = 0


class ContextRooms(Compass):
    """Four rooms of a 9x9 world with lava for inner walls; gaps, start and goal depend on the episode's context.

    A context's number is drawn uniformly from ``contexts`` at each reset (``state.mission``; -1 if unbounded), and the
    world is a function of that number alone: the same under every seed. Lava ends the episode unpaid, the goal pays 1.
    Four moves; the whole grid is seen by default; step limit 100.
    """

    default_params: Any = ContextRoomsParams()

    def __init__(self, size: int = 9, view: str = "full", max_steps: int | None = None):
        check_size("size", size, 7, 65, odd=True)
        super().__init__(size, size, max_steps, 100, view=view)

    def generate(self, key, params):
        key, context = context_key(key, params.contexts)
        agent, goal, *gaps = draws(key, 6)
        size, middle = self.width, self.width // 2
        x, y = coordinates(size, size)
        inside = (x > 0) & (x < size - 1) & (y > 0) & (y < size - 1)
        lava = inside & ((x == middle) | (y == middle))
        grid = jnp.where(inside, jnp.where(lava, jnp.uint16(RED_LAVA), jnp.uint16(EMPTY)), jnp.uint16(GREY_WALL))
        gaps = [between(gap, 1, middle) for gap in gaps]
        for along, shift in enumerate((0, middle)):
            grid = put(grid, middle, shift + gaps[along], EMPTY)
            grid = put(grid, shift + gaps[2 + along], middle, EMPTY)
        room = (grid == EMPTY) & (x != middle) & (y != middle)
        agent_x, agent_y = choose_cell(agent, room)
        grid = put(grid, *choose_cell(goal, room & ~at(grid, agent_x, agent_y)), GREEN_GOAL)
        return start(grid, agent_x, agent_y, 0, mission=context)
