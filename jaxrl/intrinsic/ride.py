"""RIDE: rewarding impact-driven exploration (Raileanu and Rocktaschel 2020, arXiv:2002.12292).

    b = |phi(s') - phi(s)|_2 / sqrt(N_e(s'))           N_e: visits to s' in this episode, this one included
    loss = inverse * L_I + forward * mean |f(phi(s), a) - phi(s')|_2 / sqrt(dim)     phi learned as in ICM, not squared
    bonus   b / std(F),  F_t = discount * F_{t-1} + b_t per environment, never reset

Impact does not vanish as the models learn, as an error would; without the count (`gate=False`) the agent goes back
and forth between two states that differ much. The count alone is the bonus `episodic_count`.

Departures: counts are of the agent's own observation, by a hash (released code: the full grid, which the agent does
not see); the opening state counts, unpaid, and a transition that ends an episode has its true successor (released
code: the reset observation, paid and learned from); features are layer-normalised, so that impact is bounded by
2 sqrt(dim); the forward loss is divided by sqrt(dim) and weighs as in ICM: at the released code's weights, forward 10
and inverse 0.1, these features, and impact with them, collapsed within 132 Adam steps on a ring of six states, while
at the default weights their variance stayed at half of what it was (watch `ride/feature_variance`); the models take
Adam steps of their own (released code: RMSProp steps shared with the policy); `scale` divides the product by its
deviation, `scale=False` leaves the paper's.

Kind: composed.
Memory: 131,084 bytes, the tables of `episodic_count` and the running return.
Knows: the episode so far, through features as of before the batch; the scale includes
the batch.
"""

import jax.numpy as jnp

from jaxrl.intrinsic.combine import product
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.intrinsic.features import dynamics
from jaxrl.intrinsic.normalize import normalize_return
from jaxrl.networks import over
from jaxrl.types import Array, Box, Discrete, Features, IntrinsicReward


def ride(
    lr=1e-4,  # Adam step size
    inverse=0.8,  # weight of the inverse loss
    forward=0.2,  # weight of the forward loss
    discount=0.99,  # of the running return whose deviation scales the bonus
    *,
    actions: Discrete | Box,
    gate=True,  # divide by the root of the episodic count
    scale=True,  # divide by the deviation of the running discounted bonus
    buckets=2**14,  # of the episodic count, a power of two
    dim=64,  # features
    hidden=(64,),  # hidden widths of the embedding
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Change of learned features from obs to next_obs over the root of the episodic count, ``[T, N]`` float32.

    State: networks, Adam. Memory: `episodic_count`'s and the running return of each environment, which never resets.
    Metrics: `dynamics/inverse dynamics/forward ride/feature_variance` (over the batch, mean of the features; 0 when
    phi has collapsed), with "0/" in front under the gate.
    """
    features = dynamics(
        lr, inverse, forward, lambda guess, phi: norm_of_difference(guess, phi) / dim**0.5,
        actions=actions, dim=dim, hidden=hidden, torso=torso, epochs=epochs, minibatches=minibatches,
    ).features  # fmt: skip
    reward = impact(features)
    reward = product(reward, episodic_count(buckets=buckets)) if gate else reward
    return normalize_return(reward, discount) if scale else reward


def norm_of_difference(a: Array, b: Array) -> Array:
    """``[B, D], [B, D] -> [B]``; at least 1e-6, because the root has no slope at 0."""
    return jnp.sqrt(((a - b) ** 2).sum(-1) + 1e-12)


def impact(features: Features) -> IntrinsicReward:
    """|phi(next_obs) - phi(obs)|_2, ``[T, N]`` float32. No memory."""

    def init(key, example):
        return features.init(key, example), ()

    def label(state, memory, batch):
        def judge(state, rows):
            here, there = (features.embed(state, obs) for obs in rows)
            return norm_of_difference(there, here), there

        change, there = over(judge, 2)(state, (batch.obs, batch.next_obs))
        return (), change, there.var((0, 1)).mean()

    def update(key, state, memory, batch, variance):
        state, metrics = features.update(key, state, batch)
        return state, {**metrics, "ride/feature_variance": variance}

    return IntrinsicReward(init, label, update)
