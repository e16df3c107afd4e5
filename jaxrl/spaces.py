"""Action spaces: the unit box that policies act in, what networks see of an action, and reading a library's spaces.

A policy knows nothing of a `Box`'s bounds: it acts in [-1, 1] on every coordinate, and ``from_unit`` maps that affinely
on the bounds. Networks that read actions see the same coordinates (``code``), so that no bound decides their scale.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UserError
from jaxrl.types import Array, Box, Discrete, Key

_SEVERAL = ("MultiDiscrete", "MultiBinary", "Tuple", "Dict", "Graph", "Sequence", "Text", "OneOf")


def from_unit(box: Box, unit: Array) -> Array:
    """The action ``[..., *A]`` float32 in `box` that a point of [-1, 1]^A stands for; where that is the box, the point.

    What lies outside of [-1, 1] is clipped.
    """
    unit = jnp.clip(unit, -1.0, 1.0)
    if _is_unit(box):
        return unit
    low, high = bounds(box)
    centre, half = scale(box)
    return jnp.clip(centre + half * unit, low, high)  # rounding may lead out of the box by one bit


def to_unit(box: Box, action: Array) -> Array:
    """The point of [-1, 1]^A that stands for an action ``[..., *A]`` in `box`."""
    centre, half = scale(box)
    return action if _is_unit(box) else (action - centre) / half


def code(actions: Discrete | Box, action: Array) -> Array:
    """What a network sees of actions ``[..., *A]``: float32 ``[..., width]``, one-hot, or the point of the unit box."""
    return jax.nn.one_hot(action, actions.n) if isinstance(actions, Discrete) else to_unit(actions, action)


def width(actions: Discrete | Box) -> int:
    """How many numbers ``code`` gives, and a policy's network puts out."""
    return actions.n if isinstance(actions, Discrete) else actions.shape[0]


def sample(actions: Discrete | Box, key: Key, shape: tuple[int, ...] = ()) -> Array:
    """Uniform actions: int32 `shape`, or float32 ``[*shape, *A]``."""
    if isinstance(actions, Discrete):
        return jax.random.randint(key, shape, 0, actions.n, jnp.int32)
    unit = jax.random.uniform(key, (*shape, *actions.shape), jnp.float32, -1.0, 1.0)
    return from_unit(actions, unit)


def bounds(actions: Discrete | Box) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the greatest action, both included: int32 ``[]``, or float32 ``[*A]``."""
    if isinstance(actions, Discrete):
        return np.asarray(0, np.int32), np.asarray(actions.n - 1, np.int32)
    low, high = (np.broadcast_to(np.asarray(bound, np.float32), actions.shape) for bound in (actions.low, actions.high))
    return low, high


def text(actions: Discrete | Box) -> str:
    """The space in a few characters: "Discrete(7)", "Box(-1, 1, [6])", "Box([-1, 0], 1, [2])"."""
    if isinstance(actions, Discrete):
        return f"Discrete({actions.n})"
    low, high = (
        "[" + ", ".join(f"{one:g}" for one in bound) + "]" if isinstance(bound, tuple) else f"{bound:g}"
        for bound in (actions.low, actions.high)
    )
    return f"Box({low}, {high}, {list(actions.shape)})"


def _is_unit(box: Box) -> bool:
    return box.low == -1.0 and box.high == 1.0


def scale(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """(centre, half of the side) of the box, float32 ``[*A]``: where 0 and 1 of the unit box lead."""
    low, high = (np.broadcast_to(np.asarray(bound, np.float64) / 2.0, box.shape) for bound in (box.low, box.high))
    return np.asarray(low + high, np.float32), np.asarray(high - low, np.float32)


def read(name: str, space: Any) -> Discrete | Box:
    """A library's action space in jaxrl's types, for the environment `name`.

    A space is known by its class, ``Discrete`` or ``Box``, not by the attributes that it happens to have. Raises
    UserError for another class, actions that do not begin at 0, bounds that are no bounds, and a shape that is not one
    axis.
    """
    kinds = [base.__name__ for base in type(space).__mro__]
    if "Discrete" in kinds:
        return _discrete(name, space)
    if "Box" in kinds:
        return _box(name, space)
    for kind in _SEVERAL:
        if kind in kinds:
            raise UserError(
                f"environment {name!r} has {kind} actions, {space}: an agent here gives one number of Discrete(n) or "
                "one vector of Box(low, high, shape); number the combinations, Discrete(how many there are), and take "
                "the number apart in step_env"
            )
    raise UserError(f"environment {name!r} has actions of type {type(space).__name__}: use Discrete or Box")


def _discrete(name: str, space: Any) -> Discrete:
    n, start = space.n, getattr(space, "start", 0)
    if n != int(n) or n < 1:
        raise UserError(f"environment {name!r} has {n} actions: a whole number of at least one is needed")
    if start != 0:
        raise UserError(
            f"environment {name!r} has the actions {start} .. {start + n - 1}: agents here number actions from 0, so "
            f"set Discrete({n}) and add {start} to the action in step_env"
        )
    return Discrete(int(n))


def _box(name: str, space: Any) -> Box:
    shape = tuple(int(size) for size in space.shape)
    if len(shape) != 1 or shape[0] < 1:
        raise UserError(f"environment {name!r} has actions of the shape {shape}: flatten them to one axis, as in (6,)")
    dtype = getattr(space, "dtype", None)
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(
            f"environment {name!r} has a Box of {np.dtype(dtype)} actions, and a Box here is of float32: use "
            "Discrete(n) for whole numbers, or a Box of floats that step_env rounds"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
        low, high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)
    for side, bound in (("low", low), ("high", high)):
        if bound.shape not in ((), (1,), shape):
            raise UserError(
                f"environment {name!r} has {bound.size} bounds {side} for actions of the shape {shape}: give one "
                "number, or one for each coordinate"
            )
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        given = f"[{_given(space.low)}, {_given(space.high)}]"
        raise UserError(
            f"environment {name!r} has action bounds {given}: they must be finite, low below high, in float32"
        )
    return Box(_given(space.low), _given(space.high), shape)


def _given(bound: Any) -> float | tuple[float, ...]:
    """One number where all coordinates agree, else one for each."""
    each = tuple(np.asarray(bound, np.float64).reshape(-1).tolist())
    return each[0] if len(set(each)) == 1 else each
