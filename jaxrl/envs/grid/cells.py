"""One cell of the world in 16 bits: what stands there, its colour, a door's state, what a box hides.

    bits 0-3    object      MiniGrid's OBJECT_TO_IDX (1 is an empty cell; 0, "unseen", is never stored)
    bits 4-6    colour      MiniGrid's COLOR_TO_IDX
    bits 7-8    door state  0 open, 1 closed, 2 locked
    bits 9-15   contents    object and colour of what a box hides; 0 for nothing. A floor tile keeps a task's mark here.
"""

import jax.numpy as jnp

from jaxrl.types import Array

UNSEEN, EMPTY, WALL, FLOOR, DOOR, KEY, BALL, BOX, GOAL, LAVA, AGENT = range(11)
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)
OPEN, CLOSED, LOCKED = range(3)

GREY_WALL = WALL | GREY << 4
GREEN_GOAL = GOAL | GREEN << 4
RED_LAVA = LAVA | RED << 4
SHIFTS, MASKS = (0, 4, 7), (15, 7, 3)  # of the three channels of an observation


def cell(kind, colour, state=OPEN, contents=0):
    """The 16 bits of one cell; ints give an int, arrays an array. ``contents`` is a cell without state: key, ball."""
    return kind | colour << 4 | state << 7 | contents << 9


def kind_of(cells: Array) -> Array:
    return cells & 15


def decode(cells: Array) -> Array:
    """MiniGrid's encoding, uint8 ``[*shape, 3]``: object, colour, state."""
    shifts, masks = jnp.asarray(SHIFTS, jnp.uint16), jnp.asarray(MASKS, jnp.uint16)
    return ((cells[..., None] >> shifts) & masks).astype(jnp.uint8)
