"""Evaluation: fixed episodes, fresh environments and memories, trained state; nothing learns."""

import jax
import jax.numpy as jnp

from jaxrl.envs.contract import Task
from jaxrl.trainers.rollout import EnvCarry, example_of, start, step_all
from jaxrl.types import Agent, Array, Key


def evaluate(key: Key, task: Task, agent: Agent, agent_state, *, episodes: int) -> Array:
    """Undiscounted returns ``[episodes]`` float32 of one episode in each of `episodes` fresh environments.

    Runs until the last of them ends, at most `task.max_steps` steps; an episode that is still running then counts
    with the return it has.
    """
    k_start, k_init, k_steps = jax.random.split(key, 3)
    # init is called for its fresh memory; the state it makes is dropped (and its computation with it).
    _, memory = agent.init(k_init, example_of(task, episodes))

    def running(loop):
        t, _, _, alive = loop
        return (t < task.max_steps) & alive.any()

    def step(loop):
        t, memory, carry, alive = loop
        k_act, k_env = jax.random.split(jax.random.fold_in(k_steps, t))
        memory, action, _ = agent.act(k_act, agent_state, memory, carry.obs, carry.first)
        obs, env_state, reward, terminated, truncated, _ = step_all(k_env, task, carry.state, action, reset=False)
        memory = agent.observe(memory, reward)
        returns = carry.returns + jnp.where(alive, reward, 0.0)
        done = terminated | truncated
        return t + 1, memory, EnvCarry(env_state, obs, done, returns, carry.lengths), alive & ~done

    loop = (jnp.int32(0), memory, start(k_start, task, episodes), jnp.ones(episodes, bool))
    return jax.lax.while_loop(running, step, loop)[2].returns
