"""CFN: coin flip network (Lobel, Bagaria and Konidaris 2023, arXiv:2306.03186).

    c ~ Uniform{-1, 1}^d      flipped once per visit and kept with it
    min sum_i |c_i - f(s_i)|^2      so that f(s) is the mean of the N(s) coins of s, and E f_j(s)^2 = 1 / N(s)
    f(s) = g(s) + (p(s) - mean_p) / sqrt(var_p + 1e-4)      g learns, p is a frozen random network: the prior
    b(s') = sqrt(mean_j f_j(s')^2)      about 1 / sqrt(N(s')), 1 for a state that was never met
    weight = a / (k + 1) + (1 - a) mean_j f_j^2      of a visit replayed k > 0 times; 1 before

Visits are drawn for learning in proportion to their weight, without importance weights. N counts the visits that the
ring holds: what was met more than `capacity` visits ago looks new again. `prior`, `prioritized` and `whiten` are
switches; the released code has the same three.

Departures: b scores o_{t+1} (released code: o_t); the learned head starts near 0, so that a new state is paid 1 and
not sqrt(2); until anything is stored every state is paid 1, where the released code pays nothing and learns nothing
for 1,000 visits; Adam instead of RMSProp, and ReLU instead of leaky ReLU; all visits that an update learns from are
drawn at its start, and each keeps the largest f^2 it had in it. No running normalisation: the released one, for grids
only, divides by the variance; `standardize` divides by the deviation.

Kind: lifelong.
Memory: none.
Knows: the visits of the ring, through the network and observation moments as of before the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.intrinsic.replay import Replay, add_moments, as_seen, draw, empty_replay, equal_weights, no_moments, store
from jaxrl.moments import Moments, deviation, empty_moments, merge
from jaxrl.networks import network, over
from jaxrl.types import Array, IntrinsicReward, PyTree

PRIOR_EPSILON = 1e-4  # of the released code, inside the root


class Visit(NamedTuple):
    obs: Array  # [*O]  as the environment gave it
    coins: Array  # [D] int8  -1 or 1
    uses: Array  # () int32  how often it was learned from
    squared: Array  # () float32  mean_j f_j^2 when it last was, an estimate of 1 / N


class CFNState(NamedTuple):
    prior: PyTree  # never learns; () without one
    params: PyTree
    adam: PyTree  # optax state
    outputs: Moments  # [D] of the prior, over all visits
    seen: PyTree  # moments [*O] of all visits; () without whitening
    replay: Replay  # of Visit


def rare_weights(replay: Replay, freshness) -> Array:
    """What the visits of a ring are drawn in proportion to, ``[capacity]`` float32; see the module."""
    uses, squared = replay.visits.uses, replay.visits.squared
    rare = freshness / (uses + 1) + (1.0 - freshness) * squared
    return jnp.where(uses > 0, rare, 1.0) * equal_weights(replay)


def cfn(
    lr=1e-3,  # Adam step size
    freshness=0.5,  # a: share of a visit's weight that falls with its replays; the rest is its squared bonus
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    prior=True,  # add a frozen random network, so that a new state is paid 1 instead of what the network guesses
    prioritized=True,  # replay rare and seldom replayed visits more often
    whiten=True,  # whiten observations
    dim=20,  # coins of a visit
    hidden=(64, 64),  # hidden widths of both networks
    activation="relu",
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    capacity=2**15,  # visits in the ring
    epochs=4,  # passes: as many visits as a rollout has are replayed in each
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Estimated 1 / sqrt(N) of next_obs, ``[T, N]`` float32. State: the networks, and a ring of `capacity` rows of an
    observation and dim + 8 bytes. No memory. Metric: `cfn/loss`, the mean squared error of the coins.

    Raises UserError while tracing `update` if the ring does not hold one rollout.
    """
    frozen = network(torso, hidden, dim, 1.0, activation)
    learned = network(torso, hidden, dim, 0.01, activation)
    adam = optax.adam(lr)

    def flips(params, state, obs):  # [B, *O] -> f and the prior's raw outputs, each [B, D]
        x = as_seen(state.seen, obs, clip)
        out = learned.apply(params, x)
        if not prior:
            return out, ()
        raw = frozen.apply(state.prior, x)
        return out + (raw - state.outputs.mean) / deviation(state.outputs, PRIOR_EPSILON), raw

    def init(key, example):
        k_prior, k_learned = jax.random.split(key)
        obs = example.obs[:1].astype(jnp.float32) if whiten else example.obs[:1]
        params = learned.init(k_learned, obs)
        visit = Visit(example.obs[0], jnp.zeros(dim, jnp.int8), jnp.int32(0), jnp.float32(0.0))
        return CFNState(
            frozen.init(k_prior, obs) if prior else (),
            params,
            adam.init(params),
            empty_moments((dim,)),
            no_moments(example.obs) if whiten else (),
            empty_replay(visit, capacity),
        ), ()

    def label(state, memory, batch):
        def judge(state, obs):
            out, raw = flips(state.params, state, obs)
            return (out.T**2).mean(0), raw

        squared, raw = over(judge, 2)(state._replace(replay=()), batch.next_obs)
        return (), jnp.where(state.replay.stored > 0, jnp.sqrt(squared), 1.0), raw

    def update(key, state, memory, batch, raw):
        k_coins, k_draw = jax.random.split(key)
        rows = batch.reward.size
        coins = jax.random.rademacher(k_coins, (rows, dim), jnp.int8)
        obs = batch.next_obs.reshape(rows, *batch.next_obs.shape[2:])
        replay = store(state.replay, Visit(obs, coins, jnp.zeros(rows, jnp.int32), jnp.zeros(rows)))
        outputs = merge(state.outputs, raw) if prior else state.outputs
        state = state._replace(outputs=outputs, seen=add_moments(state.seen, batch.next_obs), replay=replay)

        def loss(params, obs, coins):
            out, _ = flips(params, state, obs)
            return ((out - coins).T ** 2).mean(), (out.T**2).mean(0)

        def gradient_step(carry, chosen):
            params, adam_state = carry
            data = replay.visits.obs[chosen], replay.visits.coins[chosen]
            (value, squared), grads = jax.value_and_grad(loss, has_aux=True)(params, *data)
            steps, adam_state = adam.update(grads, adam_state)
            return (optax.apply_updates(params, steps), adam_state), (value, squared)

        weights = rare_weights(replay, freshness) if prioritized else equal_weights(replay)
        chosen = draw(k_draw, weights, (epochs * minibatches, -(-rows // minibatches)))
        (params, adam_state), (losses, squared) = jax.lax.scan(gradient_step, (state.params, state.adam), chosen)

        uses = replay.visits.uses.at[chosen].add(1)
        # The largest, because which of several writes to one row lasts differs from device to device.
        latest = jnp.zeros(capacity).at[chosen].max(squared)
        latest = jnp.where(uses > replay.visits.uses, latest, replay.visits.squared)
        replay = replay._replace(visits=replay.visits._replace(uses=uses, squared=latest))
        return state._replace(params=params, adam=adam_state, replay=replay), {"cfn/loss": losses.mean()}

    return IntrinsicReward(init, label, update)
