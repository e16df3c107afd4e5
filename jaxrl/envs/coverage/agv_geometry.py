"""Distances between a point, axis-aligned boxes and discs in a square arena; metres."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array

ARENA = 10.0  # a side


class Layout(NamedTuple):
    """What stands in the arena and where an episode may begin; (x, y), y upwards."""

    boxes: np.ndarray  # [B, 4] float32  shelves: left, bottom, right, top
    start: np.ndarray  # [2] float32  of the vehicle
    targets: np.ndarray  # [K, 2] float32  one is drawn
    spawn: tuple[float, float]  # x of moving obstacles at the start of an episode


def _layout(boxes, start, targets, spawn) -> Layout:
    array = lambda x, width: np.array(x, np.float32).reshape(-1, width)
    return Layout(array(boxes, 4), array(start, 2)[0], array(targets, 2), spawn)


_CORNERS = [(1, 1), (1, 9), (9, 1), (9, 9)]
_SHELVES = [(x - 0.7, y - 0.3, x + 0.7, y + 0.3) for y in (2.5, 5.0, 7.5) for x in (2.0, 4.0, 6.0, 8.0)]
_U = [(2.5, 7.1, 6.4, 7.5), (2.5, 2.5, 6.4, 2.9), (6.0, 2.5, 6.4, 7.5)]  # open to the left
LAYOUTS = {
    "open": _layout([], (5, 5), _CORNERS, (1, 9)),
    "shelves": _layout(_SHELVES, (5, 1), _CORNERS, (1, 9)),  # two aisles between three rows
    "u": _layout(_U, (5, 5), [(9, 1), (9, 9)], (7.2, 9)),
}


def ray_lengths(origin: Array, directions: Array, boxes: Array, centres: Array, radius: float) -> Array:
    """How far each ray goes until it meets a wall, a box or a disc; float32 ``[R]``.

    ``origin`` ``[2]`` lies inside the arena; ``directions`` ``[R, 2]`` are unit vectors, ``boxes`` ``[B, 4]``, centres
    of discs ``[M, 2]``. From inside a box or a disc the length is 0.
    """
    # A direction along an axis would divide by zero.
    slope = jnp.where(jnp.abs(directions) < 1e-6, jnp.where(directions < 0, -1e-6, 1e-6), directions)
    to_walls = jnp.max(jnp.stack([-origin / slope, (ARENA - origin) / slope]), 0).min(-1)

    corners = boxes.reshape(-1, 2, 2)
    crossings = (corners - origin)[None] / slope[:, None, None]  # [R, B, 2 corners, 2 axes]
    enters, leaves = crossings.min(2).max(-1), crossings.max(2).min(-1)
    to_boxes = jnp.where(leaves >= jnp.maximum(enters, 0), jnp.maximum(enters, 0), jnp.inf)

    towards = centres - origin
    along = directions @ towards.T  # [R, M]
    inside = radius**2 - (jnp.square(towards).sum(-1) - along**2)  # of the disc's chord, squared half-length
    half = jnp.sqrt(jnp.maximum(inside, 0))
    to_discs = jnp.where((inside > 0) & (along + half >= 0), jnp.maximum(along - half, 0), jnp.inf)
    return jnp.concatenate([to_walls[:, None], to_boxes, to_discs], 1).min(1)


def is_free(centre: Array, radius: float, boxes: Array, others: Array, other_radius: float) -> Array:
    """Does a disc at ``centre`` ``[2]`` overlap neither a wall nor a box nor one of the discs ``others`` ``[M, 2]``?"""
    inside = ((centre >= radius) & (centre <= ARENA - radius)).all()
    nearest = jnp.clip(centre, boxes[:, :2], boxes[:, 2:])
    off_boxes = (jnp.square(centre - nearest).sum(-1) >= radius**2).all()
    off_discs = (jnp.square(centre - others).sum(-1) >= (radius + other_radius) ** 2).all()
    return inside & off_boxes & off_discs
