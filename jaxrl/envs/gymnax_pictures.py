"""Pictures of gymnax's environments, in JAX: lines and discs by distance, grids by cell; uint8 ``[H, W, 3]``."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array

WHITE, BLACK, GREY, BLUE, ORANGE, GREEN = (
    np.array(colour, np.float32) for colour in
    ((255, 255, 255), (30, 30, 30), (170, 170, 170), (48, 105, 180), (222, 128, 38), (50, 150, 80))
)  # fmt: skip
CHANNELS = np.array(  # of MinAtar, of which Seaquest has the most: ten
    [(255, 255, 255), (230, 80, 60), (70, 140, 230), (240, 200, 60), (90, 190, 110), (180, 100, 210), (250, 150, 60),
     (100, 210, 220), (230, 120, 170), (150, 150, 150)], np.float32,
)  # fmt: skip
HEIGHT, WIDTH = 160, 240
CELL = 12  # pixels


def picture(env: Any) -> Callable | None:
    """``render(state, params)`` of one of gymnax's environments; None where there is nothing to see."""
    draw = DRAWN.get(env.name)
    if draw is None and env.name.endswith("-MinAtar"):
        draw = _channels
    if draw is None:
        return None
    return lambda state, params: jnp.round(draw(env, state, params)).astype(jnp.uint8)


def _points(low: tuple[float, float], high: tuple[float, float]) -> tuple[Array, float]:
    """(world coordinates ``[H, W, 2]`` of the pixels, upwards positive; width of one pixel), equally scaled."""
    pixel = max((high[0] - low[0]) / WIDTH, (high[1] - low[1]) / HEIGHT)
    middle = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    x = middle[0] + (jnp.arange(WIDTH) - WIDTH / 2 + 0.5) * pixel
    y = middle[1] - (jnp.arange(HEIGHT) - HEIGHT / 2 + 0.5) * pixel
    return jnp.stack(jnp.broadcast_arrays(x[None], y[:, None]), -1), pixel


def _from_line(points: Array, start: Any, end: Any) -> Array:
    """Distance ``[H, W]`` of each point from a line between two points."""
    start, end = jnp.stack([*start]), jnp.stack([*end])
    along = end - start
    share = jnp.clip(((points - start) @ along) / jnp.maximum(along @ along, 1e-9), 0.0, 1.0)
    return jnp.linalg.norm(points - start - share[..., None] * along, axis=-1)


def _paint(image: Array, colour: np.ndarray, depth: Array, pixel: float) -> Array:
    """`image` with `colour` where `depth` ``[H, W]`` is positive, edges one pixel soft."""
    cover = jnp.clip(depth / pixel + 0.5, 0.0, 1.0)[..., None]
    return image * (1.0 - cover) + colour * cover


def _blank() -> Array:
    return jnp.broadcast_to(WHITE, (HEIGHT, WIDTH, 3))


def _cart_pole(env: Any, state: Any, params: Any) -> Array:
    points, pixel = _points((-2.6, -0.6), (2.6, 1.6))
    pivot = state.x, jnp.float32(0.15)
    pole = state.x + jnp.sin(state.theta), 0.15 + jnp.cos(state.theta)
    x, y = points[..., 0], points[..., 1]
    image = _paint(_blank(), GREY, 0.02 - jnp.abs(y + 0.15), pixel)
    image = _paint(image, BLACK, jnp.minimum(0.3 - jnp.abs(x - state.x), 0.15 - jnp.abs(y)), pixel)
    image = _paint(image, ORANGE, 0.06 - _from_line(points, pivot, pole), pixel)
    return _paint(image, BLUE, 0.05 - _from_line(points, pivot, pivot), pixel)


def _acrobot(env: Any, state: Any, params: Any) -> Array:
    points, pixel = _points((-2.2, -2.2), (2.2, 2.2))
    both = state.joint_angle1 + state.joint_angle2
    elbow = jnp.sin(state.joint_angle1), -jnp.cos(state.joint_angle1)
    hand = elbow[0] + jnp.sin(both), elbow[1] - jnp.cos(both)
    zero = jnp.zeros(()), jnp.zeros(())
    image = _paint(_blank(), GREY, 0.02 - jnp.abs(points[..., 1] - 1.0), pixel)  # to be reached by the hand
    for start, end, colour in ((zero, elbow, BLUE), (elbow, hand, ORANGE)):
        image = _paint(image, colour, 0.1 - _from_line(points, start, end), pixel)
        image = _paint(image, BLACK, 0.08 - _from_line(points, start, start), pixel)
    return image


def _mountain_car(env: Any, state: Any, params: Any) -> Array:
    height = lambda x: 0.45 * jnp.sin(3 * x)
    points, pixel = _points((-1.3, -0.65), (0.7, 0.75))
    x, y = points[..., 0], points[..., 1]
    image = _paint(_blank(), GREY, height(x) - y, pixel)
    flag = jnp.float32(params.goal_position), height(jnp.float32(params.goal_position))
    image = _paint(image, BLACK, 0.008 - _from_line(points, flag, (flag[0], flag[1] + 0.25)), pixel)
    pennant = jnp.minimum(x - flag[0], 0.05 - jnp.abs(y - flag[1] - 0.2) - 0.5 * (x - flag[0]))
    image = _paint(image, GREEN, pennant, pixel)
    slope = 1.35 * jnp.cos(3 * state.position)
    along = jnp.stack([jnp.ones_like(slope), slope]) / jnp.sqrt(1 + slope**2)
    car = jnp.stack([state.position, height(state.position)]) + 0.07 * jnp.stack([-along[1], along[0]])
    image = _paint(image, ORANGE, 0.045 - _from_line(points, car - 0.05 * along, car + 0.05 * along), pixel)
    for side in (-0.06, 0.06):
        wheel = car + side * along - 0.04 * jnp.stack([-along[1], along[0]])
        image = _paint(image, BLACK, 0.03 - _from_line(points, wheel, wheel), pixel)
    return image


def _pendulum(env: Any, state: Any, params: Any) -> Array:
    points, pixel = _points((-1.3, -1.3), (1.3, 1.3))
    zero = jnp.zeros(()), jnp.zeros(())
    tip = -jnp.sin(state.theta), jnp.cos(state.theta)  # the angle is zero where it stands up
    image = _paint(_blank(), GREY, 0.01 - jnp.abs(jnp.linalg.norm(points, axis=-1) - 1.15), pixel)
    image = _paint(image, ORANGE, 0.1 - _from_line(points, zero, tip), pixel)
    return _paint(image, BLACK, 0.06 - _from_line(points, zero, zero), pixel)


def _catch(env: Any, state: Any, params: Any) -> Array:
    rows, columns = jnp.arange(env.rows)[:, None], jnp.arange(env.columns)
    image = jnp.broadcast_to(WHITE, (env.rows, env.columns, 3))
    for y, x, colour in ((state.paddle_y, state.paddle_x, BLUE), (state.ball_y, state.ball_x, ORANGE)):
        image = jnp.where(((rows == y) & (columns == x))[..., None], colour, image)
    return _cells(image)


def _deep_sea(env: Any, state: Any, params: Any) -> Array:
    """Water where the diver can come, the treasure in its corner; after the last row the diver is out of sight."""
    rows, columns = jnp.arange(env.size)[:, None], jnp.arange(env.size)
    depth = (1.0 - 0.5 * rows / env.size)[..., None]
    image = jnp.where((columns <= rows)[..., None], depth * np.array([150, 200, 240], np.float32), GREY)
    treasure = (rows == env.size - 1) & (columns == env.size - 1)
    image = jnp.where(treasure[..., None], np.array([240, 200, 60], np.float32), image)
    return _cells(jnp.where(((rows == state.row) & (columns == state.column))[..., None], BLACK, image))


def _channels(env: Any, state: Any, params: Any) -> Array:
    """Each cell in the colour of the first channel that is on."""
    on = env.get_obs(state).astype(bool)  # [H, W, C]
    colours = jnp.asarray(CHANNELS)[jnp.argmax(on, -1) % len(CHANNELS)]
    return _cells(jnp.where(on.any(-1, keepdims=True), colours, BLACK))


def _cells(image: Array) -> Array:
    """Every cell a square with a thin edge."""
    large = jnp.repeat(jnp.repeat(image, CELL, 0), CELL, 1)
    edge = (jnp.arange(large.shape[0]) % CELL == 0)[:, None] | (jnp.arange(large.shape[1]) % CELL == 0)
    return jnp.where(edge[..., None], 0.85 * large, large)


DRAWN = {
    "CartPole-v1": _cart_pole,
    "Acrobot-v1": _acrobot,
    "MountainCar-v0": _mountain_car,
    "MountainCarContinuous-v0": _mountain_car,
    "ContinuousMountainCar-v0": _mountain_car,
    "Pendulum-v1": _pendulum,
    "Catch-bsuite": _catch,
    "DeepSea-bsuite": _deep_sea,
}
