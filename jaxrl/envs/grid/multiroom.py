"""MiniGrid's MultiRoom: a chain of rooms of random size joined by closed doors, the goal in the last one."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs.grid.cells import CLOSED, DOOR, EMPTY, GREEN_GOAL, GREY_WALL, cell
from jaxrl.envs.grid.engine import Grid, check_size
from jaxrl.envs.grid.layout import at, below, choose_cell, coordinates, draws, put, start
from jaxrl.errors import UserError
from jaxrl.types import Array, Key

SMALLEST = 4  # cells a side of a room, its walls included
PLACEMENTS = 8  # MiniGrid's: tries to append a room before a chain is given up


class Chain(NamedTuple):
    """Up to R rooms in the order they are walked through; a room shares its door's wall with the one before."""

    length: Array  # [] int32  rooms
    x: Array  # [R] int32  left wall
    y: Array  # [R] int32  top wall
    width: Array  # [R] int32  walls included
    height: Array  # [R] int32
    door_x: Array  # [R] int32  of the door it is entered by; meaningless for the first room
    door_y: Array  # [R] int32
    wall: Array  # [R] int32  which wall that door is in: 0 right, 1 bottom, 2 left, 3 top


@flax.struct.dataclass
class MultiRoomParams:
    num_rooms: int = 6  # at most the capacity, ``max_rooms``; more means that


class MultiRoom(Grid):
    """``num_rooms`` rooms of 4 to ``max_room_size`` cells a side in a 25x25 world; neighbouring doors differ in colour.

    The step limit is 20 a room of the capacity, as in MiniGrid. Constructor: ``max_rooms`` (capacity, and the default
    number of rooms), ``max_room_size``, ``size`` of the world; params: ``num_rooms``, traced, from 1 to ``max_rooms``.

    A chain is grown as MiniGrid grows it: size, wall and place of a room are drawn, eight times at most until it fits.
    Where MiniGrid then starts again from nothing, so does this, up to eight rooms: the distribution is the same. Longer
    chains, which MiniGrid starts again up to a thousand times, drop their last three rooms instead (ours).
    After 1024 times eight placements the longest chain found so far is taken (fewer rooms, never an unsolvable world).
    """

    rounds = 1024  # of eight placements each
    faithful_rooms = 8  # longest chain that is grown by starting again from nothing

    def __init__(
        self,
        max_rooms: int = 6,
        max_room_size: int = 10,
        size: int = 25,
        view: str = "agent",
        max_steps: int | None = None,
    ):
        check_size("size", size, SMALLEST + 1, 255)
        check_size("max_room_size", max_room_size, SMALLEST, size - 1)
        fitting = ((size - 1) // (SMALLEST - 1)) ** 2 // 2
        if isinstance(max_rooms, bool) or not isinstance(max_rooms, int) or not 1 <= max_rooms <= fitting:
            raise UserError(
                f"max_rooms={max_rooms!r} cannot be: a chain of 1 to {fitting} rooms fits into a world of "
                f"{size}x{size} cells"
            )
        mean_size = (SMALLEST + max_room_size) / 2
        super().__init__(size, size, max_steps, 20 * max_rooms, par=1.2 * max_rooms * (mean_size + 2), view=view)
        self.max_rooms, self.max_room_size = max_rooms, max_room_size
        self.default_params: Any = MultiRoomParams(max_rooms)

    def generate(self, key, params):
        chain_key, world_key = jax.random.split(key)
        agent, direction, goal, *colours = draws(world_key, 3 + self.max_rooms)
        chain = self.chain(chain_key, jnp.clip(params.num_rooms, 1, self.max_rooms))
        grid = self.paint(jnp.stack(colours), chain)
        agent_x, agent_y = choose_cell(agent, self.interior(chain)[0])
        last = jnp.take(self.interior(chain), chain.length - 1, axis=0)
        grid = put(grid, *choose_cell(goal, last & ~at(grid, agent_x, agent_y)), GREEN_GOAL)
        return start(grid, agent_x, agent_y, below(direction, 4))

    def interior(self, chain: Chain) -> Array:
        """Bool ``[R, H, W]``: the floor of each room."""
        x, y = coordinates(self.width, self.height)
        left, top, width, height = (
            side[:, None, None] for side in (chain.x, chain.y, chain.width, chain.height)
        )
        return (x > left) & (x < left + width - 1) & (y > top) & (y < top + height - 1)

    def paint(self, colours: Array, chain: Chain) -> Array:
        """Walls and doors, uint16 ``[H, W]``, from ``[R]`` draws of the doors' colours."""
        x, y = coordinates(self.width, self.height)
        real = (jnp.arange(self.max_rooms) < chain.length)[:, None, None]
        left, top, width, height = (
            side[:, None, None] for side in (chain.x, chain.y, chain.width, chain.height)
        )
        covered = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
        wall = jnp.any(real & covered & ~self.interior(chain), 0)
        grid = jnp.where(wall, jnp.uint16(GREY_WALL), jnp.uint16(EMPTY))

        # Each colour is one to five further than the one before, around the circle of six.
        colours = jnp.cumsum(1 + below(colours, 5)) % 6
        for room in range(1, self.max_rooms):
            door = at(grid, chain.door_x[room], chain.door_y[room]) & (room < chain.length)
            grid = jnp.where(door, cell(DOOR, colours[room], CLOSED).astype(jnp.uint16), grid)
        return grid

    def chain(self, key: Key, num_rooms: Array) -> Chain:
        """Rooms that do not overlap, by random placement."""
        seeds = jax.random.bits(key, (PLACEMENTS, 5), jnp.uint32)
        none = jnp.zeros(self.max_rooms, jnp.uint32)
        nothing = jnp.int32(0), (none, none)

        def unfinished(loop):
            tried, _, (length, _) = loop
            return (tried < self.rounds) & (length < num_rooms)

        def place(loop):
            tried, (length, rooms), longest = loop
            fits, _ = jax.vmap(self.candidate, (0, None, None))(counted(seeds, tried), length, rooms)
            # The first of the eight that fits, made again. None does: the chain is given up.
            first = jnp.min(jnp.where(fits, jnp.arange(PLACEMENTS), PLACEMENTS))
            fitting = first < PLACEMENTS
            _, room = self.candidate(counted(seeds[jnp.minimum(first, PLACEMENTS - 1)], tried), length, rooms)
            slot = (jnp.arange(self.max_rooms) == length) & fitting
            rooms = tuple(jnp.where(slot, new, old) for new, old in zip(room, rooms, strict=True))
            kept = jnp.where(num_rooms <= self.faithful_rooms, 0, jnp.maximum(length - 3, 0))
            length = jnp.where(fitting, length + 1, kept)
            better = length > longest[0]
            longest = jax.tree.map(lambda new, old: jnp.where(better, new, old), (length, rooms), longest)
            return tried + 1, (length, rooms), longest

        length, rooms = jax.lax.while_loop(unfinished, place, (jnp.int32(0), nothing, nothing))[-1]
        return Chain(length, *unpacked(rooms[0], 4), *unpacked(rooms[1], 3))

    def candidate(self, drawn: Array, length: Array, rooms: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        """(does it fit?, one more room) from five draws; rooms are packed into two words, to be chosen among fast."""
        width = SMALLEST + below(drawn[0], self.max_room_size - SMALLEST + 1)
        height = SMALLEST + below(drawn[1], self.max_room_size - SMALLEST + 1)
        older_x, older_y, older_width, older_height = unpacked(rooms[0], 4)
        last = [jnp.max(jnp.where(jnp.arange(self.max_rooms) == length - 1, word, 0)) for word in rooms]
        left, top, last_width, last_height = unpacked(last[0], 4)
        last_wall = unpacked(last[1], 3)[2]

        # Out by any wall of the last room but the one it was entered by; into the opposite wall of the new one.
        out = (last_wall + 1 + below(drawn[2], 3)) % 4
        sideways = out % 2 == 0
        along_x, along_y = left + 1 + below(drawn[3], last_width - 2), top + 1 + below(drawn[3], last_height - 2)
        door_x = jnp.where(sideways, left + jnp.where(out == 0, last_width - 1, 0), along_x)
        door_y = jnp.where(sideways, along_y, top + jnp.where(out == 1, last_height - 1, 0))
        slid_x = door_x - width + 2 + below(drawn[4], width - 2)
        slid_y = door_y - height + 2 + below(drawn[4], height - 2)
        x = jnp.where(sideways, door_x - jnp.where(out == 0, 0, width - 1), slid_x)
        y = jnp.where(sideways, slid_y, door_y - jnp.where(out == 1, 0, height - 1))
        first = length == 0
        x = jnp.where(first, below(drawn[3], self.width - 2), x)
        y = jnp.where(first, below(drawn[4], self.height - 2), y)

        # MiniGrid's bounds, which leave the bottom row free, and its strict inequality against the older rooms.
        inside = (x >= 0) & (y >= 0) & (x + width <= self.width) & (y + height < self.height)
        apart = (x + width < older_x) | (older_x + older_width <= x)
        apart = apart | (y + height < older_y) | (older_y + older_height <= y)
        fits = inside & jnp.all(apart | (jnp.arange(self.max_rooms) >= length - 1))
        entered = jnp.where(first, 2, (out + 2) % 4)
        return fits, (packed(x, y, width, height), packed(door_x, door_y, entered))


def packed(*fields: Array) -> Array:
    """Up to four numbers below 256 in one uint32."""
    word = jnp.uint32(0)
    for place, field in enumerate(fields):
        word = word | (field.astype(jnp.uint32) & 255) << 8 * place
    return word


def unpacked(word: Array, count: int) -> list[Array]:
    return [(word >> 8 * place & 255).astype(jnp.int32) for place in range(count)]


def counted(seeds: Array, count: Array) -> Array:
    """Draws from [0, 1), one for each seed, uint32, and count: MurmurHash3's finaliser over a Weyl sequence.

    Keys would be most of the loop's time: a chain needs hundreds of draws.
    """
    x = seeds + count.astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    x = (x ^ x >> 16) * jnp.uint32(0x85EBCA6B)
    x = (x ^ x >> 13) * jnp.uint32(0xC2B2AE35)
    return ((x ^ x >> 16) >> 8).astype(jnp.float32) * 2.0**-24
