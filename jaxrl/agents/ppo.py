"""PPO: proximal policy optimisation over reward streams (Schulman et al. 2017, arXiv:1707.06347).

Clipped surrogate (eq. 7) on the contracted advantage sum_s coef_s A_s, plus value and entropy terms (eq. 9). With
S = 2 streams it is the agent of RND (Burda et al. 2018, section 2.3): one critic output, discount and episodic flag
per stream. Actor and critic are separate networks.

Departures from the common implementations, each deliberate:
* truncation bootstraps from V(next_obs), the observation before auto-reset; termination does not;
* values are not clipped (no benefit in Andrychowicz et al. 2021, arXiv:2006.05990, section 3.2);
* advantages are standardised over the whole batch instead of per minibatch;
* a minibatch is a random set of time slices, each with all environments (or a block of them), instead of random
  rows: rows of one slice come from different environments, and no single row has to be sorted or gathered.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.distributions import Categorical, DiagonalNormal
from jaxrl.moments import Moments, empty_moments, merge, whitened
from jaxrl.networks import mean_gradient, network, over
from jaxrl.returns import gae
from jaxrl.shuffle import passes
from jaxrl.spaces import from_unit, width
from jaxrl.types import Agent, Array, Box, Discrete, Key, PyTree, Rollout, Streams, Transition

OBSERVATION_CLIP = 10.0  # standard deviations; as in OpenAI baselines' VecNormalize


class PPOState(NamedTuple):
    params: PyTree  # {"actor", "critic", "log_std" if continuous}
    adam: PyTree  # optax state
    moments: Moments  # [*O] of every observation trained on; unused unless normalize_obs
    updates: Array  # () int32


def ppo(
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
    hidden=(64, 64),  # widths of both torsos
    activation="tanh",  # tanh, relu or elu
    torso="mlp",  # mlp, conv for [H, W, C] observations, or symbolic for [H, W, C] categories
    epochs=4,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
    normalize_obs=False,  # whiten observations with running moments
) -> Agent:
    """PPO for `actions`, with one critic output per stream of `streams`; `iterations` ends the annealing.
    Without `explore` it acts greedily.

    Memory is empty. Extras of a transition: `log_prob` ``[...]`` and `sampled` ``[..., *A]``; in a `Box`, before it was
    clipped to [-1, 1] and mapped on the bounds. Metrics: `ppo/policy_loss ppo/value_loss ppo/entropy ppo/approx_kl
    ppo/clip_fraction ppo/explained_variance` (of the first stream; NaN where what it is to predict does not vary).
    """
    continuous = isinstance(actions, Box)
    outputs = width(actions)
    num_streams = streams.discount.shape[0]
    adam = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=1e-5))

    actor = network(torso, hidden, outputs, 0.01, activation)
    critic = network(torso, hidden, num_streams, 1.0, activation)

    def whiten(moments: Moments, obs):
        return whitened(moments, obs, OBSERVATION_CLIP) if normalize_obs else obs

    def policy(params, obs):
        return distribution(actions, params, actor.apply(params["actor"], obs))

    def init(key: Key, example):
        k_actor, k_critic = jax.random.split(key)
        obs = example.obs[:1]
        params: dict[str, PyTree] = {"actor": actor.init(k_actor, obs), "critic": critic.init(k_critic, obs)}
        if continuous:
            params["log_std"] = jnp.zeros(outputs)
        return PPOState(params, adam.init(params), empty_moments(obs.shape[1:]), jnp.int32(0)), ()

    def act(key: Key, state: PPOState, memory, obs, first):
        action, extras = chosen(key, policy(state.params, whiten(state.moments, obs)), actions, explore)
        return memory, action, extras

    def loss(params, minibatch):
        obs, taken = minibatch  # [B, *O], Taken of [B, ...]
        value = critic.apply(params["critic"], obs)
        return objective(policy(params, obs), value, taken, clip, value_coef, entropy)

    def update(key: Key, state: PPOState, rollout: Rollout, rewards):
        batch = rollout.batch
        obs = whiten(state.moments, batch.obs)
        values = over(critic.apply, 2)(state.params["critic"], obs)
        last_value = critic.apply(state.params["critic"], whiten(state.moments, rollout.last_obs))
        # Only a truncated step asks for the value of an observation that no later step shows: most rollouts have none.
        after = jnp.concatenate([values[1:], last_value[None]])
        cut = batch.truncated & ~batch.terminated
        next_values = jax.lax.cond(
            cut.any(),
            lambda: over(critic.apply, 2)(state.params["critic"], whiten(state.moments, batch.next_obs)),
            lambda: after,
        )
        next_values = jnp.where(cut[..., None], next_values, after)
        advantages = gae(
            rewards, values, next_values, last_value, batch.terminated, batch.truncated, streams, gae_lambda
        )
        taken = taken_in(batch, advantages, values, streams)
        rate = lr * (1.0 - anneal * state.updates / iterations)

        def gradient_step(carry, minibatch):
            params, adam_state = carry
            grads, metrics = mean_gradient(loss, params, minibatch)
            steps, adam_state = adam.update(grads, adam_state)
            params = jax.tree.map(lambda p, s: p - rate * s, params, steps)
            return (params, adam_state), metrics

        (params, adam_state), metrics = passes(
            key, gradient_step, (state.params, state.adam), (obs, taken), epochs=epochs, minibatches=minibatches
        )
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics["ppo/explained_variance"] = explained_variance(values, taken.target)
        moments = merge(state.moments, batch.obs) if normalize_obs else state.moments
        return PPOState(params, adam_state, moments, state.updates + 1), metrics

    return Agent(init, act, update)


def distribution(actions: Discrete | Box, params: PyTree, out: Array) -> Categorical | DiagonalNormal:
    """The policy of an actor's output ``[..., outputs]``."""
    return DiagonalNormal(out, params["log_std"]) if isinstance(actions, Box) else Categorical(out)


def chosen(key: Key, policy: Categorical | DiagonalNormal, actions: Discrete | Box, explore: bool) -> tuple:
    """(action, extras): sampled, or the mode; in a `Box`, `sampled` is before clipping to [-1, 1] and mapping."""
    sampled = policy.sample(key) if explore else policy.mode()
    action = from_unit(actions, sampled) if isinstance(actions, Box) else sampled
    return action, {"log_prob": policy.log_prob(sampled), "sampled": sampled}


class Taken(NamedTuple):
    """What the objective asks of each step ``[..., ]`` besides the observation."""

    sampled: Array  # [..., *A]
    log_prob: Array  # [...]  of sampled, by the policy that sampled it
    advantage: Array  # [...]  standardised sum over streams
    target: Array  # [..., S]  lambda-returns


def taken_in(batch: Transition, advantages: Array, values: Array, streams: Streams) -> Taken:
    """The rollout's steps, with advantages ``[T, N, S]`` contracted by the streams' weights and standardised."""
    advantage = (advantages * streams.coef).sum(-1)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    return Taken(batch.extras["sampled"], batch.extras["log_prob"], advantage, advantages + values)


def objective(policy, value: Array, taken: Taken, clip, value_coef, entropy) -> tuple[Array, dict[str, Array]]:
    """(loss, metrics) of eq. 9 for a policy and values ``[..., S]`` of as many steps as `taken` has."""
    log_ratio = policy.log_prob(taken.sampled) - taken.log_prob
    ratio = jnp.exp(log_ratio)
    surrogate = jnp.minimum(ratio * taken.advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * taken.advantage)
    error = value - taken.target
    metrics = {
        "ppo/policy_loss": -surrogate.mean(),
        "ppo/value_loss": 0.5 * (error**2).mean(tuple(range(error.ndim - 1))).sum(),
        "ppo/entropy": policy.entropy().mean(),
        "ppo/approx_kl": (ratio - 1.0 - log_ratio).mean(),
        "ppo/clip_fraction": (jnp.abs(ratio - 1.0) > clip).mean(),
    }
    total = metrics["ppo/policy_loss"] + value_coef * metrics["ppo/value_loss"]
    return total - entropy * metrics["ppo/entropy"], metrics


def explained_variance(values: Array, targets: Array) -> Array:
    """Of the first stream's targets by its values, both ``[T, N, S]``; 1 is perfect, NaN where targets do not vary."""
    error, target = (targets - values)[..., 0], targets[..., 0]
    varies = target.var() > 1e-10 * (target**2).mean()  # what is constant varies by its rounding still
    return jnp.where(varies, 1.0 - error.var() / jnp.where(varies, target.var(), 1.0), jnp.nan)
