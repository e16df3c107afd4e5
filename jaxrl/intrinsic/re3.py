"""RE3: random encoders for efficient exploration (Seo, Chen, Shin, Lee, Abbeel and Lee 2021, arXiv:2102.09430).

    b = log(|y - y_k| + 1) (1 - decay)^u      y = f(s'), f random and frozen, y_k the k-th nearest other point

u counts updates. A particle estimate of the state distribution's entropy: what is rare among the points is far from
its neighbours. The bonus does not vanish by itself, hence `decay`.

A point is compared with the batch, as in the released Dreamer variant, and with `earlier` also with that many
embeddings of earlier rollouts, first in, first out, as in the A2C variant (10,000 of them) and much as in the RAD
variant (the whole replay). `average` takes the mean of the distances to the k nearest, as A2C does.

Departures: the bonus is a reward; the released A2C adds it to one step's advantage, where no credit flows back from it.
A point is never its own neighbour (in A2C, where it is stored before it is looked up, the first distance is 0).
`normalize` divides by the running standard deviation of the distance, as the released A2C and RAD do, without the
former's biased running mean; RAD takes no logarithm after it (`log`). Features are not layer-normalised: the encoder
has no biases at birth, so that x and 2 x would become one point. The schedule counts updates, not steps.

Kind: batch.
Memory: none.
Knows: the batch, all of it, with `earlier` embeddings of those before; the scale includes the batch.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.errors import UserError
from jaxrl.intrinsic.combine import anneal, map_bonus
from jaxrl.intrinsic.features import random_network
from jaxrl.intrinsic.nearest import nearest_of_all
from jaxrl.intrinsic.normalize import standardize
from jaxrl.networks import over
from jaxrl.types import Array, IntrinsicReward, PyTree

FAR = 1e15  # no neighbour of anything; finite, because infinities in a state mean that it diverged


class RE3State(NamedTuple):
    encoder: PyTree  # never learns
    earlier: Array  # [earlier, D] float32  embeddings of earlier rollouts, the latest last; FAR where none is yet


def re3(
    decay=0.0,  # share of the bonus that each update takes away
    *,
    k=3,  # neighbour whose distance is paid
    average=False,  # pay the mean distance to the k nearest instead
    normalize=True,  # divide by the running standard deviation of the distance
    log=True,  # pay log(1 + distance)
    earlier=0,  # embeddings of earlier rollouts to compare with, too
    dim=64,  # features
    hidden=(64,),  # hidden widths of the encoder
    torso="mlp",  # mlp, or conv for [H, W, C] observations
) -> IntrinsicReward:
    """Distance of next_obs to its k-th nearest neighbour in a random embedding, ``[T, N]`` float32. No memory.

    State: the encoder, `earlier` embeddings, moments. UserError where a batch has no k other points.
    """
    reward = _distance(k, average, earlier, dim, hidden, torso)
    reward = standardize(reward, center=False) if normalize else reward
    reward = map_bonus(reward, jnp.log1p) if log else reward
    return anneal(reward, lambda updates: (1.0 - decay) ** updates)


def _distance(k, average, earlier, dim, hidden, torso) -> IntrinsicReward:
    features = random_network(dim=dim, hidden=hidden, torso=torso)

    def init(key, example):
        return RE3State(features.init(key, example), jnp.full((earlier, dim), FAR, jnp.float32)), ()

    def label(state, memory, batch):
        shape = batch.reward.shape
        if k >= batch.reward.size:
            raise UserError(f"re3.k = {k}: must be below num_steps * num_envs = {batch.reward.size}")
        points = over(features.embed, 2)(state.encoder, batch.next_obs).reshape(-1, dim)
        squared = nearest_of_all(points, jnp.concatenate([points, state.earlier]), k + 1)
        distance = jnp.sqrt(squared[:, 1:])  # without the point itself
        return (), (distance.mean(-1) if average else distance[:, -1]).reshape(shape), points

    def update(key, state, memory, batch, points):
        latest = jnp.concatenate([state.earlier, points])[points.shape[0] :]
        return state._replace(earlier=latest), {}

    return IntrinsicReward(init, label, update)
