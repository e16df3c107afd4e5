"""Collect, label, learn: the on-policy loop with an intrinsic reward.

The order is the point: a rollout is labelled by what was known before it, then the bonus learns from it, then the
agent does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.random import random
from jaxrl.envs.contract import Task
from jaxrl.intrinsic.normalize import is_warmable, keep_warmed
from jaxrl.moments import Moments, deviation, empty_moments, merge
from jaxrl.trainers.rollout import EnvCarry, collect, example_of, start, state_ids
from jaxrl.trainers.visits import Visits, correlation_with_counts, exploration, no_visits, visit
from jaxrl.types import Agent, Array, IntrinsicReward, Key, PyTree, Streams, Trainer

MAY_BE_NAN = ("ppo/explained_variance",)


class OnPolicyState(NamedTuple):
    key: Key
    agent: PyTree
    agent_memory: PyTree  # [N, ...]
    reward: PyTree
    reward_memory: PyTree  # [N, ...]
    envs: EnvCarry
    visits: Visits  # of the task's named states
    scale: Moments  # scalar, of the running extrinsic return; used by normalize_reward
    running: Array  # [N] float32  running discounted extrinsic return, 0 after an episode's end


def split_streams(coef, discount, bonus_discount, bonus_episodic: bool):
    """(Streams, combine) with S = 2: extrinsic and bonus, each with its own critic output (Burda et al. 2018)."""
    streams = Streams(
        jnp.stack([jnp.float32(1.0), jnp.float32(coef)]),
        jnp.stack([jnp.float32(discount), jnp.float32(bonus_discount)]),
        jnp.array([True, bonus_episodic]),
    )
    return streams, lambda reward, bonus: jnp.stack([reward, bonus], -1)


def summed_stream(coef, discount):
    """(Streams, combine) with S = 1: the critic sees reward + coef * bonus, episodic."""
    streams = Streams(jnp.ones(1), jnp.float32(discount)[None], jnp.array([True]))
    return streams, lambda reward, bonus: (reward + coef * bonus)[..., None]


def bonus_stream(discount, episodic: bool):
    """(Streams, combine) with S = 1: the bonus alone. The agent never sees the reward, which is still measured."""
    streams = Streams(jnp.ones(1), jnp.float32(discount)[None], jnp.array([episodic]))
    return streams, lambda reward, bonus: bonus[..., None]


def on_policy(
    task: Task,
    agent: Agent,
    reward: IntrinsicReward,
    combine,
    *,
    num_envs: int,
    num_steps: int,
    warmup: int = 0,
    reward_discount=None,
) -> Trainer:
    """The on-policy trainer; one step is `num_steps` steps of `num_envs` environments and one update of each part.

    Args:
        combine: (reward ``[T, N]``, bonus ``[T, N]``) -> rewards ``[T, N, S]`` for the agent's streams.
        warmup: rollouts of a random policy before training that initialise observation moments of the bonus and
            nothing else; skipped, at no cost, when the bonus has none.
        reward_discount: when given, extrinsic rewards are divided by the running deviation of their return
            discounted by it (Engstrom et al. 2020, arXiv:2005.12729, section 3); not clipped afterwards, so that a
            first rare reward keeps its size relative to the next.

    Metrics: see `jaxrl.metrics`, and those of the agent and the bonus.
    """

    def init(key: Key) -> OnPolicyState:
        key, k_envs, k_agent, k_reward, k_warmup = jax.random.split(key, 5)
        example = example_of(task, num_envs)
        agent_state, agent_memory = agent.init(k_agent, example)
        reward_state, reward_memory = reward.init(k_reward, example)
        envs = start(k_envs, task, num_envs)
        if warmup and is_warmable(reward_state):
            reward_state = warm_up(k_warmup, reward_state, reward_memory, envs)
        visits = no_visits(task.num_states or 0)
        zeros = jnp.zeros(num_envs)
        return OnPolicyState(
            key, agent_state, agent_memory, reward_state, reward_memory, envs, visits, empty_moments(), zeros
        )

    def warm_up(key, initial, memory, envs):
        actor = random(actions=task.actions)

        def iteration(carry, key):
            state, memory, envs = carry
            k_collect, k_update = jax.random.split(key)
            _, envs, rollout, _ = collect(k_collect, task, actor, (), (), envs, num_steps)
            after, _, trace = reward.label(state, memory, rollout.batch)
            state, _ = reward.update(k_update, state, memory, rollout.batch, trace)
            return (state, after, envs), None

        (state, _, _), _ = jax.lax.scan(iteration, (initial, memory, envs), jax.random.split(key, warmup))
        return keep_warmed(initial, state)

    def scaled(state: OnPolicyState, batch):
        if reward_discount is None:
            return batch.reward, state.scale, state.running

        def step(running, inputs):
            reward, done = inputs
            running = reward_discount * running + reward
            return jnp.where(done, 0.0, running), running

        running, returns = jax.lax.scan(step, state.running, (batch.reward, batch.terminated | batch.truncated))
        scale = merge(state.scale, returns)
        return batch.reward / deviation(scale), scale, running

    def step(state: OnPolicyState):
        key, k_collect, k_reward, k_agent = jax.random.split(state.key, 4)
        agent_memory, envs, rollout, played = collect(
            k_collect, task, agent, state.agent, state.agent_memory, state.envs, num_steps
        )
        batch = rollout.batch
        reward_memory, bonus, trace = reward.label(state.reward, state.reward_memory, batch)
        reward_state, reward_metrics = reward.update(k_reward, state.reward, state.reward_memory, batch, trace)
        extrinsic, scale, running = scaled(state, batch)
        agent_state, agent_metrics = agent.update(k_agent, state.agent, rollout, combine(extrinsic, bonus))

        states, visits = played.pop("states"), state.visits
        metrics = {**played, "bonus_mean": bonus.mean(), "bonus_max": bonus.max(), **reward_metrics, **agent_metrics}
        if states is not None:
            arrived = jnp.concatenate([states[1:], state_ids(task, envs.state)[None]])
            inside = ~(batch.terminated | batch.truncated)  # of an end, the state after the reset is all that is left
            metrics["bonus_count_correlation"] = correlation_with_counts(bonus, visits, arrived, inside)
            visits = visit(visits, states)
            metrics |= exploration(visits)
        metrics["finite"] = all_finite((bonus, reward_metrics, agent_metrics, agent_state, reward_state))
        state = OnPolicyState(
            key, agent_state, agent_memory, reward_state, reward_memory, envs, visits, scale, running
        )
        return state, metrics

    return Trainer(init, step)


def all_finite(tree: PyTree) -> Array:
    """1.0 if every floating leaf is finite, else 0.0; a metric of `MAY_BE_NAN` says nothing by being NaN."""
    named = ((jax.tree_util.keystr(path[-1:], simple=True), x) for path, x in jax.tree_util.tree_leaves_with_path(tree))
    leaves = [x for name, x in named if jnp.issubdtype(jnp.result_type(x), jnp.floating) and name not in MAY_BE_NAN]
    return jnp.stack([jnp.isfinite(x).all() for x in leaves]).all().astype(jnp.float32)
