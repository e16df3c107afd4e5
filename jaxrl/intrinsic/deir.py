"""DEIR: discriminative-model-based episodic intrinsic rewards (Wan, Tang, Tian and Kaneko 2023, arXiv:2304.10770).

    b_t = min over i <= t of |e(o_i) - e(o_{t+1})|^2 / (|h_{i-1} - h_t| + 1e-6)     i over this episode (eq. 4)
    h_t = GRU(h_{t-1}, e(o_t)),  h_{-1} = 0            the trajectory up to o_t, embedded
    bonus = (b - mean) / deviation                     moving averages

`scaled=False` is the paper's plain discriminator, min |e(o_i) - e(o_{t+1})|, not squared. e and the GRU learn to tell
whether o' = o_{t+1} from (h_t, GRU(h_t, e(o')), a_t), by binary cross-entropy. The false o' is the first of two random
members of a queue that differs from o_{t+1}; where neither does there is none. An observation enters the queue if its
raw bonus is at least the mean before the batch; in the first batch all do.

Departures from the released code: the observation that ends an episode is paid and learned from (there, the reset
observation is paid and the pair masked); each half of the loss is a mean (there, the smaller half weighs more); e ends
in a layer norm without gain (there, batch norm); only an episode's opening and last `remembered` observations are kept;
moving averages are corrected for their start; the queue is shorter (there, 100,000) and does not begin with openings;
continuous actions enter as points of the unit box. The paper's coefficient is 0.01.

Kind: recurrent.
Memory: 263,428 bytes, remembered + 2 pairs (e, h) of float32, h, a size.
Knows: the episode so far, through networks as of before the batch; mean and deviation include it.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl.intrinsic.base import episodic
from jaxrl.intrinsic.features import identity, with_action
from jaxrl.intrinsic.moving_average import MovingAverage, averaged, deviation, no_average
from jaxrl.intrinsic.nearest import entered
from jaxrl.intrinsic.observation_queue import Queue, empty_queue, push, unlike
from jaxrl.networks import gru, network, over
from jaxrl.shuffle import passes
from jaxrl.types import Array, Box, Discrete, Episodic, IntrinsicReward, Key, PyTree


class History(NamedTuple):
    rows: Array  # [remembered + 1, D + W] float32  a ring of (e(o_i), h_{i-1}), valid below `size`
    opening: Array  # [D + W] float32  of o_0; kept apart so that a reset writes no ring
    size: Array  # () int32  rows that this episode wrote; see `entered`


def nearest(dim: int, capacity: int, scaled: bool) -> Episodic:
    """The rule on ``[D + W]``, D = `dim`: least distance to the history, as above."""

    def step(memory: History, x):
        def distance(row):  # [..., D + W] -> [...]
            square = (row - x) ** 2
            observed = square[..., :dim].sum(-1)
            return observed / (jnp.sqrt(square[..., dim:].sum(-1)) + 1e-6) if scaled else jnp.sqrt(observed)

        # Written before it is read, or XLA would copy the whole ring at every step; the new row is not among its past.
        place, slots = memory.size % capacity, jnp.arange(capacity)
        rows = memory.rows.at[place].set(x)
        least = jnp.where((slots < memory.size) & (slots != place), distance(rows), jnp.inf).min()
        least = jnp.minimum(least, distance(memory.opening))
        return History(rows, memory.opening, entered(memory.size, capacity)), least

    init = lambda x0: History(jnp.zeros((capacity, x0.shape[0])), x0, jnp.int32(0))
    return Episodic(init, step, reset=lambda memory, x0: memory._replace(opening=x0, size=jnp.int32(0)))


class DEIRState(NamedTuple):
    params: PyTree  # {"embedding", "gru", "head"}
    adam: PyTree  # optax state
    queue: Queue
    average: MovingAverage  # of b


class DEIRMemory(NamedTuple):
    trajectory: Array  # [N, W] float32  h of the last observation
    history: History  # [N, ...]


def deir(
    lr=3e-4,  # Adam step size
    momentum=0.9,  # of the moving averages of the bonus, per batch
    max_grad_norm=0.5,  # global gradient norm
    *,
    actions: Discrete | Box,
    scaled=True,  # divide by the distance of trajectories; False: the plain discriminator
    normalize=True,  # subtract the moving mean and divide by the moving deviation
    remembered=512,  # observations of an episode, besides the opening one
    queue=2**14,  # observations to draw false successors from
    dim=64,  # outputs of the embedding
    width=64,  # units of the GRU
    hidden=(64,),  # hidden widths of the embedding
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=4,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Distance of next_obs to its nearest memory, ``[T, N]`` float32. Metrics: `deir/loss`, `deir/accuracy`."""
    encoder, norm = network(torso, hidden, dim, 1.0, "relu"), nn.LayerNorm(use_bias=False, use_scale=False)
    core, head = gru(width), network("mlp", (256,), 1, 1.0, "relu")
    past = episodic(identity(), nearest(dim, remembered + 1, scaled))
    adam = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(lr, eps=1e-5))
    embed = lambda params, obs: norm.apply({}, encoder.apply(params["embedding"], obs))  # [B, *O] -> [B, D]

    def init(key: Key, example):
        keys, pairs = jax.random.split(key, 4), jnp.zeros((len(example.first), dim + width))
        params = {"embedding": encoder.init(keys[0], example.obs[:1]), "gru": core.init(keys[1], pairs[:1, :dim])}
        params["head"] = head.init(keys[2], with_action(actions, jnp.zeros((1, 2 * width)), example.action[:1]))
        _, history = past.init(keys[3], example._replace(obs=pairs))
        state = DEIRState(params, adam.init(params), empty_queue(queue, example.obs), no_average())
        return state, DEIRMemory(pairs[:, dim:], history)

    def label(state: DEIRState, memory: DEIRMemory, batch):
        here, there = (over(embed, 2)(state.params, obs) for obs in (batch.obs, batch.next_obs))
        after = core.unroll(state.params["gru"], memory.trajectory, here, batch.first)
        before = jnp.where(batch.first[..., None], 0.0, jnp.concatenate([memory.trajectory[None], after[:-1]]))
        opening, arrived = jnp.concatenate([here, before], -1), jnp.concatenate([there, after], -1)
        history, raw, _ = past.label((), memory.history, batch._replace(obs=opening, next_obs=arrived))
        average = averaged(state.average, raw, momentum)
        bonus = (raw - average.mean) / deviation(average) if normalize else raw
        return DEIRMemory(after[-1], history), bonus, (raw, before, average)

    def loss(params, obs, action, next_obs, before, false, valid):
        here, true, false = jnp.split(embed(params, jnp.concatenate([obs, next_obs, false])), 3)
        now = core.step(params["gru"], before, here)

        def logit(arrived):
            pair = jnp.concatenate([now, core.step(params["gru"], now, arrived)], -1)
            return head.apply(params["head"], with_action(actions, pair, action))[:, 0]

        true, false = logit(true), logit(false)
        mean = lambda x: (x * valid).sum() / jnp.maximum(valid.sum(), 1.0)
        accuracy = ((true > 0).mean() + mean(false < 0)) / 2
        return (jax.nn.softplus(-true).mean() + mean(jax.nn.softplus(false))) / 2, accuracy

    def update(key: Key, state: DEIRState, memory: DEIRMemory, batch, trace):
        raw, before, average = trace
        enters = ((raw >= state.average.mean) | (state.average.batches == 0)).reshape(-1)
        queued = push(state.queue, batch.next_obs.reshape(-1, *batch.next_obs.shape[2:]), enters)
        k_passes, k_negatives = jax.random.split(key)

        def gradient_step(carry, minibatch):
            params, adam_state, key = carry
            key, k_pick = jax.random.split(key)
            given = *minibatch, *unlike(k_pick, queued, minibatch[2])
            measured, grads = jax.value_and_grad(loss, has_aux=True)(params, *given)
            steps, adam_state = adam.update(grads, adam_state)
            return (optax.apply_updates(params, steps), adam_state, key), measured

        data, carry = (batch.obs, batch.action, batch.next_obs, before), (state.params, state.adam, k_negatives)
        carry, out = passes(k_passes, gradient_step, carry, data, epochs=epochs, minibatches=minibatches)
        metrics = {"deir/loss": out[0].mean(), "deir/accuracy": out[1].mean(), "bonus_std": deviation(average)}
        metrics |= {"bonus_raw_mean": raw.mean(), "bonus_raw_max": raw.max()}
        return DEIRState(carry[0], carry[1], queued, average), metrics

    return IntrinsicReward(init, label, update)
