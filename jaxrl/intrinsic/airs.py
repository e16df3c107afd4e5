"""AIRS: automatic intrinsic reward shaping (Yuan, Li, Jin and Zeng 2023, arXiv:2301.10886).

    k_u = argmax_k Q_k + exploration * sqrt(log(N_1 + ... + N_K) / N_k)     the part that pays for rollout u
    Q_k   mean of the last `window` payoffs of part k;   N_k   how often it was chosen;   each is chosen once first
    payoff of a rollout   mean over [T, N] of the lambda-returns of the task's reward, by a critic of that reward alone

The part chosen pays the whole rollout, so `none` among them stands for no bonus. The critic starts at exactly 0: until
the task pays, all payoffs are equal and the parts take turns. Parts pay in their own units: choose their scales first.

Credit: the policy that collected a rollout learned last from the bonus of the rollout before it, so a payoff belongs to
the part that paid for that one; the paper's wording leaves open which it means. A choice is therefore made before the
outcome of the last one is known.

The agent's critic learns the bonuses of all parts together, so a rollout that `none` pays for falls short of what it
expects, and punishes novelty: airs(none, episodic_count) left a corridor of 20 cells unsolved that each of the two
solves alone. With a second bonus beside them, a longer one was solved (measured).

Departures: Q is standardised by all payoffs in the windows, because exploration = 1 presumes returns of about 1; the
paper does not say whether parts that were not chosen learn (`all_learn`); the critic is one of its own, one pass a
rollout, no head of the agent's; the bonus is weighted by the trainer's coefficient, without the paper's decay.

Kind: composed.
Memory: its parts'.
Knows: what its parts know, and the task's returns of the rollouts before the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.errors import UserError
from jaxrl.intrinsic.combine import together
from jaxrl.networks import network, over
from jaxrl.returns import gae
from jaxrl.shuffle import passes
from jaxrl.types import Array, IntrinsicReward, PyTree, Streams


class Bandit(NamedTuple):
    """K arms, each judged by its last W payoffs."""

    payoffs: Array  # [K, W] float32  a ring for each arm
    judged: Array  # [K] int32  payoffs that ever came
    chosen: Array  # [K] int32  how often each was chosen
    arm: Array  # () int32  chosen now
    before: Array  # () int32  the one before; K when there was none


class AIRSState(NamedTuple):
    bandit: Bandit
    critic: PyTree  # of the task's reward
    adam: PyTree  # optax state
    parts: PyTree


def start(arms: int, window: int) -> Bandit:
    """The bandit that has chosen arm 0 and seen no payoff."""
    none = jnp.zeros(arms, jnp.int32)
    return Bandit(jnp.zeros((arms, window)), none, none.at[0].set(1), jnp.int32(0), jnp.int32(arms))


def choose(bandit: Bandit, payoff, exploration) -> Bandit:
    """Credit `payoff` () float32 to the arm before (K is none, and dropped), then choose the next one by UCB."""
    arms, window = bandit.payoffs.shape
    slot = bandit.judged.at[bandit.before].get(mode="clip") % window
    payoffs = bandit.payoffs.at[bandit.before, slot].set(payoff, mode="drop")
    judged = bandit.judged.at[bandit.before].add(1, mode="drop")

    kept = jnp.arange(window) < judged[:, None]  # [K, W]
    mean = lambda x, axis=None: jnp.where(kept, x, 0.0).sum(axis) / jnp.maximum(kept.sum(axis), 1)
    standardised = (payoffs - mean(payoffs)) / jnp.sqrt(mean((payoffs - mean(payoffs)) ** 2) + 1e-8)
    unknown = jnp.sqrt(jnp.log(bandit.chosen.sum()) / jnp.maximum(bandit.chosen, 1))
    bound = mean(standardised, 1) + exploration * unknown
    arm = jnp.where(bandit.chosen > 0, bound, jnp.inf).argmax().astype(jnp.int32)  # untried ones first, in order
    return Bandit(payoffs, judged, bandit.chosen.at[arm].add(1), arm, bandit.arm)


def airs(
    *rewards: IntrinsicReward,
    exploration=1.0,  # weight of the UCB term
    window=10,  # payoffs of a part that its mean is over
    all_learn=False,  # parts that did not pay learn too
    discount=0.99,  # of the task's returns
    gae_lambda=0.95,  # lambda of the task's returns
    lr=1e-3,  # Adam step size of the critic
    hidden=(64, 64),  # hidden widths of the critic
    torso="mlp",  # of the critic: mlp, conv for [H, W, C] observations, or symbolic for [H, W, C] categories
    minibatches=4,  # gradient steps of the critic per rollout
) -> IntrinsicReward:
    """The bonus of one of `rewards`, chosen for each rollout by a bandit over task returns; ``[T, N]`` float32.

    Every part labels, so that memories stay in step (under vmap a branch costs both sides anyway), but only the one
    that paid learns from the batch. Metrics: those of the parts, prefixed with their position, `airs/arm` (of the
    batch), `airs/payoff` and `airs/critic_loss`.

    Raises:
        UserError: fewer than two parts.
    """
    if len(rewards) < 2:
        raise UserError(f"airs chooses between bonuses: it needs at least 2, not {len(rewards)}")
    parts = together(rewards, lambda bonuses: jnp.stack(bonuses, -1))
    critic = network(torso, hidden, 1, 0.0, "relu")
    adam = optax.adam(lr)
    streams = Streams(jnp.ones(1), jnp.full(1, discount), jnp.ones(1, bool))

    def init(key, example):
        k_parts, k_critic = jax.random.split(key)
        state, memory = parts.init(k_parts, example)
        params = critic.init(k_critic, example.obs[:1])
        return AIRSState(start(len(rewards), window), params, adam.init(params), state), memory

    def label(state, memory, batch):
        memory, bonuses, trace = parts.label(state.parts, memory, batch)
        return memory, bonuses[..., state.bandit.arm], trace

    def returns(params, batch):
        """Lambda-returns of the task's reward ``[T, N, 1]``."""
        value = over(critic.apply, 2)
        values, next_values = value(params, batch.obs), value(params, batch.next_obs)
        task = batch.reward[..., None], values, next_values, next_values[-1], batch.terminated, batch.truncated
        return values + gae(*task, streams, gae_lambda)

    def loss(params, data):
        obs, target = data  # [B, *O], [B, 1]
        return ((critic.apply(params, obs) - target) ** 2).mean()

    def gradient_step(carry, minibatch):
        params, adam_state = carry
        value, grads = jax.value_and_grad(loss)(params, minibatch)
        steps, adam_state = adam.update(grads, adam_state)
        return (optax.apply_updates(params, steps), adam_state), value

    def update(key, state, memory, batch, trace):
        k_parts, k_critic = jax.random.split(key)
        learned, metrics = parts.update(k_parts, state.parts, memory, batch, trace)
        arm, target = state.bandit.arm, returns(state.critic, batch)
        keep = lambda i: lambda new, old: jnp.where(all_learn | (arm == i), new, old)
        pairs = enumerate(zip(learned, state.parts, strict=True))
        learned = tuple(jax.tree.map(keep(i), new, old) for i, (new, old) in pairs)

        payoff = target.mean()
        carry, losses = passes(
            k_critic, gradient_step, (state.critic, state.adam), (batch.obs, target), epochs=1, minibatches=minibatches
        )
        measured = {"airs/arm": arm.astype(jnp.float32), "airs/payoff": payoff, "airs/critic_loss": losses.mean()}
        return AIRSState(choose(state.bandit, payoff, exploration), *carry, learned), {**metrics, **measured}

    return IntrinsicReward(init, label, update)
