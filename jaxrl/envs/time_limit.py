"""Does an environment take its time limit for termination? Asked of an end at the limit, by turning its clock back.

A clock is a scalar of the state that goes up (or down) by one at each step of an episode. The step that ended is taken
again from the same state with the clock as it stood at the episode's start. If nothing that the agent gets changes, the
observation and the reward, and yet the episode no longer terminates, then it was the limit that ended it. Where the
observation shows the clock, time is part of the world, and an end at its last step is a true one (DeepSea).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import Task
from jaxrl.types import Array, Key, PyTree


def clocks(state: PyTree) -> Array:
    """The scalar numbers of a state, float32 ``[K]``, in the order of its leaves."""
    found = [jnp.float32(leaf) for leaf in jax.tree.leaves(state) if _is_number(leaf)]
    return jnp.stack(found) if found else jnp.zeros(0)


def limit_terminates(task: Task, state: PyTree, action: Array, key: Key, before: np.ndarray) -> bool:
    """Was it the limit that terminated the episode by `action` in `state`, under the step's `key`?

    `before`: ``clocks`` of the states that the episode's steps were taken in, ``[max_steps, K]``, `state`'s last.
    """
    ticks = np.diff(before, axis=0)
    turning = [
        k for k in range(before.shape[1]) if len(ticks) and abs(ticks[0, k]) == 1 and (ticks[:, k] == ticks[0, k]).all()
    ]
    if not turning:
        return False
    choices: list[list[int]] = [[], *([k] for k in turning), turning]
    states = [_turned_back(state, before[0], choice) for choice in choices]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    step = jax.jit(jax.vmap(lambda state: task.env.step(key, state, action, task.params)))
    _, _, reward, terminated, _, info = step(stacked)
    shown = np.asarray(info["final_observation"]).reshape(len(states), -1)
    same = (np.asarray(reward) == np.asarray(reward)[0]) & ((shown == shown[0]) | np.isnan(shown)).all(1)
    return bool((same & ~np.asarray(terminated)).any())


def _turned_back(state: PyTree, start: np.ndarray, chosen: list[int]) -> PyTree:
    leaves, structure = jax.tree.flatten(state)
    places = [place for place, leaf in enumerate(leaves) if _is_number(leaf)]
    for k in chosen:
        leaves[places[k]] = jnp.asarray(start[k], leaves[places[k]].dtype)
    return jax.tree.unflatten(structure, leaves)


def _is_number(leaf: Any) -> bool:
    kinds = jnp.integer, jnp.floating
    return leaf.shape == () and any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)
