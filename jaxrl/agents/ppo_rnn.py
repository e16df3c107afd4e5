"""Recurrent PPO: the agent of `jaxrl.agents.ppo` with a memory of its own episode, for partial observations.

One torso and one GRU, shared by actor and critic, and a linear head for each (the usual arrangement; heads that share
halve the unrolling). Loss, streams, truncation and hyperparameters are those of `ppo`; what memory changes:

* memory is zero where `first`, before the observation is used, while acting and inside every unroll;
* environments are dealt into minibatches and time never is: a minibatch is the whole T of a block of environments;
* an update unrolls from the memory that acting had at t = 0 (`Rollout.memory`) and gradients stop there; from the
  second gradient step on that memory is of older parameters ("stored state", Kapturowski et al. 2019, R2D2);
* V(next_obs) of a truncated step goes on from the memory after obs, not from a reset one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import spaces
from jaxrl.agents.ppo import OBSERVATION_CLIP, PPOState, chosen, distribution, explained_variance, objective, taken_in
from jaxrl.errors import UserError
from jaxrl.moments import Moments, empty_moments, merge, whitened
from jaxrl.networks import ACTIVATIONS, gru, network, over
from jaxrl.returns import gae
from jaxrl.types import Agent, Array, Box, Discrete, Key, PyTree, Rollout, Streams


class PPOMemory(NamedTuple):
    hidden: Array  # [N, W] float32  of the GRU, after the last observation
    action: Array  # [N, *A]  the last action
    reward: Array  # [N] float32  the extrinsic reward that followed it


def ppo_rnn(
    streams: Streams,
    lr=2.5e-4,  # Adam step size
    clip=0.2,  # surrogate clip range
    gae_lambda=0.95,  # lambda of generalised advantage estimation
    entropy=0.01,  # entropy bonus, per nat
    value_coef=0.5,  # weight of the value loss, streams summed
    max_grad_norm=0.5,  # global gradient norm
    anneal=0.0,  # share of lr gone, linearly, when training ends
    *,
    actions: Discrete | Box,
    iterations: int,
    explore: bool,
    hidden=(64, 64),  # widths of the torso before the GRU
    width=64,  # units of the GRU
    activation="tanh",  # tanh, relu or elu
    torso="mlp",  # mlp, conv for [H, W, C] observations, or symbolic for [H, W, C] categories
    previous=True,  # the GRU also sees the action and reward before, 0 at the start of an episode
    epochs=4,  # passes over a rollout
    minibatches=4,  # gradient steps per pass; must divide num_envs
    normalize_obs=False,  # whiten observations with running moments
) -> Agent:
    """PPO with a GRU for `actions`, and one critic output per stream of `streams`; `iterations` ends the annealing.
    Without `explore` it acts greedily.

    Memory is `PPOMemory`. Extras of a transition: `log_prob` and `sampled` as in `ppo`, and `hidden` ``[..., W]``, the
    memory after its observation. Metrics are those of `ppo`, under the same names.

    Raises:
        UserError: no hidden layer, or `minibatches` does not divide the number of environments.
    """
    if not hidden:
        raise UserError("hidden = (): the torso needs at least one width")
    continuous = isinstance(actions, Box)
    outputs = spaces.width(actions)
    num_streams = streams.discount.shape[0]
    adam = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=1e-5))

    encoder = network(torso, hidden[:-1], hidden[-1], 2**0.5, activation)
    core = gru(width)
    actor = network("mlp", (), outputs, 0.01)
    critic = network("mlp", (), num_streams, 1.0)

    def whiten(moments: Moments, obs):
        return whitened(moments, obs, OBSERVATION_CLIP) if normalize_obs else obs

    def encode(params, data):
        """What the GRU sees ``[B, D]`` of a whitened observation and of the action and reward before it."""
        obs, action, reward, first = data
        seen = ACTIVATIONS[activation](encoder.apply(params["encoder"], obs))
        if not previous:
            return seen
        before = jnp.concatenate([spaces.code(actions, action), reward[:, None]], -1)
        return jnp.concatenate([seen, jnp.where(first[:, None], 0.0, before)], -1)

    def remember(params, memory: PPOMemory, obs, first):
        """The GRU's memory ``[N, W]`` after one more observation."""
        before = jnp.where(first[:, None], 0.0, memory.hidden)
        return core.step(params["gru"], before, encode(params, (obs, memory.action, memory.reward, first)))

    def policy(params, hidden):  # [..., W]
        return distribution(actions, params, over(actor.apply, hidden.ndim - 1)(params["actor"], hidden))

    def init(key: Key, example):
        k_encoder, k_gru, k_actor, k_critic = jax.random.split(key, 4)
        one = jax.tree.map(lambda x: x[:1], example)
        params: dict[str, PyTree] = {"encoder": encoder.init(k_encoder, one.obs)}
        memory = PPOMemory(jnp.zeros((len(example.first), width)), jnp.zeros_like(example.action), example.reward)
        params["gru"] = core.init(k_gru, encode(params, (one.obs, one.action, one.reward, one.first)))
        params["actor"] = actor.init(k_actor, memory.hidden[:1])
        params["critic"] = critic.init(k_critic, memory.hidden[:1])
        if continuous:
            params["log_std"] = jnp.zeros(outputs)
        return PPOState(params, adam.init(params), empty_moments(one.obs.shape[1:]), jnp.int32(0)), memory

    def act(key: Key, state: PPOState, memory: PPOMemory, obs, first):
        after = remember(state.params, memory, whiten(state.moments, obs), first)
        action, extras = chosen(key, policy(state.params, after), actions, explore)
        return PPOMemory(after, action, memory.reward), action, {**extras, "hidden": after}

    def observe(memory: PPOMemory, reward):
        return memory._replace(reward=reward)

    def loss(params, minibatch):
        memory, (seen, taken) = minibatch  # [B, ...], [T, B, ...]
        first = seen[-1]
        after = core.unroll(params["gru"], memory.hidden, over(encode, 2)(params, seen), first)
        value = over(critic.apply, 2)(params["critic"], after)
        return objective(policy(params, after), value, taken, clip, value_coef, entropy)

    def update(key: Key, state: PPOState, rollout: Rollout, rewards):
        batch, params = rollout.batch, state.params
        num_envs = batch.first.shape[1]
        if num_envs % minibatches:
            raise UserError(
                f"minibatches={minibatches} must divide num_envs={num_envs}: a recurrent agent deals environments"
            )
        obs = whiten(state.moments, batch.obs)
        after = PPOMemory(batch.extras["hidden"], batch.action, batch.reward)
        values = over(critic.apply, 2)(params["critic"], after.hidden)
        end = jax.tree.map(lambda x: x[-1], after)
        last_hidden = remember(params, end, whiten(state.moments, rollout.last_obs), rollout.last_first)
        last_value = critic.apply(params["critic"], last_hidden)

        def shown(params, data):
            memory, next_obs = data
            unbroken = jnp.zeros(len(next_obs), bool)
            return critic.apply(params["critic"], remember(params, memory, next_obs, unbroken))

        # Only a truncated step asks for the value of an observation that no later step shows: most rollouts have none.
        following = jnp.concatenate([values[1:], last_value[None]])
        cut = batch.truncated & ~batch.terminated
        next_values = jax.lax.cond(
            cut.any(),
            lambda: over(shown, 2)(params, (after, whiten(state.moments, batch.next_obs))),
            lambda: following,
        )
        next_values = jnp.where(cut[..., None], next_values, following)
        advantages = gae(
            rewards, values, next_values, last_value, batch.terminated, batch.truncated, streams, gae_lambda
        )
        taken = taken_in(batch, advantages, values, streams)
        before = rollout.memory
        action_before = jnp.concatenate([before.action[None], batch.action[:-1]])
        reward_before = jnp.concatenate([before.reward[None], batch.reward[:-1]])
        data = ((obs, action_before, reward_before, batch.first), taken)
        rate = lr * (1.0 - anneal * state.updates / iterations)

        def gradient_step(carry, dealt):  # environments
            params, adam_state = carry
            minibatch = jax.tree.map(lambda x: x[dealt], before), jax.tree.map(lambda x: x[:, dealt], data)
            grads, metrics = jax.grad(loss, has_aux=True)(params, minibatch)
            steps, adam_state = adam.update(grads, adam_state)
            params = jax.tree.map(lambda p, s: p - rate * s, params, steps)
            return (params, adam_state), metrics

        def epoch(carry, key):
            return jax.lax.scan(gradient_step, carry, jax.random.permutation(key, num_envs).reshape(minibatches, -1))

        carry, metrics = jax.lax.scan(epoch, (params, state.adam), jax.random.split(key, epochs))
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics["ppo/explained_variance"] = explained_variance(values, taken.target)
        moments = merge(state.moments, batch.obs) if normalize_obs else state.moments
        return PPOState(*carry, moments, state.updates + 1), metrics

    return Agent(init, act, update, observe)
