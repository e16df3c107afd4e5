"""``check_env``: the environment contract as a test that any environment can be given to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import make
from jaxrl.envs.contract import Task, sample_action
from jaxrl.errors import UserError
from jaxrl.types import Array, Box, Key, PyTree

_RESETS = 128  # keys under which resets are compared


def check_env(task_or_env: Any, *, steps: int = 100, key: Key | None = None) -> dict[str, Any]:
    """Run random actions through an environment and test the contract of ``jaxrl.envs.contract``.

    ``task_or_env`` is a Task or whatever ``make`` accepts. The time limit is tested when ``steps`` reaches it, the
    reset when an episode ended. Returns what was seen: ``episodes``, how many steps were ``terminated``, ``truncated``
    or ``both``, ``random_starts``, and whether the limit and the reset were tested at all. Raises UserError naming the
    first violation.
    """
    task = task_or_env if isinstance(task_or_env, Task) else make(task_or_env)
    key = jax.random.key(0) if key is None else key
    _check_types(task)
    seen = jax.tree.map(np.asarray, jax.jit(lambda key: _experience(task, steps, key))(key))
    _check_actions(task, seen["action"])
    _check_final_observation(task, seen)
    longest = _check_limit(task, seen)
    if task.state_id is not None:
        _check_state_ids(task, seen["state_id"])
    random_starts, reset_tested = _check_resets(task, seen)
    return {
        "name": task.name,
        "steps": steps,
        "episodes": int(seen["done"].sum()),
        "terminated": int(seen["terminated"].sum()),
        "truncated": int(seen["truncated"].sum()),
        "both": int((seen["terminated"] & seen["truncated"]).sum()),
        "limit_tested": longest == task.max_steps,
        "random_starts": random_starts,
        "reset_tested": reset_tested,
    }


def _violation(task: Task, sentence: str) -> UserError:
    return UserError(f"environment {task.name!r} breaks the contract: {sentence}")


def _check_types(task: Task) -> None:
    """Types only, nothing is run."""
    key = jax.random.key(0)
    obs, state = jax.eval_shape(lambda key: task.env.reset(key, task.params), key)
    action = jax.eval_shape(lambda key: sample_action(task.actions, key), key)
    try:
        result = jax.eval_shape(lambda *inputs: task.env.step(*inputs, task.params), key, state, action)
    except (TypeError, ValueError) as error:
        raise _violation(task, f"step cannot be traced after reset: {error}") from error
    if not isinstance(result, tuple) or len(result) != 6:
        raise _violation(task, "step must return (obs, state, reward, terminated, truncated, info)")
    next_obs, next_state, reward, terminated, truncated, info = result
    if not isinstance(info, dict) or "final_observation" not in info:
        raise _violation(task, "info['final_observation'] is missing; it must be there on every step")
    _check_same(task, "the observation", obs, next_obs)
    _check_same(task, "the state", state, next_state)
    _check_same(task, "info['final_observation']", obs, info["final_observation"])
    for what, found, dtype in (
        ("reward", reward, np.float32),
        ("terminated", terminated, np.bool_),
        ("truncated", truncated, np.bool_),
    ):
        if found.shape != () or found.dtype != dtype:
            raise _violation(task, f"{what} is {_describe(found)}, it must be a {np.dtype(dtype)} scalar")


def _check_same(task: Task, what: str, from_reset: PyTree, from_step: PyTree) -> None:
    trees = jax.tree.structure(from_reset), jax.tree.structure(from_step)
    if trees[0] != trees[1]:  # type: ignore[operator]
        raise _violation(task, f"{what} has the structure {trees[0]} from reset and {trees[1]} from step")
    for (path, before), after in zip(jax.tree.leaves_with_path(from_reset), jax.tree.leaves(from_step), strict=True):
        if _describe(before) != _describe(after):
            place = what + jax.tree_util.keystr(path)
            raise _violation(task, f"{place} is {_describe(before)} from reset and {_describe(after)} from step")


def _describe(x: jax.ShapeDtypeStruct) -> str:
    return f"{x.dtype}{list(x.shape)}" + (" (weak type, from a Python number)" if x.weak_type else "")


def _experience(task: Task, steps: int, key: Key) -> dict[str, Array]:
    """Random actions under scan; then resets, and ends of one episode, each under many keys."""
    env, params = task.env, task.params
    reset_key, scan_key, compare_key = jax.random.split(key, 3)
    _, state = env.reset(reset_key, params)
    ending = state, sample_action(task.actions, reset_key)

    def body(carry, key):
        state, ending = carry
        action_key, step_key = jax.random.split(key)
        action = sample_action(task.actions, action_key)
        obs, next_state, _, terminated, truncated, info = env.step(step_key, state, action, params)
        done = terminated | truncated
        ending = jax.tree.map(lambda new, old: jnp.where(done, new, old), (state, action), ending)
        seen = {
            "action": action,
            "obs": obs,
            "final_observation": info["final_observation"],
            "terminated": terminated,
            "truncated": truncated,
            "done": done,
            "state_id": task.state_id(next_state, params) if task.state_id else 0,
        }
        return (next_state, ending), seen

    (_, ending), seen = jax.lax.scan(body, (state, ending), jax.random.split(scan_key, steps))
    keys = jax.random.split(compare_key, _RESETS)
    again = jax.vmap(lambda key: env.step(key, *ending, params))(keys)
    return seen | {
        "starts": jax.vmap(lambda key: env.reset(key, params)[0])(keys),
        "end_obs": again[0],
        "end_done": again[3] | again[4],
        "end_final_observation": again[5]["final_observation"],
    }


def _check_actions(task: Task, action: np.ndarray) -> None:
    low, high = (task.actions.low, task.actions.high) if isinstance(task.actions, Box) else (0, task.actions.n - 1)
    if not ((action >= low) & (action <= high)).all():
        raise _violation(task, f"actions sampled from {task.actions} lie outside it")


def _check_final_observation(task: Task, seen: dict[str, np.ndarray]) -> None:
    wrong = ~_equal(seen["obs"], seen["final_observation"]) & ~seen["done"]
    if wrong.any():
        step = int(wrong.argmax())
        raise _violation(
            task, f"no episode ended at step {step}, and yet info['final_observation'] differs from the observation"
        )


def _check_limit(task: Task, seen: dict[str, np.ndarray]) -> int:
    """The longest episode seen, in steps; the one that was still going on included."""
    ends = np.flatnonzero(seen["done"]) + 1
    longest = int(np.diff(ends, prepend=0, append=len(seen["done"])).max())
    if longest > task.max_steps:
        raise _violation(
            task, f"an episode went on for {longest} steps, with no end at the limit, max_steps={task.max_steps}"
        )
    return longest


def _check_state_ids(task: Task, ids: np.ndarray) -> None:
    assert task.num_states is not None
    if ids.dtype != np.int32 or ids.min() < 0 or ids.max() >= task.num_states:
        raise _violation(
            task,
            f"state_id gave {ids.dtype} numbers from {ids.min()} to {ids.max()}, "
            f"it must give int32 from 0 to num_states - 1 = {task.num_states - 1}",
        )


def _check_resets(task: Task, seen: dict[str, np.ndarray]) -> tuple[bool, bool]:
    """Are the starts random, and could the reset at an episode's end be tested?"""
    starts = seen["starts"].reshape(_RESETS, -1)
    commonest = np.unique(starts, axis=0, return_counts=True)[1].max() / _RESETS
    random_starts = bool(commonest < 1)
    first = seen["end_obs"][seen["end_done"]]
    if not random_starts:
        if not _equal(first, seen["starts"][:1]).all():
            raise _violation(task, "the observation after an episode's end is not the one that reset always gives")
        return False, len(first) > 0
    # Where starts are this varied, a fresh key draws the same one 64 times with probability below 1e-6.
    if commonest > 0.8 or len(first) < 64:
        return True, False
    if _equal(first, seen["end_final_observation"][seen["end_done"]]).all():
        raise _violation(
            task,
            "the observation after an episode's end is info['final_observation']: either step does not reset, or the "
            "final observation was taken after the reset",
        )
    if _equal(first, first[:1]).all():
        raise _violation(
            task,
            "reset gives different observations under different keys, but the reset at an episode's end always gives "
            "the same one; it must use a fresh key",
        )
    return True, True


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Per leading index, NaN equal to NaN."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return same.all(axis=tuple(range(1, same.ndim)))
