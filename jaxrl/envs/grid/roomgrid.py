"""A table of square rooms with shared walls, after MiniGrid's RoomGrid: the base of KeyCorridor and ObstructedMaze."""

import jax.numpy as jnp

from jaxrl.envs.grid.cells import EMPTY, GREY_WALL, WALL, kind_of
from jaxrl.envs.grid.engine import Grid
from jaxrl.envs.grid.layout import between, choose, choose_cell, coordinates, put
from jaxrl.types import Array


class RoomGrid(Grid):
    """``columns`` x ``rows`` rooms of ``room_size`` cells a side, walls included and shared."""

    def __init__(self, columns: int, rows: int, room_size: int, max_steps, default_steps: int, par: float, view: str):
        self.columns, self.rows, self.room_size, self.pitch = columns, rows, room_size, room_size - 1
        super().__init__(
            columns * self.pitch + 1, rows * self.pitch + 1, max_steps, default_steps, par=par, view=view
        )

    def walls(self) -> Array:
        x, y = coordinates(self.width, self.height)
        wall = (x % self.pitch == 0) | (y % self.pitch == 0)
        return jnp.where(wall, jnp.uint16(GREY_WALL), jnp.uint16(EMPTY))

    def room(self, column: Array | int, row: Array | int) -> Array:
        """Bool ``[H, W]``: the cells of a room, its walls included."""
        x, y = coordinates(self.width, self.height)
        left, top = column * self.pitch, row * self.pitch
        return (x >= left) & (x <= left + self.pitch) & (y >= top) & (y <= top + self.pitch)

    def door_places(self, drawn: Array) -> tuple[Array, Array]:
        """(y ``[rows, columns]`` of the door in each room's right wall, x of the one in its bottom wall).

        ``drawn``: two draws a room.
        """
        offsets = between(drawn.reshape(2, self.rows, self.columns), 1, self.pitch)
        row, column = jnp.arange(self.rows)[:, None], jnp.arange(self.columns)[None, :]
        return row * self.pitch + offsets[0], column * self.pitch + offsets[1]

    def place(self, draw: Array, grid: Array, column: Array | int, row: Array | int, cell: Array | int) -> Array:
        """The grid with ``cell`` on a free cell of a room, not on or beside the middle of the middle room.

        MiniGrid keeps objects away from the agent before it is moved to its room: from that middle.
        """
        x, y = coordinates(self.width, self.height)
        middle_x = self.columns // 2 * self.pitch + self.room_size // 2
        middle_y = self.rows // 2 * self.pitch + self.room_size // 2
        near = jnp.abs(x - middle_x) + jnp.abs(y - middle_y) < 2
        return put(grid, *choose_cell(draw, self.room(column, row) & (grid == EMPTY) & ~near), cell)

    def place_agent(self, draw: Array, grid: Array, column: int, row: int) -> tuple[Array, Array, Array]:
        """(x, y, direction) uniform among those in a room that look at a free cell or at a wall."""
        open_ahead = (grid == EMPTY) | (kind_of(grid) == WALL)
        ahead = [jnp.roll(open_ahead, shift, axis) for shift, axis in ((-1, 1), (-1, 0), (1, 1), (1, 0))]
        allowed = jnp.stack(ahead) & (grid == EMPTY) & self.room(column, row)
        index = choose(draw, allowed.reshape(4, -1))
        direction, place = index // grid.size, index % grid.size
        return place % self.width, place // self.width, direction
