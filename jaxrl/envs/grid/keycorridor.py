"""MiniGrid's KeyCorridor: a hallway with rooms on both sides, a ball behind a locked door, its key in another room."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.grid.cells import BALL, CLOSED, DOOR, EMPTY, KEY, LOCKED, cell, kind_of
from jaxrl.envs.grid.engine import PICKUP, check_size
from jaxrl.envs.grid.layout import at, below, coordinates, draws, put, start
from jaxrl.envs.grid.roomgrid import RoomGrid
from jaxrl.types import Array


class KeyCorridor(RoomGrid):
    """Find the key on the left, open the locked door on the right, pick up the ball. Step limit 30 room_size^2.

    The hand must be empty for the ball, so the key has to be dropped first.
    """

    def __init__(self, room_size: int = 3, num_rows: int = 3, view: str = "agent", max_steps: int | None = None):
        check_size("room_size", room_size, 3, 64)
        check_size("num_rows", num_rows, 1, 16)
        par = 1.5 * (5 * room_size + room_size * num_rows)
        super().__init__(3, num_rows, room_size, max_steps, 30 * room_size**2, par=par, view=view)

    def generate(self, key, params):
        doors, walls, rest = 6 * self.rows, 4 * self.rows - 2, 7
        drawn = draws(key, doors + 2 * walls + rest)
        places, order, colours, rest = jnp.split(drawn, (doors, doors + walls, doors + 2 * walls))
        right_y, bottom_x = self.door_places(places)
        x, y = coordinates(self.width, self.height)
        hallway = (x > self.pitch) & (x < 2 * self.pitch) & (y > 0) & (y < self.height - 1)
        grid = jnp.where(hallway, jnp.uint16(EMPTY), self.walls())
        locked_row, key_row = below(rest[0], self.rows), below(rest[1], self.rows)
        door_colour, ball_colour = below(rest[2], 6), below(rest[3], 6)
        grid = put(grid, 2 * self.pitch, right_y[locked_row, 1], cell(DOOR, door_colour, LOCKED))
        grid = self.place(rest[4], grid, 2, locked_row, cell(BALL, ball_colour))
        grid = self.place(rest[5], grid, 0, key_row, cell(KEY, door_colour))
        agent_x, agent_y, direction = self.place_agent(rest[6], grid, 1, self.rows // 2)
        grid = self.connect(jnp.argsort(order), below(colours, 6), grid, right_y, bottom_x, locked_row)
        return start(grid, agent_x, agent_y, direction)

    def connect(self, order: Array, colours: Array, grid: Array, right_y: Array, bottom_x: Array, locked_row: Array):
        """Closed doors in walls taken in ``order``, one after the other, until every room can be reached.

        MiniGrid draws walls with replacement and skips those that have a door: the same as a random order of them. The
        locked room gets no second door.
        """
        rows = self.rows
        sides = [(column, row, column + 1, row) for column in (0, 1) for row in range(rows)]
        below = [(column, row, column, row + 1) for column in (0, 2) for row in range(rows - 1)]
        walls = np.array(sides + below)  # [W, 4]  the two rooms that a wall is between
        first, second = walls[:, 1] * 3 + walls[:, 0], walls[:, 3] * 3 + walls[:, 2]
        locked_room = locked_row * 3 + 2
        allowed = (first != locked_room) & (second != locked_room)
        reached = np.arange(3 * rows) % 3 == 1
        reached = jnp.where(jnp.arange(3 * rows) == locked_room, True, jnp.asarray(reached))
        # Rooms with the same number can reach each other; the hallway is one room, and the locked door leads to it.
        group = jnp.where(reached, -1, jnp.arange(3 * rows))

        def add(group, wall):
            a, b = jnp.asarray(first)[wall], jnp.asarray(second)[wall]
            adds = allowed[wall] & jnp.any(group != group[0])
            group = jnp.where(adds & (group == group[b]), group[a], group)
            return group, adds

        _, added = jax.lax.scan(add, group, order)
        for rank in range(len(walls)):
            column, row, _, next_row = (jnp.asarray(walls)[order[rank], i] for i in range(4))
            sideways = row == next_row
            door_x = jnp.where(sideways, (column + 1) * self.pitch, bottom_x[row, column])
            door_y = jnp.where(sideways, right_y[row, column], (row + 1) * self.pitch)
            door = at(grid, door_x, door_y) & added[rank]
            grid = jnp.where(door, cell(DOOR, colours[rank], CLOSED).astype(jnp.uint16), grid)
        return grid

    def act(self, key, state, action, params):
        state, _, _ = super().act(key, state, action, params)
        return state, (action == PICKUP) & (kind_of(state.carrying) == BALL), jnp.bool_(False)
