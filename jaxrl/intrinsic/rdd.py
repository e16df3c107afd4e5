"""RDD: random distribution distillation (Fang, Yang, Tao, Lyu, Li, Shen and Li 2025, arXiv:2505.11044).

    y ~ Normal(mu(s), sigma^2 I)      mu frozen and random: RND whose target is a distribution
    min |f(s) - y|^2                  so that f(s) - mu(s) is the mean of the draws' noise
    b(s') = mean_j (f_j(s') - mu_j(s'))^2      error to the mean, not to a draw: sigma^2 / n + imperfect fit (eq. 11)

Input whitening and the scale are RND's: b is divided by the deviation of its running discounted sum.

Two things are open in the second-hand descriptions that this was written from; no released code was found.
* When is a target drawn, and what is learned from? `replay=False`: anew each time that a transition is used, from the
  rollout alone, as RND is trained; n is then bounded by about 1 / lr, and b ends in noise of the order lr sigma^2.
  `replay=True`: once per visit, kept in a ring of visits that is replayed uniformly; n is the visits in the ring.
* `mean="network"`, or `mean="constant"`: mu = 1 for every state.

Departures: the ring and its size are ours; f starts near 0, so that a new state is paid mean_j mu_j^2 (1 when
constant); networks as in `rnd`, a step size and passes of our own, and every transition is learned from.

Kind: lifelong.
Memory: 4 bytes, the running return.
Knows: the network, observation moments and ring as of before the batch; the scale includes the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.errors import unknown
from jaxrl.intrinsic.normalize import normalize_return
from jaxrl.intrinsic.replay import Replay, add_moments, as_seen, draw, empty_replay, equal_weights, no_moments, store
from jaxrl.networks import network, over
from jaxrl.shuffle import passes
from jaxrl.types import Array, IntrinsicReward, PyTree


class Visit(NamedTuple):
    obs: Array  # [*O]  as the environment gave it
    noise: Array  # [D] float32  (y - mu) / sigma


class RDDState(NamedTuple):
    mean: PyTree  # never learns; () when constant
    predictor: PyTree
    adam: PyTree  # optax state
    seen: PyTree  # moments [*O] of all visits; () without whitening
    replay: Replay | tuple  # of Visit; () without replay


def rdd(
    lr=1e-3,  # Adam step size of the predictor
    sigma=1.0,  # deviation of a target from the mean
    discount=0.99,  # of the running return whose deviation scales the bonus
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    replay=False,  # keep visits with their targets and replay them, instead of new targets for this rollout alone
    mean="network",  # network, a frozen random one, or constant, 1
    whiten=True,  # whiten observations
    scale=True,  # divide by the deviation of the running discounted bonus
    dim=64,  # outputs of both networks
    hidden=(64, 64),  # hidden widths of both
    activation="relu",
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    capacity=2**15,  # visits in the ring
    epochs=4,  # passes over a rollout or, with replay, over as many visits
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Squared distance of a network, trained on noisy targets, to their mean at next_obs: ``[T, N]`` float32, scaled.

    State: the networks and, with replay, `capacity` rows of an observation and 4 * dim bytes. Memory: the running
    return of each environment. Metric: `rdd/loss`, sigma^2 included.
    Raises UserError for another `mean` and, while tracing `update`, if the ring does not hold one rollout.
    """
    if mean not in ("network", "constant"):
        raise unknown("mean", mean, ("network", "constant"))
    target = network(torso, hidden, dim, 1.0, activation)
    predictor = network(torso, hidden, dim, 0.01, activation)
    adam = optax.adam(lr)

    def mean_of(params, x):  # [B, *O] -> [B, D]
        return target.apply(params, x) if mean == "network" else jnp.ones((len(x), dim))

    def init(key, example):
        k_mean, k_predictor = jax.random.split(key)
        obs = example.obs[:1].astype(jnp.float32) if whiten else example.obs[:1]
        params = predictor.init(k_predictor, obs)
        return RDDState(
            target.init(k_mean, obs) if mean == "network" else (),
            params,
            adam.init(params),
            no_moments(example.obs) if whiten else (),
            empty_replay(Visit(example.obs[0], jnp.zeros(dim)), capacity) if replay else (),
        ), ()

    def label(state, memory, batch):
        def judge(state, obs):
            x = as_seen(state.seen, obs, clip)
            goal = mean_of(state.mean, x)
            return ((predictor.apply(state.predictor, x) - goal).T ** 2).mean(0), goal

        bonus, goal = over(judge, 2)(state._replace(replay=()), batch.next_obs)
        return (), bonus, () if replay else goal

    def gradient_step(carry, x, goal, noise):
        def loss(params):
            return ((predictor.apply(params, x) - goal - sigma * noise).T ** 2).mean()

        params, adam_state = carry
        value, grads = jax.value_and_grad(loss)(params)
        steps, adam_state = adam.update(grads, adam_state)
        return (optax.apply_updates(params, steps), adam_state), value

    def replayed(key, state, batch):
        k_noise, k_draw = jax.random.split(key)
        rows = batch.reward.size
        obs = batch.next_obs.reshape(rows, *batch.next_obs.shape[2:])
        ring = store(state.replay, Visit(obs, jax.random.normal(k_noise, (rows, dim))))

        def step(carry, chosen):
            x = as_seen(state.seen, ring.visits.obs[chosen], clip)
            return gradient_step(carry, x, mean_of(state.mean, x), ring.visits.noise[chosen])

        chosen = draw(k_draw, equal_weights(ring), (epochs * minibatches, -(-rows // minibatches)))
        return ring, *jax.lax.scan(step, (state.predictor, state.adam), chosen)

    def drawn_anew(key, state, batch, goal):
        k_noise, k_deal = jax.random.split(key)

        def step(carry, minibatch):
            *carry, key = carry
            key, k_noise = jax.random.split(key)
            obs, goal = minibatch
            x = as_seen(state.seen, obs, clip)
            carry, value = gradient_step(carry, x, goal, jax.random.normal(k_noise, goal.shape))
            return (*carry, key), value

        start, data = (state.predictor, state.adam, k_noise), (batch.next_obs, goal)
        (*carry, _), losses = passes(k_deal, step, start, data, epochs=epochs, minibatches=minibatches)
        return (), carry, losses

    def update(key, state, memory, batch, goal):
        seen = add_moments(state.seen, batch.next_obs)
        if replay:
            ring, carry, losses = replayed(key, state._replace(seen=seen), batch)
        else:
            ring, carry, losses = drawn_anew(key, state, batch, goal)  # whitened as `goal` was
        return RDDState(state.mean, *carry, seen, ring), {"rdd/loss": losses.mean()}

    bonus = IntrinsicReward(init, label, update)
    return normalize_return(bonus, discount) if scale else bonus
