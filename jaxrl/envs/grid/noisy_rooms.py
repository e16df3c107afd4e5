"""MultiRoomAB: dark rooms, rooms with a flickering floor, and boxes that stop the flicker. No goal, no reward."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs.grid.cells import BOX, EMPTY, FLOOR, GREY, cell, kind_of
from jaxrl.envs.grid.engine import TOGGLE
from jaxrl.envs.grid.layout import at, below, choose_cell, draws, start
from jaxrl.envs.grid.multiroom import MultiRoom
from jaxrl.envs.grid.view import step_of

FLICKER_BITS = 16  # bits of a random word that decide whether a tile flickers; the others give its colour


@flax.struct.dataclass
class NoisyRoomsParams:
    """Traced numbers: the share of noisy rooms, and of their tiles that change colour at each step."""

    num_rooms: int = 4
    noisy: float = 0.5
    flicker: float = 1.0


class MultiRoomAB(MultiRoom):
    """A chain of rooms of 4 to 8 cells a side, each noisy with probability ``noisy``, else dark (card of Adversarial
    Surprise, Fickinger et al. 2021, whose world this follows).

    The floor of a noisy room is drawn again from six colours at every step; the grey box in it freezes the floor when
    it is toggled, for the rest of the episode, and vanishes. A dark room has the bare floor. Doors, actions and view
    are MiniGrid's. Nothing pays and nothing ends the episode but the step limit, 128: four rounds of 32 steps there.
    At most seven rooms. What a dark room looks like, the box's colour and its vanishing are ours.
    """

    def __init__(
        self,
        max_rooms: int = 4,
        max_room_size: int = 8,
        size: int = 25,
        view: str = "agent",
        max_steps: int | None = None,
    ):
        super().__init__(max_rooms, max_room_size, size, view, 128 if max_steps is None else max_steps)
        self.default_params: Any = NoisyRoomsParams(max_rooms)
        self.solved = None

    def generate(self, key, params):
        chain_key, world_key, flicker_key = jax.random.split(key, 3)
        agent, direction, *drawn = draws(world_key, 2 + 3 * self.max_rooms)
        colours, noisy, boxes = jnp.split(jnp.stack(drawn), 3)
        chain = self.chain(chain_key, jnp.clip(params.num_rooms, 1, self.max_rooms))
        grid = self.paint(colours, chain)
        rooms = jnp.arange(self.max_rooms)
        noisy = (noisy < params.noisy) & (rooms < chain.length)
        interior = self.interior(chain)
        agent_x, agent_y = choose_cell(agent, interior[0])
        for room in range(self.max_rooms):
            # A tile's mark is its room's number from 1 on; the box holds the same number.
            floor = interior[room] & noisy[room]
            grid = jnp.where(floor, jnp.uint16(cell(FLOOR, GREY, contents=room + 1)), grid)
            box = at(grid, *choose_cell(boxes[room], interior[room] & ~at(grid, agent_x, agent_y))) & noisy[room]
            grid = jnp.where(box, jnp.uint16(cell(BOX, GREY, contents=room + 1)), grid)
        grid = flicker(flicker_key, grid, 1.0)
        return start(grid, agent_x, agent_y, below(direction, 4))

    def act(self, key, state, action, params):
        dx, dy = step_of(state.direction)
        front = state.grid.at[state.y + dy, state.x + dx].get(mode="promise_in_bounds")
        switched = jnp.where((action == TOGGLE) & (kind_of(front) == BOX), front >> 9, 0)
        state, success, failure = super().act(key, state, action, params)
        grid = jnp.where((switched > 0) & at(state.grid, state.x + dx, state.y + dy), jnp.uint16(EMPTY), state.grid)
        marked = (kind_of(grid) == FLOOR) & (grid >> 9 == switched)
        grid = jnp.where(marked, grid & jnp.uint16(511), grid)
        return state._replace(grid=flicker(key, grid, params.flicker)), success, failure


def flicker(key, grid, share):
    """Marked floor tiles in new colours, each with probability ``share``."""
    words = jax.random.bits(key, grid.shape, jnp.uint32)
    changes = (words & (2**FLICKER_BITS - 1)) < jnp.asarray(share * 2**FLICKER_BITS, jnp.uint32)
    colour = ((words >> FLICKER_BITS) % 6).astype(jnp.uint16)
    marked = (kind_of(grid) == FLOOR) & (grid >> 9 > 0)
    return jnp.where(marked & changes, grid & jnp.uint16(~(7 << 4) & 0xFFFF) | colour << 4, grid)
