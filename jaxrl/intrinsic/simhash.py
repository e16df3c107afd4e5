"""SimHash: counts of hashed observations, #Exploration (Tang et al. 2017, arXiv:1611.04717).

    phi(s) = sgn(A g(s)) in {-1, 1}^bits      A fixed, entries drawn from Normal(0, 1)
    b(s') = 1 / sqrt(N(phi(s')) + 1)

N counts the visits committed before the batch, by all environments of the lane together; the + 1 is the visit being
paid, as in `count`. More bits tell more states apart. What is counted matters more than how:
* `learned=False`: g is the observation, flattened. Scaling it changes no code, but a part that is the same in every
  observation and large beside the rest makes all codes one.
* `learned=True`: g is the binary code, in {-1, 1}, of an autoencoder: sigmoid units, disturbed by uniform noise before
  they are decoded so that only 0 and 1 survive, and pushed to the nearer of the two.

Departures: b scores o_{t+1}, judged by the counts before the batch, so repeats within one batch earn the same. Codes
share a table by a hash of the bits (see `hashing`) instead of a dictionary. The autoencoder reconstructs observations
that are whitened as in RND by their squared error (paper: likelihood of quantised pixels), with these constants,
ours: noise of +-0.5, weight 0.1 of the push. It learns from every rollout, so codes move: visits counted under an older
code stay where they were. No hand-made features (BASS).

Kind: lifelong.
Memory: none.
Knows: the visits committed before the batch; learned codes and observation moments as of before the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import counters
from jaxrl.intrinsic.hashing import bucket
from jaxrl.intrinsic.normalize import normalize_obs
from jaxrl.networks import network, over
from jaxrl.shuffle import passes
from jaxrl.types import Array, IntrinsicReward, PyTree

NOISE = 0.5  # half-width, added to units in [0, 1]: the most with which 0 and 1 can still be told apart
PUSH = 0.1  # weight of the squared distance of a unit to the nearer of 0 and 1; codes collapsed where it was 4


class SimHashState(NamedTuple):
    projection: Array  # [bits, D] float32  A; never learns
    visits: Array  # [buckets] uint32
    params: PyTree  # {"encoder", "decoder"}; () unless codes are learned
    adam: PyTree  # optax state; () unless codes are learned


def simhash(
    lr=1e-3,  # Adam step size of the autoencoder
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    bits=32,  # of a code; each more can halve the states that share one
    learned=False,  # hash the binary code of an autoencoder, which the rest but buckets is about, not the observation
    dim=64,  # units of that code
    hidden=(64, 64),  # hidden widths of the encoder and, in reverse, of the decoder
    activation="relu",
    torso="mlp",  # of the encoder: mlp, or conv for [H, W, C] observations
    epochs=1,  # passes of the autoencoder over a rollout
    minibatches=4,  # gradient steps per pass
    buckets=2**16,  # of the table, a power of two
) -> IntrinsicReward:
    """Lifelong count bonus of hashed next_obs, ``[T, N]`` float32 in (0, 1].

    State: visits ``[buckets]`` uint32, the projection, the autoencoder. No memory. Metrics: `simhash/codes`, how many
    buckets were met, and `simhash/loss` of the autoencoder.
    """
    reward = _counts(lr, bits, learned, dim, hidden, activation, torso, epochs, minibatches, buckets)
    return normalize_obs(reward, clip) if learned else reward


def _counts(lr, bits, learned, dim, hidden, activation, torso, epochs, minibatches, buckets) -> IntrinsicReward:
    encoder = network(torso, hidden, dim, 1.0, activation)
    adam = optax.adam(lr)

    def decoder(size):
        return network("mlp", hidden[::-1], size, 1.0, activation)

    def init(key, example):
        k_projection, k_encoder, k_decoder = jax.random.split(key, 3)
        obs = example.obs[:1]
        projection = jax.random.normal(k_projection, (bits, dim if learned else obs.size))
        params = ()
        if learned:
            decode = decoder(obs.size).init(k_decoder, jnp.zeros((1, dim)))
            params = {"encoder": encoder.init(k_encoder, obs), "decoder": decode}
        visits = jnp.zeros(buckets, jnp.uint32)
        return SimHashState(projection, visits, params, adam.init(params) if learned else ()), ()

    def code_of(state, obs):  # [B, *O] -> [B] int32
        if learned:
            x = jnp.where(encoder.apply(state.params["encoder"], obs) > 0.0, 1.0, -1.0)
        else:
            x = obs.reshape(len(obs), -1).astype(jnp.float32)
        # A product of lower precision turns bits over, and differently on each device.
        projected = jnp.matmul(x, state.projection.T, precision=jax.lax.Precision.HIGHEST)
        return jax.vmap(lambda row: bucket((row > 0.0).astype(jnp.int32), buckets))(projected)

    def label(state, memory, batch):
        index = over(code_of, 2)(state._replace(visits=()), batch.next_obs)
        return (), 1.0 / jnp.sqrt(state.visits[index].astype(jnp.float32) + 1.0), index

    def loss(params, obs, noise):
        unit = jax.nn.sigmoid(encoder.apply(params["encoder"], obs))
        target = obs.reshape(len(obs), -1).astype(jnp.float32)
        guess = decoder(target.shape[1]).apply(params["decoder"], unit + noise)
        return ((guess - target) ** 2).mean() + PUSH * (jnp.minimum(unit, 1.0 - unit) ** 2).mean()

    def learn(key, state, obs):  # [T, N, *O] -> (params, Adam, loss)
        def step(carry, obs):
            params, adam_state, key = carry
            key, k_noise = jax.random.split(key)
            noise = jax.random.uniform(k_noise, (len(obs), dim), minval=-NOISE, maxval=NOISE)
            value, grads = jax.value_and_grad(loss)(params, obs, noise)
            steps, adam_state = adam.update(grads, adam_state)
            return (optax.apply_updates(params, steps), adam_state, key), value

        k_deal, k_noise = jax.random.split(key)
        start = state.params, state.adam, k_noise
        (params, adam_state, _), losses = passes(k_deal, step, start, obs, epochs=epochs, minibatches=minibatches)
        return params, adam_state, losses.mean()

    def update(key, state, memory, batch, index):
        state = state._replace(visits=counters.tallied(state.visits, index))
        metrics = {"simhash/codes": (state.visits > 0).sum().astype(jnp.float32)}
        if learned:
            params, adam_state, metrics["simhash/loss"] = learn(key, state, batch.next_obs)
            state = state._replace(params=params, adam=adam_state)
        return state, metrics

    return IntrinsicReward(init, label, update)
