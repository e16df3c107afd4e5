"""``check_env``: the environment contract as a test that any environment can be given to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import make
from jaxrl.envs.contract import AutoReset, Task, actions_of, sample_action, strong
from jaxrl.envs.solvable import unsolvable
from jaxrl.envs.time_limit import clocks, limit_terminates
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.keys import key_of
from jaxrl.shapes import ContractError, arrays, calling, is_real_scalar, parts, same, words
from jaxrl.spaces import bounds
from jaxrl.types import Array, Box, Discrete, Key

_RESETS = 128  # keys under which resets are compared


def check_env(task_or_env: Any, *, steps: int = 100, key: Key | None = None) -> dict[str, Any]:
    """Run random actions through an environment and test the contract of ``jaxrl.envs.contract``.

    ``task_or_env`` is a Task or whatever ``make`` accepts. The time limit is tested when ``steps`` reaches it, the
    reset when an episode ended. Refused are, too, an episode that is terminated at the limit by nothing but a clock
    that the agent does not see (``jaxrl.envs.time_limit``), observations and rewards that are not finite, and worlds
    whose goal cannot be reached, where the environment names its ``ways`` (``jaxrl.envs.solvable``).

    Returns what was seen: ``episodes``, how many steps were ``terminated``, ``truncated`` or ``both``,
    ``random_starts``, and whether the limit and the reset were tested at all. Raises UserError naming the first
    violation.
    """
    task = task_or_env if isinstance(task_or_env, Task) else make(task_or_env)
    key = key_of(0) if key is None else key
    check_types(task)
    seen, at_limit = jax.jit(lambda key: _experience(task, steps, key))(key)
    seen = jax.tree.map(np.asarray, seen)
    _check_actions(task, seen["action"])
    _check_finite(task, seen)
    _check_final_observation(task, seen)
    longest = _check_limit(task, seen)
    _check_limit_truncates(task, seen, at_limit)
    if task.state_id is not None:
        _check_state_ids(task, seen["state_id"])
    if getattr(task.env, "ways", None) and (cut_off := unsolvable(task)):
        raise _violation(task, f"the goal cannot be reached in {len(cut_off)} of 64 worlds (jaxrl.envs.solvable)")
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


def _violation(task: Task, sentence: str) -> ContractError:
    return ContractError(f"environment {task.name!r} breaks the contract: {sentence}")


def check_types(task: Task) -> None:
    """Structures, shapes and dtypes only; nothing is run or compiled. Raises UserError naming the method and the fault.

    Of an AutoReset, ``reset_env`` and ``step_env`` are followed, which its author wrote, under all its wrappers too.
    """
    layers = [(task.env, task.params)]
    while isinstance(layers[0][0], Wrapper):
        env, params = layers[0]
        layers.insert(0, (env.env, env.inner_params(params)))
    for env, params in layers:
        inherits = lambda name, env=env: getattr(getattr(env, name), "__func__", None) is getattr(AutoReset, name)
        actions = task.actions if env is task.env else actions_of(task.name, env, params)
        if isinstance(env, AutoReset):
            _follow(task, env, params, actions, ("reset_env", "step_env"))
        if not (isinstance(env, AutoReset) and inherits("reset") and inherits("step")):
            _follow(task, env, params, actions, ("reset", "step"))
    if task.state_id is not None:
        _check_state_id(task)


def _follow(task: Task, env: Any, params: Any, actions: Discrete | Box, methods: tuple[str, str]) -> None:
    what = f"environment {task.name!r} breaks the contract:"
    of_author = methods[1] == "step_env"  # AutoReset mends weak types, numbers for arrays, and the final observation
    reset, step = getattr(env, methods[0]), getattr(env, methods[1])
    key = jax.eval_shape(key_of, 0)

    def begin(key):
        with calling(f"{what} {methods[0]}"):
            begun = reset(key, params)
        obs, state = parts(f"{what} {methods[0]}", "(obs, state)", begun)
        arrays(f"{what} the observation", obs), arrays(f"{what} the state", state)
        return strong((obs, state)) if of_author else (obs, state)

    obs, state = jax.eval_shape(begin, key)

    def go_on(key, now):
        action = sample_action(actions, key)
        with calling(f"{what} {methods[1]}"):
            result = step(key, now, action, params)
        returned = parts(f"{what} {methods[1]}", "(obs, state, reward, terminated, truncated, info)", result)
        next_obs, next_state, reward, terminated, truncated, info = returned
        if not isinstance(info, dict):
            raise _violation(task, f"{methods[1]}: info is {words(info)}, it must be a dict")
        compared = {"the observation": (obs, next_obs), "the state": (state, next_state)}
        if not of_author:
            if "final_observation" not in info:
                raise _violation(task, "info['final_observation'] is missing; it must be there on every step")
            compared["info['final_observation']"] = (obs, info["final_observation"])
        for name, (before, after) in compared.items():
            arrays(f"{what} {name}", after)
            same(f"{what} {name}", before, strong(after) if of_author else after, methods)
        for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
            _check_scalar(task, methods[1], name, value, of_author)

    jax.eval_shape(go_on, key, state)


def _check_scalar(task: Task, method: str, name: str, value: Any, of_author: bool) -> None:
    wanted = np.dtype(np.float32 if name == "reward" else np.bool_)
    found = arrays(f"environment {task.name!r}: {name}", value)
    fits = is_real_scalar(found) if of_author and name == "reward" else getattr(found, "dtype", None) == wanted
    if not fits or found.shape != ():
        raise _violation(task, f"{method}: {name} is {words(found)}, it must be a {wanted} scalar")


def _check_state_id(task: Task) -> None:
    what = f"environment {task.name!r} breaks the contract: state_id"

    def name_one(key):
        _, state = task.env.reset(key, task.params)
        with calling(what):
            return task.state_id(state, task.params)

    found = jax.eval_shape(name_one, jax.eval_shape(key_of, 0))
    if getattr(found, "shape", None) != () or found.dtype != jnp.int32:
        raise ContractError(f"{what} gave {words(found)}, it must give an int32 scalar")


def _experience(task: Task, steps: int, key: Key) -> tuple[dict[str, Array], tuple]:
    """Random actions under scan; then resets, and ends of one episode, each under many keys.

    Also the (state, action, key) of the last step that terminated at the limit.
    """
    env, params = task.env, task.params
    reset_key, scan_key, compare_key = jax.random.split(key, 3)
    _, state = env.reset(reset_key, params)
    ending = state, sample_action(task.actions, reset_key)
    at_limit = *ending, reset_key

    def body(carry, key):
        state, length, ending, at_limit = carry
        action_key, step_key = jax.random.split(key)
        action = sample_action(task.actions, action_key)
        obs, next_state, reward, terminated, truncated, info = env.step(step_key, state, action, params)
        done, length = terminated | truncated, length + 1
        ending = jax.tree.map(lambda new, old: jnp.where(done, new, old), (state, action), ending)
        late = terminated & (length == task.max_steps)
        at_limit = jax.tree.map(lambda new, old: jnp.where(late, new, old), (state, action, step_key), at_limit)
        seen = {
            "action": action,
            "clocks": clocks(state),
            "obs": obs,
            "reward": reward,
            "final_observation": info["final_observation"],
            "terminated": terminated,
            "truncated": truncated,
            "done": done,
            "state_id": task.state_id(next_state, params) if task.state_id else 0,
        }
        return (next_state, jnp.where(done, 0, length), ending, at_limit), seen

    start: Any = state, jnp.int32(0), ending, at_limit
    (*_, ending, at_limit), seen = jax.lax.scan(body, start, jax.random.split(scan_key, steps))
    keys = jax.random.split(compare_key, _RESETS)
    again = jax.vmap(lambda key: env.step(key, *ending, params))(keys)
    more = {
        "starts": jax.vmap(lambda key: env.reset(key, params)[0])(keys),
        "end_obs": again[0],
        "end_done": again[3] | again[4],
        "end_final_observation": again[5]["final_observation"],
    }
    return seen | more, at_limit


def _check_actions(task: Task, action: np.ndarray) -> None:
    low, high = bounds(task.actions)
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


def _check_finite(task: Task, seen: dict[str, np.ndarray]) -> None:
    said = {
        "starts": "reset gave an observation",
        "final_observation": "info['final_observation'] at step {}",
        "obs": "the observation at step {}",
        "reward": "the reward at step {}",
    }
    for name, what in said.items():
        values = seen[name].reshape(len(seen[name]), -1)
        wrong = ~np.isfinite(values)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise _violation(task, f"{what.format(row)} with the value {values[row, column]}: all must be finite")


def _check_limit_truncates(task: Task, seen: dict[str, np.ndarray], at_limit: tuple) -> None:
    ends = np.flatnonzero(seen["done"])
    lengths = np.diff(ends, prepend=-1)
    late = ends[lengths == task.max_steps]
    if not len(late) or not seen["terminated"][late].all():  # an end at the limit that is cut as it should be
        return
    before = seen["clocks"][late[-1] + 1 - task.max_steps : late[-1] + 1]
    state, action, key = at_limit
    if limit_terminates(task, state, action, key, before):
        raise _violation(
            task,
            f"at the limit, max_steps={task.max_steps}, the episode was terminated, and the same step earlier in the "
            "episode does not end it; at the limit, truncated must be True, and terminated only where the world ends",
        )


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
