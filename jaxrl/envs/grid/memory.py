"""MiniGrid's Memory: an object in the first room says which end of the far corridor pays."""

import jax.numpy as jnp

from jaxrl.envs.grid.cells import BALL, GREEN, GREY_WALL, KEY, cell
from jaxrl.envs.grid.engine import PICKUP, TOGGLE, Grid, check_size
from jaxrl.envs.grid.layout import between, coordinates, draws, put, start, walled


class Memory(Grid):
    """Look at the key or ball in the start room, walk down the hallway, and turn to the object that is the same.

    The end beside the matching object pays, the other ends the episode unpaid: without memory the return is at most
    half. As in MiniGrid picking up is toggling, so nothing can be carried along, the agent may start anywhere in the
    hallway, looking away from the room, and the step limit is 5 size^2. ``random_length`` draws the hallway's length.
    """

    def __init__(
        self, size: int = 7, random_length: bool = False, view: str = "agent", max_steps: int | None = None
    ):
        check_size("size", size, 7, 255, odd=True)
        super().__init__(size, size, max_steps, 5 * size**2, par=2.5 * size, view=view)
        self.random_length = random_length

    def generate(self, key, params):
        size, middle = self.width, self.height // 2
        length, place, cue, order = draws(key, 4)
        end = between(length, 4, size - 2) if self.random_length else jnp.int32(size - 3)
        x, y = coordinates(size, size)
        off = jnp.abs(y - middle)
        room = (x >= 1) & (x <= 4) & (off == 2) | (x == 4) & (off == 1)
        hallway = (x >= 5) & (x < end) & (off == 1)
        fork = (x == end) & (off > 0) | (x == end + 2)
        grid = jnp.where(room | hallway | fork, jnp.uint16(GREY_WALL), walled(size, size))

        key_cell, ball_cell = cell(KEY, GREEN), cell(BALL, GREEN)
        cue_is_key, key_is_up = cue < 0.5, order < 0.5
        grid = put(grid, 1, middle - 1, jnp.where(cue_is_key, key_cell, ball_cell))
        grid = put(grid, end + 1, middle - 2, jnp.where(key_is_up, key_cell, ball_cell))
        grid = put(grid, end + 1, middle + 2, jnp.where(key_is_up, ball_cell, key_cell))
        success_y = jnp.where(cue_is_key == key_is_up, middle - 1, middle + 1)
        return start(grid, between(place, 1, end + 1), middle, 0, mission=success_y * size + end + 1)

    def act(self, key, state, action, params):
        state, _, _ = super().act(key, state, jnp.where(action == PICKUP, TOGGLE, action), params)
        success_x, success_y = state.mission % self.width, state.mission // self.width
        success = (state.x == success_x) & (state.y == success_y)
        failure = (state.x == success_x) & (state.y == self.height - 1 - success_y)
        return state, success, failure
