"""MarsExplorer: a robot with a lidar uncovers terrain that it has not seen before."""

from math import pi
from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import AutoReset
from jaxrl.envs.coverage.lidar import scan
from jaxrl.envs.coverage.limits import check_params, check_whole, is_known
from jaxrl.envs.coverage.terrain import generate
from jaxrl.errors import UserError, unknown
from jaxrl.types import Array, Discrete, Key

MOVES = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
VIEWS = ("codes", "one_hot")
UNKNOWN, FREE, OBSTACLE, ROBOT = range(4)
_CODES = np.array([0.0, 0.3, 1.0, 0.6], np.float32)
_CAPACITY, _MOST = 16, 1024  # blocks: where nobody asks for more, and at most
_TILE = 8  # pixels
_COLOURS = np.array([[60, 45, 40], [214, 160, 120], [110, 60, 40], [40, 90, 200]], np.uint8)
_UNSEEN_OBSTACLE = np.array([40, 28, 24], np.uint8)


@flax.struct.dataclass
class MarsExplorerParams:
    """The difficulty, and the reward in units of cells."""

    obstacles: Array | int = 12  # blocks in random places
    rows: Array | int = 0  # of blocks in rows and columns instead; 0: in random places
    columns: Array | int = 0
    noise: Array | int = 0  # cells that a block in rows and columns is moved by, at most
    min_size: Array | int = 2  # cells a side of a block
    max_size: Array | int = 2
    covered: Array | float = 0.99  # share of the attainable cells that completes the map
    cell_reward: Array | float = 1.0  # for each cell seen for the first time
    step_cost: Array | float = 0.2
    complete_reward: Array | float = 400.0
    collision_reward: Array | float = -400.0  # for a move into an obstacle
    outside_reward: Array | float = -400.0  # for a move off the map
    crash_ends: Array | bool = True  # do these two end the episode? else the robot stays where it is
    reward_scale: Array | float = 1.0  # 1/400 keeps rewards within about one


class MarsExplorerState(NamedTuple):
    """One world; 3 bytes a cell and 12 bytes."""

    obstacles: Array  # [size, size] bool
    attainable: Array  # [size, size] bool  what can be seen at all
    seen: Array  # [size, size] bool
    x: Array  # [] int32  first index of the robot's cell
    y: Array  # [] int32
    time: Array  # [] int32  steps taken


class MarsExplorer(AutoReset):
    """Koutras et al. (2021), after the released environment: x + 1 (0), x - 1 (1), y + 1 (2), y - 1 (3) from [0, 0].

    At reset and after each move a lidar of 32 beams shows cells within ``lidar_range`` up to the first obstacle. A step
    pays ``reward_scale * (cell_reward * newly seen cells - step_cost)``; completing the map, a collision and a
    move off the map add their own reward and terminate; ``max_steps`` truncates. ``info["coverage"]`` is the share of
    the attainable cells that has been seen. ``state_id`` is the robot's cell, ``x * size + y``.

    Observation: float32 ``[size, size, 1]``, 0 unknown, 0.3 free, 1 obstacle, 0.6 robot (``view="codes"``), or
    ``[size, size, 4]``, one-hot in this order with the robot last (``view="one_hot"``).

    Maps: ``obstacles`` blocks of ``min_size`` to ``max_size`` cells a side in random places, the default; with ``rows``
    and ``columns`` on a lattice, each moved by ``-noise .. noise - 1`` cells along both axes. ``max_obstacles`` is the
    room for blocks (``make`` asks for enough); all numbers of the params are traced. The published levels have 3 rows
    and columns, noise 1, 2 or 3, and sizes 1 to 1 or 1 to 3; the large world size 84, 12 rows and columns, noise 3, 800
    steps; the comparison with frontier methods size 42, 6 rows and columns, noise 2, 2500 steps, collision_reward -50.

    ``solved`` (ours): a mean return of nine tenths of ``complete_reward`` and all cells but a first scan's, less the
    cost of every step to the limit; an agent that completes almost every map, however slowly, reaches it.

    Faults of the released code, and traps, that are not here:
      * The limit of 400 steps cut after 401, counted as an end, and hid a crash or a completion in the same step.
      * Terminal rewards took the place of the step's own; here they are added.
      * The published configuration paid +400 for crashes.
      * In rows and columns the start could be an obstacle (a quarter of maps at noise 1) or walled in: see
        ``terrain.generate``.
      * Coverage counted cells that nobody can see, such as the inside of large blocks; here it is of those attainable.
      * Visited cells kept the robot's code until seen again; here 0.6 is where the robot is.
      * With auto-reset, a bootstrap from the next map: ``info["final_observation"]`` is always of the old one.
    Also ours: beams end at the edge of the map (there they went on along it) and are cut where they cross into a cell
    (there they were sampled again up to the cut: 0.5 % of the cells shown), ``crash_ends``, ``reward_scale``, and 99 %
    itself completes a map. Nearest-frontier takes 73 steps on the default maps, in a rebuilt original 70.
    """

    lazy_reset = True
    actions = Discrete(4)
    default_params: Any = MarsExplorerParams()

    def __init__(
        self,
        size: int = 21,
        lidar_range: float = 6.0,
        view: str = "codes",
        max_obstacles: int = _CAPACITY,
        max_steps: int = 400,
    ):
        self.size = check_whole("size", size, 5, 256)
        self.max_obstacles = check_whole("max_obstacles", max_obstacles, 1, _MOST)
        self.max_steps = check_whole("max_steps", max_steps, 1, 2**30)
        if view not in VIEWS:
            raise unknown("view", view, VIEWS)
        # From 1.5 on the eight neighbours are always seen; past 60 the 200 points of a beam would skip cells.
        if not (isinstance(lidar_range, (int, float)) and 1.5 <= lidar_range <= 60):
            raise UserError(f"lidar_range={lidar_range!r} must be a number of cells from 1.5 to 60")
        self.lidar_range, self.view = float(lidar_range), view
        self.num_states, self.map_shape = size * size, (size, size)

    def state_id(self, state: MarsExplorerState, params: MarsExplorerParams) -> Array:
        return state.x * self.size + state.y

    def solved(self, params: MarsExplorerParams) -> Any:
        first_scan = pi * self.lidar_range**2 / 4 + 2 * self.lidar_range  # a quarter disc and its two edges
        cells = params.covered * self.size**2 - first_scan
        worth = 0.9 * params.complete_reward + params.cell_reward * cells - params.step_cost * self.max_steps
        return params.reward_scale * worth

    def reset_env(self, key: Key, params: MarsExplorerParams) -> tuple[Array, MarsExplorerState]:
        self.check(params)
        obstacles, attainable = generate(key, self.size, self.max_obstacles, params)
        corner = jnp.int32(0)
        seen = scan(obstacles, corner, corner, self.lidar_range)
        state = MarsExplorerState(obstacles, attainable, seen, corner, corner, corner)
        return self.observe(state), state

    def step_env(self, key: Key, state: MarsExplorerState, action: Array, params: MarsExplorerParams) -> tuple:
        move = jnp.asarray(MOVES)[action]
        x, y = state.x + move[0], state.y + move[1]
        outside = (jnp.minimum(x, y) < 0) | (jnp.maximum(x, y) >= self.size)
        collides = ~outside & state.obstacles.at[x, y].get(mode="clip")
        stays = outside | collides
        x, y = jnp.where(stays, state.x, x), jnp.where(stays, state.y, y)

        seen = state.seen | scan(state.obstacles, x, y, self.lidar_range)
        new = seen.sum() - state.seen.sum()
        coverage = (seen & state.attainable).sum() / state.attainable.sum()
        complete = coverage >= params.covered
        reward = params.cell_reward * new - params.step_cost + params.complete_reward * complete
        reward += params.collision_reward * collides + params.outside_reward * outside

        state = state._replace(seen=seen, x=x, y=y, time=state.time + 1)
        terminated = complete | stays & params.crash_ends
        truncated = (state.time >= self.max_steps) & ~terminated
        info = {"coverage": coverage.astype(jnp.float32)}
        return self.observe(state), state, params.reward_scale * reward, terminated, truncated, info

    def observe(self, state: MarsExplorerState) -> Array:
        kind = _kinds(state)
        if self.view == "one_hot":
            return (kind[..., None] == jnp.arange(4)).astype(jnp.float32)
        return jnp.asarray(_CODES)[kind][..., None]

    def render(self, state: MarsExplorerState, params: MarsExplorerParams) -> Array:
        """uint8 ``[8 size, 8 size, 3]``: the robot blue, seen terrain light, unseen dark with its obstacles darker."""
        hidden = ~state.seen & state.obstacles
        colours = jnp.where(hidden[..., None], _UNSEEN_OBSTACLE, jnp.asarray(_COLOURS)[_kinds(state)])
        return jnp.repeat(jnp.repeat(colours, _TILE, 0), _TILE, 1)

    def check(self, params: MarsExplorerParams) -> None:
        """Raises UserError for numbers out of range, where they are not traced."""
        room, size = self.max_obstacles, self.size
        limits: dict[str, tuple[float, float]] = {"obstacles": (0, room), "rows": (0, room), "columns": (0, room)}
        limits |= {"noise": (0, size), "min_size": (1, size), "max_size": (1, size), "covered": (0, 1)}
        check_params(params, self.default_params, limits)
        rows, columns, low, high = params.rows, params.columns, params.min_size, params.max_size
        if is_known(rows, columns) and ((rows > 0) != (columns > 0) or rows * columns > room):
            raise UserError(
                f"params.rows={rows} and params.columns={columns} must both be 0, or both at least 1 with a product of "
                f"at most max_obstacles={room}"
            )
        if is_known(low, high) and low > high:
            raise UserError(f"params.min_size={low} must be at most params.max_size={high}: sizes are drawn between")


def _kinds(state: MarsExplorerState) -> Array:
    terrain = jnp.where(state.obstacles, OBSTACLE, FREE)
    return jnp.where(state.seen, terrain, UNKNOWN).at[state.x, state.y].set(ROBOT)


def with_capacity(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``make`` with a ``max_obstacles`` that has room for the obstacles they ask for."""
    obstacles, rows, columns = (kwargs.get(name, 0) for name in ("obstacles", "rows", "columns"))
    if "max_obstacles" in kwargs or not all(isinstance(number, int) for number in (obstacles, rows, columns)):
        return kwargs
    return kwargs | {"max_obstacles": min(max(_CAPACITY, obstacles, rows * columns), _MOST)}
