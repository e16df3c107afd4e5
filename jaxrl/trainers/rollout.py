"""The one place where an environment is mapped over N copies and stepped through time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from jaxrl.envs.contract import Task
from jaxrl.spaces import bounds, text
from jaxrl.types import Agent, Array, Box, Key, PyTree, Rollout, Transition

LONGEST = jnp.iinfo(jnp.int32).max
RESET_ROUNDS = 16  # ours: a sixteenth of the environments is reset at once


class EnvCarry(NamedTuple):
    """Where N environments stand between rollouts."""

    state: PyTree  # [N, ...]
    obs: Array  # [N, *O]
    first: Array  # [N] bool
    returns: Array  # [N] float32  extrinsic return of the running episodes so far
    lengths: Array  # [N] int32, to the largest


def start(key: Key, task: Task, num_envs: int) -> EnvCarry:
    """N environments at the start of an episode."""
    obs, state = jax.vmap(task.env.reset, (0, None))(jax.random.split(key, num_envs), task.params)
    zeros = jnp.zeros(num_envs)
    return EnvCarry(state, obs, jnp.ones(num_envs, bool), zeros, zeros.astype(jnp.int32))


def step_all(key: Key, task: Task, state: PyTree, action: Array, *, reset: bool = True) -> tuple:
    """One step of N environments: (obs, state, reward, terminated, truncated, info), all ``[N, ...]``.

    Where an environment keeps step and reset apart (`AutoReset`), only those that ended are reset, a few at a time
    until none is left, because a reset may cost far more than a step (procedural worlds). Each gets the very world
    that its own `step` would have given it. An accelerator does so only for environments that ask for it
    (`lazy_reset`): elsewhere a loop costs it more than resets that nobody needs. Without `reset`, none is reset.

    Under `checkify` an action outside of the space is an error.
    """
    check_actions(task, action)
    env, params = task.env, task.params
    num_envs = jax.tree.leaves(action)[0].shape[0]
    indices = jnp.arange(num_envs)
    lazy = hasattr(env, "advance") and (jax.default_backend() == "cpu" or env.lazy_reset or not reset)
    if not lazy:
        step = lambda i, state, action: env.step(jax.random.fold_in(key, i), state, action, params)
        return jax.vmap(step)(indices, state, action)

    split = lambda i: jax.random.split(jax.random.fold_in(key, i))  # as AutoReset.step does
    step = lambda i, state, action: env.advance(split(i)[0], state, action, params)
    obs, state, *rest = jax.vmap(step)(indices, state, action)
    if not reset:
        return obs, state, *rest
    at_once = -(-num_envs // RESET_ROUNDS)

    def reset_some(loop):
        ended, worlds = loop
        chosen = jnp.searchsorted(jnp.cumsum(ended), jnp.arange(1, at_once + 1))  # num_envs, dropped, past the last
        fresh = jax.vmap(lambda i: env.reset(split(i)[1], params))(chosen)
        worlds = jax.tree.map(lambda x, new: x.at[chosen].set(new, mode="drop"), worlds, fresh)
        return ended.at[chosen].set(False, mode="drop"), worlds

    _, terminated, truncated, _ = rest
    loop = terminated | truncated, (obs, state)
    obs, state = jax.lax.while_loop(lambda loop: loop[0].any(), reset_some, loop)[1]
    return obs, state, *rest


def check_actions(task: Task, action: Array) -> None:
    """A check, free unless the program is made with `checkify`, that actions ``[N, *A]`` lie in the task's space."""
    low, high = bounds(task.actions)
    outside = (action < low) | (action > high)
    found = action.reshape(-1)[outside.reshape(-1).argmax()]
    one = low.size == 1 or (low.min() == low.max() and high.min() == high.max())
    must = f"[{low.min():g}, {high.max():g}]" if one else text(task.actions)
    sentence = f"is outside of the space of environment {task.name!r}: must be in {must}"
    checkify.debug_check(~outside.any(), f"action = {{found}} {sentence}", found=found)


def state_ids(task: Task, state: PyTree) -> Array:
    """The named states ``[N]`` int32 of N environments; the task must name them."""
    return jax.vmap(task.state_id, (0, None))(state, task.params)


def example_of(task: Task, num_envs: int) -> Transition:
    """A Transition ``[N, ...]`` of zeros: what `init` of agents and bonuses is built from."""
    obs = jnp.zeros((num_envs, *task.obs_shape), task.obs_dtype)
    if isinstance(task.actions, Box):
        action = jnp.zeros((num_envs, *task.actions.shape))
    else:
        action = jnp.zeros(num_envs, jnp.int32)
    flags = jnp.zeros(num_envs, bool)
    return Transition(obs, action, jnp.zeros(num_envs), obs, flags, flags, flags, ())


def collect(key: Key, task: Task, agent: Agent, agent_state, memory, carry: EnvCarry, num_steps: int):
    """Let `agent` act for T = `num_steps` steps.

    Returns:
        (memory, EnvCarry, Rollout, played): `played` has `return`, `length`, `episodes` over the episodes that ended
        (NaN, NaN, 0 when none did) and `states`, the ids ``[T, N]`` of the states acted in (None if the task names
        none).
    """
    first_memory = memory

    def step(state, key):
        memory, carry = state
        k_act, k_env = jax.random.split(key)
        memory, action, extras = agent.act(k_act, agent_state, memory, carry.obs, carry.first)
        visited = state_ids(task, carry.state) if task.state_id else None
        obs, env_state, reward, terminated, truncated, info = step_all(k_env, task, carry.state, action)
        reward = reward.astype(jnp.float32)
        memory = agent.observe(memory, reward)
        done = terminated | truncated
        returns, lengths = carry.returns + reward, jnp.minimum(carry.lengths, LONGEST - 1) + 1
        transition = Transition(
            carry.obs, action, reward, info["final_observation"], terminated, truncated, carry.first, extras
        )
        carry = EnvCarry(env_state, obs, done, jnp.where(done, 0.0, returns), jnp.where(done, 0, lengths))
        return (memory, carry), (transition, returns, lengths, visited)

    keys = jax.random.split(key, num_steps)
    (memory, carry), (batch, returns, lengths, states) = jax.lax.scan(step, (memory, carry), keys)
    done = batch.terminated | batch.truncated
    episodes = done.sum()
    mean = lambda x: jnp.where(episodes > 0, jnp.where(done, x, 0.0).sum() / jnp.maximum(episodes, 1), jnp.nan)
    played = {"return": mean(returns), "length": mean(lengths), "episodes": episodes.astype(jnp.float32)}
    return memory, carry, Rollout(batch, first_memory, carry.obs, carry.first), {**played, "states": states}
