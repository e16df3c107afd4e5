"""MiniGrid's ObstructedMaze: locked doors, keys in boxes, balls in front of doors, a blue ball to be picked up."""

import jax.numpy as jnp

from jaxrl.envs.grid.cells import BALL, BLUE, BOX, CLOSED, DOOR, GREEN, GREY, KEY, LOCKED, cell
from jaxrl.envs.grid.engine import PICKUP, check_size
from jaxrl.envs.grid.layout import below, draws, put, start
from jaxrl.envs.grid.roomgrid import RoomGrid
from jaxrl.envs.grid.view import DIRECTIONS
from jaxrl.types import Array

ROOM_SIZE = 6
TARGET, BLOCKER = cell(BALL, BLUE), cell(BALL, GREEN)
SIDE_ROOMS = ((2, 1), (1, 2), (0, 1), (1, 0))  # right of, below, left of and above the middle room
CORNERS = ((2, 0), (2, 2), (0, 2), (0, 0))


class ObstructedMaze(RoomGrid):
    """Common rules: picking up the blue ball pays and ends the episode; boxes are grey, obstructing balls green.

    Step limit 144 a room to be visited, MiniGrid's count of them. Rules of MiniGrid's version 1 where there is one
    (2Dlhb, 1Q, 2Q, Full: keys are placed after the obstructing balls, so none is overwritten), else of version 0.
    """

    def act(self, key, state, action, params):
        state, _, _ = super().act(key, state, action, params)
        return state, (action == PICKUP) & (state.carrying == TARGET), jnp.bool_(False)

    def lock(self, grid: Array, right_y: Array, bottom_x: Array, room, side: int, colour, blocked: bool) -> Array:
        """The grid with a locked door in one wall of a room, and a ball inside the room in front of it."""
        x, y = self.door_place(right_y, bottom_x, room, side)
        grid = put(grid, x, y, cell(DOOR, colour, LOCKED))
        dx, dy = DIRECTIONS[side]
        return put(grid, x - dx, y - dy, BLOCKER) if blocked else grid

    def door_place(self, right_y: Array, bottom_x: Array, room, side: int) -> tuple[Array, Array]:
        """(x, y) of the door in the right, bottom, left or top wall of a room."""
        column, row = room
        dx, dy = DIRECTIONS[side]
        if dx:
            owner = column if dx > 0 else column - 1
            return jnp.int32((owner + 1) * self.pitch), right_y[row, owner]
        owner = row if dy > 0 else row - 1
        return bottom_x[owner, column], jnp.int32((owner + 1) * self.pitch)

    def place_key(self, draw: Array, grid: Array, room, colour, boxed: bool) -> Array:
        hidden = cell(KEY, colour)
        return self.place(draw, grid, room[0], room[1], cell(BOX, GREY, contents=hidden) if boxed else hidden)


class ObstructedMaze1D(ObstructedMaze):
    """Two rooms, one locked door: 1Dl, with its key in a box 1Dlh, and a ball in front of the door 1Dlhb."""

    def __init__(self, boxed: bool = True, blocked: bool = True, view: str = "agent", max_steps: int | None = None):
        super().__init__(2, 1, ROOM_SIZE, max_steps, 2 * 144, par=1.5 * (22 + 2 * boxed + 5 * blocked), view=view)
        self.boxed, self.blocked = boxed, blocked

    def generate(self, key, params):
        places, rest = jnp.split(draws(key, 8), (4,))
        colour = below(rest[0], 6)
        grid = self.lock(self.walls(), *self.door_places(places), (0, 0), 0, colour, self.blocked)
        grid = self.place_key(rest[1], grid, (0, 0), colour, self.boxed)
        grid = self.place(rest[2], grid, 1, 0, TARGET)
        return start(grid, *self.place_agent(rest[3], grid, 0, 0))


class ObstructedMazeFull(ObstructedMaze):
    """Nine rooms; the middle one opens on ``quarters`` side rooms, each with two locked doors to the corners.

    The ball is in one of the first ``quarters`` corners. 2Dl, 2Dlh, 2Dlhb and 1Q have one quarter, the agent in the
    side room (1Q: in the middle); 2Q has two, Full four.
    """

    def __init__(
        self,
        quarters: int = 4,
        boxed: bool = True,
        blocked: bool = True,
        from_middle: bool = True,
        rooms_visited: int = 25,
        view: str = "agent",
        max_steps: int | None = None,
    ):
        check_size("quarters", quarters, 1, 4)
        par = 1.5 * (40 + 30 * (quarters - 1) + 8 * from_middle + 4 * boxed + 10 * blocked)
        super().__init__(3, 3, ROOM_SIZE, max_steps, 144 * rooms_visited, par=par, view=view)
        self.quarters, self.boxed, self.blocked = quarters, boxed, blocked
        self.agent_room = (1, 1) if from_middle else (2, 1)

    def generate(self, key, params):
        places, order, rest, keys = jnp.split(draws(key, 27 + 2 * self.quarters), (18, 24, 27))
        places, colours = self.door_places(places), jnp.argsort(order)
        grid = self.walls()
        for side, room in enumerate(SIDE_ROOMS[: self.quarters]):
            grid = put(grid, *self.door_place(*places, (1, 1), side), cell(DOOR, colours[side], CLOSED))
            turns = [((side + turn) % 4, colours[(side + turn) % 6]) for turn in (-1, 1)]
            for wall, colour in turns:
                grid = self.lock(grid, *places, room, wall, colour, self.blocked)
            for turn, (_, colour) in enumerate(turns):
                grid = self.place_key(keys[2 * side + turn], grid, room, colour, self.boxed)
        corner = jnp.asarray(CORNERS)[below(rest[0], self.quarters)]
        grid = self.place(rest[1], grid, corner[0], corner[1], TARGET)
        return start(grid, *self.place_agent(rest[2], grid, *self.agent_room))
