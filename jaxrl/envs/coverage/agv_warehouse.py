"""AGVWarehouse: a vehicle with inertia looks for a target between shelves and moving obstacles."""

from math import pi
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import AutoReset
from jaxrl.envs.coverage.agv_geometry import ARENA, LAYOUTS, is_free, ray_lengths
from jaxrl.envs.coverage.limits import check_params, check_whole
from jaxrl.errors import unknown
from jaxrl.types import Array, Box, Key

RADIUS, OBSTACLE_RADIUS = 0.25, 0.3  # metres; the vehicle's and a moving obstacle's
RAYS, RAY_LENGTH = 16, 5.0
LANES = np.array([3.4, 6.6, 4.1, 5.9], np.float32)  # y of the moving obstacles: two in each aisle
CELL = 0.5  # metres, of `state_id`
_DT, _MAX_SPEED, _MAX_TURN = 0.1, 1.0, 1.5  # s, m/s, rad/s
_LANE_END = 1.0  # metres from the wall, where a moving target turns round
_SCALE = 20  # pixels a metre
_FLOOR, _SHELF, _OBSTACLE, _TARGET, _VEHICLE, _NOSE = np.array(
    [[235, 235, 235], [120, 90, 60], [230, 140, 30], [60, 160, 60], [40, 90, 200], [250, 250, 250]], np.uint8
)


@flax.struct.dataclass
class AGVWarehouseParams:
    moving_obstacles: Array | int = 0  # 0 to 4
    obstacle_speed: Array | float = 0.5  # m/s
    target_speed: Array | float = 0.0  # m/s; 0.3 where the target moves
    target_radius: Array | float = 0.4  # m; the vehicle's centre must come so near
    sight: Array | float = 2.0  # m, within which the target is seen, if nothing stands between
    target_known: Array | bool = False  # is it always seen?
    friction: Array | float = 0.1  # 1/s
    step_cost: Array | float = 1e-4
    collision_cost: Array | float = 0.01  # for each step that is driven into something
    collision_ends: Array | bool = False


class AGVWarehouseState(NamedTuple):
    position: Array  # [2] float32  metres, (x, y)
    heading: Array  # [] float32  radians, anticlockwise from the x axis
    speed: Array  # [] float32  m/s, forwards only
    turn: Array  # [] float32  rad/s
    target: Array  # [2] float32
    target_direction: Array  # [] float32  1 to the right, -1 to the left
    obstacles: Array  # [4, 2] float32; far away where there is none
    obstacle_direction: Array  # [4] float32
    time: Array  # [] int32  steps taken


class AGVWarehouse(AutoReset):
    """The setting of Yin et al. (2024) in two dimensions; the sizes and speeds are ours, for none are published.

    A disc in a 10 m x 10 m arena; the action is (acceleration, turning acceleration), float32 ``[2]`` in [-1, 1] m/s^2
    and rad/s^2, for 0.1 s; speed 0 to 1 m/s, turn within 1.5 rad/s. Into a wall, a shelf or an obstacle it slides along
    the axis that is free and pays ``collision_cost``, or with ``collision_ends`` the episode terminates. Reaching the
    target pays 1 and terminates, each step costs ``step_cost``, ``max_steps`` truncates (500; published: 2000 to 4000).

    ``layout``: "open", "shelves" (twelve, two aisles between them) or "u" (the vehicle starts in a U-shaped shelf that
    opens away from the target). The start is fixed, its heading random; the target is in a random corner, and moves
    left and right where ``target_speed`` is above 0. Moving obstacles go left and right in the aisles and turn round at
    whatever stands in their way, the vehicle included.

    Observation: float32 ``[23]``: 16 lidar rays from the heading anticlockwise (up to 5 m, divided by 5), speed and
    turn (divided by their limits), sine and cosine of the heading, whether the target is seen, and where it is ahead
    and to the left (divided by 10 m; 0 while unseen). ``pose=True`` adds x and y, divided by 10 m, ``[25]``.
    ``state_id`` is the vehicle's cell of 0.5 m x 0.5 m, row * 20 + column from the lower left.

    ``solved``: a mean return of 0.9, nine targets in ten episodes and few collisions. ``info["collision"]`` is 0 or 1.
    """

    actions = Box(-1.0, 1.0, (2,))
    solved = 0.9
    default_params: Any = AGVWarehouseParams()
    map_shape = (round(ARENA / CELL),) * 2
    num_states = map_shape[0] * map_shape[1]

    def __init__(self, layout: str = "shelves", pose: bool = False, max_steps: int = 500):
        if layout not in LAYOUTS:
            raise unknown("layout", layout, LAYOUTS)
        self.layout, self.pose = LAYOUTS[layout], pose
        self.max_steps = check_whole("max_steps", max_steps, 1, 2**30)

    def state_id(self, state: AGVWarehouseState, params: AGVWarehouseParams) -> Array:
        side = round(ARENA / CELL)
        column, row = jnp.clip(jnp.floor(state.position / CELL).astype(jnp.int32), 0, side - 1)
        return row * side + column

    def reset_env(self, key: Key, params: AGVWarehouseParams) -> tuple[Array, AGVWarehouseState]:
        limits: dict[str, tuple[float, float]] = {"moving_obstacles": (0, len(LANES)), "target_radius": (0, ARENA)}
        # Faster than a radius a step, and things would jump over each other.
        limits |= dict.fromkeys(("obstacle_speed", "target_speed"), (0, RADIUS / _DT))
        check_params(params, self.default_params, limits | {"friction": (0, 1 / _DT), "sight": (0, np.inf)})
        heading_key, target_key, place_key, direction_key, side_key = jax.random.split(key, 5)
        x = jax.random.uniform(place_key, LANES.shape, minval=self.layout.spawn[0], maxval=self.layout.spawn[1])
        there = jnp.arange(len(LANES)) < params.moving_obstacles
        state = AGVWarehouseState(
            position=jnp.asarray(self.layout.start),
            heading=jax.random.uniform(heading_key, minval=-pi, maxval=pi),
            speed=jnp.float32(0),
            turn=jnp.float32(0),
            target=jax.random.choice(target_key, jnp.asarray(self.layout.targets)),
            target_direction=jax.random.rademacher(side_key, (), jnp.float32),
            obstacles=jnp.where(there[:, None], jnp.stack([x, jnp.asarray(LANES)], -1), -100.0),
            obstacle_direction=jax.random.rademacher(direction_key, LANES.shape, jnp.float32),
            time=jnp.int32(0),
        )
        return self.observe(state, params), state

    def step_env(self, key: Key, state: AGVWarehouseState, action: Array, params: AGVWarehouseParams) -> tuple:
        state = self._move_others(state, params)
        state, collides = self._drive(state, action, params)
        state = state._replace(time=state.time + 1)
        reached = jnp.square(state.position - state.target).sum() < params.target_radius**2
        terminated = reached | collides & params.collision_ends
        reward = reached - params.step_cost - params.collision_cost * collides
        truncated = (state.time >= self.max_steps) & ~terminated
        info = {"collision": collides.astype(jnp.float32)}
        return self.observe(state, params), state, reward, terminated, truncated, info

    def _move_others(self, state: AGVWarehouseState, params: AGVWarehouseParams) -> AGVWarehouseState:
        """Where the target and the obstacles are next; one that is in the way of another waits and turns round."""
        ahead = state.obstacles.at[:, 0].add(_DT * params.obstacle_speed * state.obstacle_direction)
        goes = jax.vmap(is_free, (0, None, None, None, None))(
            ahead, OBSTACLE_RADIUS, jnp.asarray(self.layout.boxes), state.position[None], RADIUS
        )
        x = state.target[0] + _DT * params.target_speed * state.target_direction
        left_end, right_end = x <= _LANE_END, x >= ARENA - _LANE_END
        return state._replace(
            target=state.target.at[0].set(jnp.clip(x, _LANE_END, ARENA - _LANE_END)),
            target_direction=jnp.where(left_end, 1.0, jnp.where(right_end, -1.0, state.target_direction)),
            obstacles=jnp.where(goes[:, None], ahead, state.obstacles),
            obstacle_direction=jnp.where(goes, 1.0, -1.0) * state.obstacle_direction,
        )

    def _drive(self, state: AGVWarehouseState, action: Array, params: AGVWarehouseParams) -> tuple:
        """(state, whether something was in the way) after 0.1 s."""
        push, steer = jnp.clip(action, -1.0, 1.0)
        speed = jnp.clip(state.speed + _DT * (push - params.friction * state.speed), 0.0, _MAX_SPEED)
        turn = jnp.clip(state.turn + _DT * (steer - params.friction * state.turn), -_MAX_TURN, _MAX_TURN)
        heading = jnp.mod(state.heading + _DT * turn + pi, 2 * pi) - pi
        dx, dy = _DT * speed * jnp.cos(heading), _DT * speed * jnp.sin(heading)
        ways = jnp.array([[dx, dy], [dx, 0.0], [0.0, dy], [0.0, 0.0]])
        free = jax.vmap(is_free, (0, None, None, None, None))(
            state.position + ways, RADIUS, jnp.asarray(self.layout.boxes), state.obstacles, OBSTACLE_RADIUS
        )
        way = ways[jnp.argmax(free.at[3].set(True))]
        return state._replace(position=state.position + way, heading=heading, speed=speed, turn=turn), ~free[0]

    def observe(self, state: AGVWarehouseState, params: AGVWarehouseParams) -> Array:
        angles = state.heading + jnp.arange(RAYS) * 2 * pi / RAYS
        towards = state.target - state.position
        distance = jnp.sqrt(jnp.square(towards).sum())
        to_target = towards / jnp.maximum(distance, 1e-6)
        directions = jnp.concatenate([jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1), to_target[None]])
        lengths = ray_lengths(
            state.position, directions, jnp.asarray(self.layout.boxes), state.obstacles, OBSTACLE_RADIUS
        )
        seen = params.target_known | (distance <= params.sight) & (lengths[-1] >= distance)
        sine, cosine = jnp.sin(state.heading), jnp.cos(state.heading)
        ahead = jnp.stack([cosine * towards[0] + sine * towards[1], cosine * towards[1] - sine * towards[0]]) / ARENA
        parts = [
            jnp.minimum(lengths[:-1], RAY_LENGTH) / RAY_LENGTH,
            jnp.stack([state.speed / _MAX_SPEED, state.turn / _MAX_TURN, sine, cosine, jnp.float32(seen)]),
            jnp.where(seen, ahead, 0.0),
        ]
        if self.pose:
            parts.append(state.position / ARENA)
        return jnp.concatenate(parts)

    def render(self, state: AGVWarehouseState, params: AGVWarehouseParams) -> Array:
        """uint8 ``[200, 200, 3]`` from above: shelves brown, obstacles orange, target green, vehicle blue."""
        side = round(ARENA * _SCALE)
        row, column = np.indices((side, side))
        pixels = (np.stack([column, side - 1 - row], -1) + 0.5) / _SCALE  # metres, [200, 200, 2]
        within = lambda centre, radius: jnp.square(pixels - centre).sum(-1) < radius**2
        picture: Any = np.broadcast_to(_FLOOR, (side, side, 3))
        for box in self.layout.boxes:
            shelf = ((pixels >= box[:2]) & (pixels <= box[2:])).all(-1)
            picture = np.where(shelf[..., None], _SHELF, picture)
        nose = state.position + 0.6 * RADIUS * jnp.stack([jnp.cos(state.heading), jnp.sin(state.heading)])
        others = jax.vmap(lambda centre: within(centre, OBSTACLE_RADIUS))(state.obstacles).any(0)
        for shape, colour in (
            (within(state.target, params.target_radius), _TARGET),
            (others, _OBSTACLE),
            (within(state.position, RADIUS), _VEHICLE),
            (within(nose, 0.3 * RADIUS), _NOSE),
        ):
            picture = jnp.where(shape[..., None], colour, picture)
        return picture
