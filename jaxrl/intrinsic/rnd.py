"""RND: random network distillation (Burda, Edwards, Storkey and Klimov 2018, arXiv:1810.12894).

    e(s') = mean_j (f_j(s') - g_j(s'))^2         g frozen and random, f trained on the visited s'   (section 2.2)
    input   clip((s' - mean) / std, -5, 5)       moments of earlier rollouts only                    (section 2.4)
    bonus   e / std(F),  F_t = discount * F_{t-1} + e_t per environment, never reset                 (section 2.4)

Each ingredient is a switch: `whiten`, `scale`, `clip`, `proportion`, `terminal`; two value heads and the non-episodic
stream are the trainer's (`streams="split"`, `bonus_episodic=False`), its random warm-up too (`warmup`).

Departures: predictor and target have the same torso unless `deeper` adds hidden layers to the predictor (paper's
pixels: two of 512); the predictor takes its own Adam steps instead of sharing the policy's; the whole observation is
scored where the paper takes the last of four stacked frames; `proportion` takes whole time slices, not single rows, so
that what is not learned from costs nothing (see `shuffle`).

Kind: lifelong.
Memory: 4 bytes, the running return.
Knows: networks and observation moments as of before the batch; the scale includes the
batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.intrinsic.normalize import normalize_obs, normalize_return
from jaxrl.networks import network, over
from jaxrl.shuffle import passes
from jaxrl.types import IntrinsicReward, PyTree


class RNDState(NamedTuple):
    target: PyTree  # never learns
    predictor: PyTree
    adam: PyTree  # optax state


def rnd(
    lr=1e-4,  # Adam step size of the predictor
    discount=0.99,  # of the running return whose deviation scales the bonus
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    proportion=1.0,  # share of transitions the predictor learns from; the paper's rule is 32 / num_envs, at most 1
    whiten=True,  # whiten observations
    scale=True,  # divide by the deviation of the running discounted bonus
    terminal=True,  # score the observation that ends an episode; False pays 0 and trains no predictor there
    dim=64,  # outputs of both networks
    hidden=(64, 64),  # hidden widths of both
    deeper=(),  # further hidden widths of the predictor
    activation="relu",
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Prediction error of a frozen random network on next_obs, ``[T, N]`` float32, scaled as above.

    State: both networks, Adam, moments. Memory: the running return of each environment, which never resets.
    Metric: `rnd/loss`.
    """
    reward = _distillation(lr, proportion, terminal, dim, hidden, deeper, activation, torso, epochs, minibatches)
    reward = normalize_obs(reward, clip) if whiten else reward
    return normalize_return(reward, discount) if scale else reward


def _distillation(
    lr, proportion, terminal, dim, hidden, deeper, activation, torso, epochs, minibatches
) -> IntrinsicReward:
    target = network(torso, hidden, dim, 1.0, activation)
    predictor = network(torso, (*hidden, *deeper), dim, 1.0, activation)
    adam = optax.adam(lr)

    def scored(batch):
        return True if terminal else ~(batch.terminated | batch.truncated)

    def init(key, example):
        k_target, k_predictor = jax.random.split(key)
        params = predictor.init(k_predictor, example.obs[:1])
        return RNDState(target.init(k_target, example.obs[:1]), params, adam.init(params)), ()

    def errors(params, obs, goal):  # [B, *O], [B, D] -> [B]; transposed, because networks compute features first
        return ((predictor.apply(params, obs) - goal).T ** 2).mean(0)

    def label(state, memory, batch):
        def judge(state, obs):
            goal = target.apply(state.target, obs)
            return errors(state.predictor, obs, goal), goal

        error, goal = over(judge, 2)(state, batch.next_obs)
        return (), jnp.where(scored(batch), error, 0.0), goal

    def loss(params, data):
        obs, goal, keep = data  # [B, *O], [B, D], [B]
        return (keep * errors(params, obs, goal)).sum() / jnp.maximum(keep.sum(), 1.0)

    def update(key, state, memory, batch, goal):
        keep = jnp.broadcast_to(scored(batch), batch.reward.shape).astype(jnp.float32)
        data = (batch.next_obs, goal, keep)

        def gradient_step(carry, minibatch):
            params, adam_state = carry
            value, grads = jax.value_and_grad(loss)(params, minibatch)
            steps, adam_state = adam.update(grads, adam_state)
            return (optax.apply_updates(params, steps), adam_state), value

        start = state.predictor, state.adam
        carry, values = passes(
            key, gradient_step, start, data, epochs=epochs, minibatches=minibatches, proportion=proportion
        )
        return RNDState(state.target, *carry), {"rnd/loss": values.mean()}

    return IntrinsicReward(init, label, update)
