"""A world drawn as text, for a user's own fixed maps."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl import disk
from jaxrl.envs.grid.cells import (
    BALL,
    BLUE,
    BOX,
    CLOSED,
    DOOR,
    EMPTY,
    GREEN_GOAL,
    GREY,
    GREY_WALL,
    KEY,
    LOCKED,
    OPEN,
    RED_LAVA,
    cell,
)
from jaxrl.envs.grid.engine import FORWARD, Compass, Grid, MoveParams, slipped
from jaxrl.envs.grid.layout import start
from jaxrl.errors import UserError

MOST = 2**20  # ours, bytes of a map's file
STARTS = {">": 0, "v": 1, "<": 2, "^": 3}
LEGEND = {
    "#": GREY_WALL, ".": EMPTY, " ": EMPTY, "G": GREEN_GOAL, "L": RED_LAVA,
    "+": cell(DOOR, GREY, CLOSED), "'": cell(DOOR, GREY, OPEN), "o": cell(BALL, BLUE), "x": cell(BOX, GREY),
    **{letter: cell(DOOR, colour, LOCKED) for colour, letter in enumerate("ABCDEF")},
    **{letter: cell(KEY, colour) for colour, letter in enumerate("abcdef")},
    **dict.fromkeys(STARTS, EMPTY),
}  # fmt: skip
EXAMPLE = """
#########
#>..#...#
#...A...#
#.a.#..G#
#########
"""


class Map(Grid):
    """The world of ``map``, a text or the path of one; always the same.

    ``#`` wall, ``.`` or space free, ``G`` goal, ``L`` lava, one of ``> v < ^`` the start and where the agent looks,
    ``A``-``F`` locked doors (red, green, blue, purple, yellow, grey) and ``a``-``f`` their keys, ``+`` a closed door,
    ``'`` an open one, ``o`` a ball, ``x`` an empty box. The border must be wall.

    MiniGrid's actions and reward; with ``compass=True`` four moves, and 1 for reaching the goal. ``solved`` is not
    known here. params: ``slip``. Step limit 4 width x height unless ``max_steps`` says otherwise. Raises UserError for
    a text that is no such map.
    """

    default_params: Any = MoveParams()

    def __init__(self, map: str = EXAMPLE, compass: bool = False, view: str = "agent", max_steps: int | None = None):
        grid, self.start = parsed(text_of(map))
        height, width = grid.shape
        super().__init__(width, height, max_steps, 4 * width * height, par=0, view=view)
        self.grid, self.compass, self.solved = grid, compass, None
        if compass:
            self.actions, self.decay = Compass.actions, Compass.decay

    def generate(self, key, params):
        return start(jnp.asarray(self.grid), *self.start)

    def act(self, key, state, action, params):
        action = slipped(key, action, self.actions.n, params.slip)
        if self.compass:
            state, action = state._replace(direction=action), jnp.int32(FORWARD)
        return super().act(key, state, action, params)


def text_of(map: str) -> str:
    if not isinstance(map, str):
        raise UserError(f"map must be a text of several lines or the path of one, not {type(map).__name__}")
    if "\n" in map:
        return map
    try:
        return disk.read(Path(map), MOST).decode()
    except (OSError, ValueError):
        raise UserError(f"map={map!r} is neither a text of several lines nor the path of a text file") from None


def parsed(text: str) -> tuple[np.ndarray, tuple[int, int, int]]:
    """(uint16 ``[H, W]``, (x, y, direction) of the start)."""
    lines = text.strip("\n").splitlines()
    if len(lines) < 3 or len(lines[0]) < 3:
        raise UserError(f"the map {text!r} is too small: it must have 3 rows and 3 columns at least")
    starts = []
    for y, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise UserError(f"the map's row {y} has {len(line)} characters, row 0 has {len(lines[0])}: make them equal")
        for x, character in enumerate(line):
            if character not in LEGEND:
                known = "".join(sorted(LEGEND))
                raise UserError(f"the map has {character!r} at row {y}, column {x}: allowed are {known!r}")
            if character in STARTS:
                starts.append((x, y, STARTS[character]))
            if character != "#" and (y in (0, len(lines) - 1) or x in (0, len(line) - 1)):
                raise UserError(f"the map's border, at row {y}, column {x}, must be '#', not {character!r}")
    if len(starts) != 1:
        places = ", ".join(f"row {y}, column {x}" for x, y, _ in starts)
        where = f": {places}" if starts else ""
        raise UserError(f"the map has {len(starts)} starts{where}; it must have exactly one of {' '.join(STARTS)}")
    return np.array([[LEGEND[character] for character in line] for line in lines], np.uint16), starts[0]
