"""Four rooms, and any other grid of rooms that a map draws."""

import flax.struct
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tabular.mdp import Outcomes, Tabular
from jaxrl.errors import UserError
from jaxrl.types import Array

FOUR_ROOMS = """
#############
#S    #     #
#     #     #
#           #
#     #     #
#     #     #
## ####     #
#     ### ###
#     #     #
#     #     #
#           #
#     #    G#
#############
"""
_MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])


@flax.struct.dataclass
class FourRoomsParams:
    slip: Array | float = 1 / 3  # chance to move in one of the three other directions, in [0, 1]


class FourRooms(Tabular):
    """Up (0), right (1), down (2), left (3) between four rooms; a move into a wall stays.

    The rooms and the slip of Sutton, Precup & Singh (1999): 104 cells, a move goes where it should with 2/3, in each
    other direction with 1/9. Ours: from the corner at the top left to the one at the bottom right, which pays 1 and
    terminates; horizon 100.

    ``layout`` is a map of lines of equal length: ``#`` is a wall, ``S`` a start (one of several is drawn evenly), ``G``
    a goal, a space the floor; beyond the map is wall.
    """

    def __init__(self, layout: str = FOUR_ROOMS, horizon: int = 100, observation: str = "one_hot"):
        cells = _cells(layout)
        goals = cells == "G"
        self.num_terminal = int(goals.sum())
        super().__init__(int((cells != "#").sum()) - self.num_terminal, 4, horizon, observation)
        # Goals come last, because terminal states do.
        self._index = np.full(cells.shape, -1)
        self._index[(cells != "#") & ~goals] = np.arange(self.num_states)
        self._index[goals] = np.arange(self.num_states, self.size)
        self._starts = self._index[cells == "S"].astype(np.int32)
        self._neighbours = _neighbours(self._index, self.size)
        self.default_params = FourRoomsParams()

    def limits(self):
        return {"slip": (0, 1)}

    def starts(self, params):
        return jnp.full(self._starts.size, 1 / self._starts.size), jnp.asarray(self._starts)

    def outcomes(self, state, action, params):
        probability = jnp.where(jnp.arange(4) == action, 1 - params.slip, params.slip / 3)
        following = jnp.asarray(self._neighbours)[state]
        return Outcomes(probability, following, (following >= self.num_states).astype(jnp.float32))

    def picture(self):
        return self._index


def _cells(layout: str) -> np.ndarray:
    lines = layout.strip("\n").split("\n")
    if len({len(line) for line in lines}) != 1:
        raise UserError(f"layout must have lines of equal length, not of {sorted({len(line) for line in lines})}")
    cells = np.array([list(line) for line in lines])
    strange = sorted(set(cells.flat) - set("# SG"))
    if strange:
        raise UserError(f"layout has the character {str(strange[0])!r}: allowed are '#', ' ', 'S' and 'G'")
    for mark, meaning in (("S", "start"), ("G", "goal")):
        if not (cells == mark).any():
            raise UserError(f"layout has no {meaning}: mark at least one cell with {mark!r}")
    return cells


def _neighbours(index: np.ndarray, size: int) -> np.ndarray:
    """``[S, 4]`` int32: the state in each direction, or the state itself where a wall is."""
    padded = np.pad(index, 1, constant_values=-1)
    neighbours = np.zeros((size, 4), np.int32)
    for row, column in np.argwhere(padded >= 0):
        here = padded[row, column]
        beyond = padded[row + _MOVES[:, 0], column + _MOVES[:, 1]]
        neighbours[here] = np.where(beyond == -1, here, beyond)
    return neighbours
