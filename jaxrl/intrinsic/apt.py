"""APT: behavior from the void, active pre-training (Liu and Abbeel 2021, arXiv:2103.04551).

    b = log(1 + mean over the k nearest z_j of |z - z_j|)        z = f(s'), f learned

A particle estimate of the entropy of the states in the batch, in a space that is learned: here by inverse dynamics, so
that what no action changes does not count. As in the released code for states (URLB's APT-ICM) the point itself, at
distance 0, is one of its k neighbours; `include_self=False` leaves it out.

Departures: the paper learns f contrastively from pixels, the released code for states by forward and inverse dynamics;
here by inverse dynamics alone, layer-normalised. Points are compared with the whole rollout, there with a minibatch of
1,024 from replay. The distance is not raised to the power n of the paper's equation (nor is it in the released code),
and not divided by a running mean (nor is it there for states).

Kind: batch.
Memory: none.
Knows: the batch, all of it, through features as of before it.
"""

import jax.numpy as jnp

from jaxrl.errors import UserError
from jaxrl.intrinsic.features import inverse_dynamics
from jaxrl.intrinsic.nearest import nearest_of_all
from jaxrl.networks import over
from jaxrl.types import Box, Discrete, IntrinsicReward


def apt(
    lr=1e-4,  # Adam step size of the inverse dynamics
    *,
    actions: Discrete | Box,
    k=12,  # neighbours
    include_self=True,  # count the point itself as one of them
    dim=64,  # features
    hidden=(64,),  # hidden widths of the embedding
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes of inverse dynamics over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Log of one plus the mean distance of next_obs to its k nearest in a learned embedding, ``[T, N]`` float32.

    State: the inverse dynamics. No memory. Metric: `inverse_dynamics/loss`. UserError where a batch has no k points.
    """
    features = inverse_dynamics(
        lr, actions=actions, dim=dim, hidden=hidden, torso=torso, epochs=epochs, minibatches=minibatches
    )
    skipped = 0 if include_self else 1

    def init(key, example):
        return features.init(key, example), ()

    def label(state, memory, batch):
        if k + skipped > batch.reward.size:
            bound = "at most" if include_self else "below"
            raise UserError(f"apt.k = {k}: must be {bound} num_steps * num_envs = {batch.reward.size}")
        points = over(features.embed, 2)(state, batch.next_obs).reshape(-1, dim)
        distance = jnp.sqrt(nearest_of_all(points, points, k + skipped)[:, skipped:])
        return (), jnp.log1p(distance.mean(-1)).reshape(batch.reward.shape), ()

    def update(key, state, memory, batch, trace):
        return features.update(key, state, batch)

    return IntrinsicReward(init, label, update)
