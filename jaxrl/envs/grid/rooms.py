"""MiniGrid's tasks of one to four rooms: Empty, FourRooms, DoorKey, LavaGap, Crossing.

``par`` of each task is 1.5 times the mean shortest solution (tests/envs/test_grid_generators.py plans it).
"""

import jax.numpy as jnp

from jaxrl.envs.grid import cells
from jaxrl.envs.grid.cells import EMPTY, GREEN_GOAL, GREY_WALL, RED_LAVA, cell
from jaxrl.envs.grid.engine import Grid, check_size
from jaxrl.envs.grid.layout import at, below, between, choose_cell, coordinates, draws, put, start, walled

LARGEST = 255  # cells a side


class Empty(Grid):
    """One room with the goal in the bottom right corner; the agent starts in the top left one, or anywhere.

    As in MiniGrid the agent sees through walls, and the step limit is 4 size^2.
    """

    see_through_walls = True

    def __init__(self, size: int = 8, random_start: bool = False, view: str = "agent", max_steps: int | None = None):
        check_size("size", size, 4, LARGEST)
        # Across the room and down, with a turn; half of it, with another turn, from anywhere.
        shortest = size - 1 if random_start else 2 * size - 5
        super().__init__(size, size, max_steps, 4 * size**2, par=1.5 * shortest, view=view)
        self.random_start = random_start

    def generate(self, key, params):
        grid = put(walled(self.width, self.height), self.width - 2, self.height - 2, GREEN_GOAL)
        if not self.random_start:
            return start(grid, 1, 1, 0)
        place, direction = draws(key, 2)
        return start(grid, *choose_cell(place, grid == EMPTY), below(direction, 4))


class FourRooms(Grid):
    """Four rooms of a 19x19 world joined by gaps; agent and goal anywhere. Step limit 100, as in MiniGrid."""

    def __init__(self, view: str = "agent", max_steps: int | None = None):
        super().__init__(19, 19, max_steps, 100, par=30, view=view)

    def generate(self, key, params):
        agent, direction, goal, *gaps = draws(key, 7)
        x, y = coordinates(19, 19)
        grid = jnp.where((x == 9) | (y == 9), jnp.uint16(GREY_WALL), walled(19, 19))
        gaps = [between(gap, 1, 9) for gap in gaps]
        for gap_x, gap_y in ((9, gaps[0]), (9, 9 + gaps[1]), (gaps[2], 9), (9 + gaps[3], 9)):
            grid = put(grid, gap_x, gap_y, EMPTY)
        agent_x, agent_y = choose_cell(agent, grid == EMPTY)
        free = (grid == EMPTY) & ~at(grid, agent_x, agent_y)
        grid = put(grid, *choose_cell(goal, free), GREEN_GOAL)
        return start(grid, agent_x, agent_y, below(direction, 4))


class DoorKey(Grid):
    """Fetch the key, open the locked door in the wall, reach the goal in the corner. Step limit 10 size^2."""

    def __init__(self, size: int = 8, view: str = "agent", max_steps: int | None = None):
        check_size("size", size, 5, LARGEST)
        super().__init__(size, size, max_steps, 10 * size**2, par=4 * size - 6, view=view)

    def generate(self, key, params):
        size = self.width
        split, agent, direction, door, key_place = draws(key, 5)
        x, _ = coordinates(size, size)
        split = between(split, 2, size - 2)
        grid = put(walled(size, size), size - 2, size - 2, GREEN_GOAL)
        grid = jnp.where(x == split, jnp.uint16(GREY_WALL), grid)
        left = (grid == EMPTY) & (x < split)
        agent_x, agent_y = choose_cell(agent, left)
        grid = put(grid, split, between(door, 1, size - 2), cell(cells.DOOR, cells.YELLOW, cells.LOCKED))
        grid = put(grid, *choose_cell(key_place, left & ~at(grid, agent_x, agent_y)), cell(cells.KEY, cells.YELLOW))
        return start(grid, agent_x, agent_y, below(direction, 4))


class LavaGap(Grid):
    """A column of lava with one gap between the start and the goal in the corner; lava ends the episode unpaid."""

    def __init__(self, size: int = 7, view: str = "agent", max_steps: int | None = None):
        check_size("size", size, 5, LARGEST)
        super().__init__(size, size, max_steps, 4 * size**2, par=1.5 * (2 * size - 3), view=view)

    def generate(self, key, params):
        size = self.width
        gap_x, gap_y = draws(key, 2)
        x, y = coordinates(size, size)
        gap_x, gap_y = between(gap_x, 2, size - 2), between(gap_y, 1, size - 1)
        grid = put(walled(size, size), size - 2, size - 2, GREEN_GOAL)
        lava = (x == gap_x) & (y != gap_y) & (y > 0) & (y < size - 1)
        return start(jnp.where(lava, jnp.uint16(RED_LAVA), grid), 1, 1, 0)


class Crossing(Grid):
    """``crossings`` straight rivers of lava, or walls, each with one opening on the way to the goal in the corner."""

    def __init__(
        self, size: int = 9, crossings: int = 1, lava: bool = True, view: str = "agent", max_steps: int | None = None
    ):
        check_size("size", size, 5, LARGEST, odd=True)
        check_size("crossings", crossings, 1, size - 3)
        super().__init__(size, size, max_steps, 4 * size**2, par=1.5 * (2 * size - 2 + 2 * crossings), view=view)
        self.crossings, self.obstacle = crossings, RED_LAVA if lava else GREY_WALL

    def generate(self, key, params):
        size, each = self.width, (self.width - 3) // 2  # places for a river in each direction
        drawn = draws(key, 2 * each + 2 * self.crossings)
        rivers, path, openings = jnp.split(drawn, (2 * each, 2 * each + self.crossings))
        x, y = coordinates(size, size)
        place = 2 * (jnp.arange(2 * each) % each) + 2
        rank = jnp.argsort(jnp.argsort(rivers))
        vertical, horizontal = [
            (rank < self.crossings) & mask for mask in (jnp.arange(2 * each) < each, jnp.arange(2 * each) >= each)
        ]
        river = jnp.any((x[..., None] == place) & vertical, -1) | jnp.any((y[..., None] == place) & horizontal, -1)
        inside = (x > 0) & (x < size - 1) & (y > 0) & (y < size - 1)
        grid = put(walled(size, size), size - 2, size - 2, GREEN_GOAL)
        grid = jnp.where(river & inside, jnp.uint16(self.obstacle), grid)

        # The path crosses the rivers of each direction in their order, the two directions mixed at random.
        bounds = lambda chosen: jnp.concatenate([jnp.zeros(1, int), jnp.sort(jnp.where(chosen, place, size - 1))])
        bounds_x, bounds_y = bounds(vertical), bounds(horizontal)
        crosses_vertical = jnp.argsort(path) < vertical.sum()
        column = row = jnp.int32(0)
        for step, opening in enumerate(openings):
            rightwards = crosses_vertical[step]
            free_x = between(opening, bounds_x[column] + 1, bounds_x[column + 1])
            free_y = between(opening, bounds_y[row] + 1, bounds_y[row + 1])
            opening_x = jnp.where(rightwards, bounds_x[column + 1], free_x)
            opening_y = jnp.where(rightwards, free_y, bounds_y[row + 1])
            grid = put(grid, opening_x, opening_y, EMPTY)
            column, row = column + rightwards, row + ~rightwards
        return start(grid, 1, 1, 0)
