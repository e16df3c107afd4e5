"""Can the goal of a grid world be reached at all? A search over the library's own grid, world by world.

The search is generous: a key stays in the hand, whatever lies around can be carried away, and what moves makes room. So
a goal that it does not reach cannot be reached, and one that it reaches may still be hard.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.envs.contract import Task
from jaxrl.errors import UserError
from jaxrl.keys import key_of
from jaxrl.types import Array, Key

FREE = -1  # in `Layout.locks`: needs no key


class Layout(NamedTuple):
    """A world as far as ways go; what an environment's ``ways(state, params)`` returns."""

    free: Array  # [H, W] bool  can be walked on, doors (if they are opened) included
    locks: Array  # [H, W] int32  number of the key that opens the door there, FREE where none is needed
    keys: Array  # [H, W] int32  number of the key that lies there, FREE where none does
    start: Array  # [H, W] bool
    goal: Array  # [H, W] bool  standing on one of these solves the task


def reachable(layout: Layout) -> bool:
    """Is there a way from the start to a goal?"""
    free, locks, keys, start, goal = map(np.asarray, layout)
    reached, held = start.copy(), {FREE}
    while True:
        beside = reached.copy()
        beside[1:] |= reached[:-1]
        beside[:-1] |= reached[1:]
        beside[:, 1:] |= reached[:, :-1]
        beside[:, :-1] |= reached[:, 1:]
        holds = held | set(keys[beside].tolist())  # a key is picked up from the cell before it
        grown = reached | (beside & free & np.isin(locks, list(holds)))
        if holds == held and (grown == reached).all():
            return bool((reached & goal).any())
        reached, held = grown, holds


def unsolvable(task: Task, *, worlds: int = 64, key: Key | None = None) -> list[int]:
    """Which of `worlds` worlds, by number, have a goal that cannot be reached; none is right.

    Raises UserError where the environment does not name its ``ways``.
    """
    ways: Any = getattr(task.env, "ways", None)
    if ways is None:
        raise UserError(
            f"environment {task.name!r} has no ways(state, params), in which a way to its goal could be looked for"
        )
    keys = jax.random.split(key_of(0) if key is None else key, worlds)
    layouts = jax.jit(jax.vmap(lambda key: ways(task.env.reset(key, task.params)[1], task.params)))(keys)
    layouts = jax.tree.map(np.asarray, layouts)
    return [i for i in range(worlds) if not reachable(jax.tree.map(lambda x, i=i: x[i], layouts))]
