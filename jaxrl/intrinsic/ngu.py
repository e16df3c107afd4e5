"""NGU: Never Give Up, learning directed exploration strategies (Badia et al. 2020, arXiv:2002.06038).

    d_i = max(|f(s') - f_i|^2 / d_m^2 - cluster_distance, 0)      f_i the k nearest of this episode, d_m^2 their mean
    s = sqrt(sum_i epsilon / (d_i + epsilon)) + pseudo_count
    b = (0 if s > max_similarity else 1 / s) clip(1 + (e - mean(e)) / std(e), 1, max_scale)

f is learned by inverse dynamics; e is RND's error, the life-long factor (`modulate`). A state met n times already has
n kernels of one, so that b falls like 1 / sqrt(n), never below 1 / sqrt(k): with k = 10 `max_similarity` = 8 is inert.

d_m^2 runs over every neighbour's distance in all environments up to the step that is scored; nothing is added to it
(rlax adds 1e-3 to a mean of negative distances, and pays all states alike once that is smaller). epsilon is that of
the paper's table; its text says 1e-3, its Disco Maze takes 1e-2.

`family`: environment i is paid beta_j / beta_max of the bonus, j = i mod family, beta_0 = 0, then a sigmoid, then 1;
the trainer's `coef` is beta_max.

Departures: the agent. The paper's is one recurrent network, learned off-policy, that is told j, b and the last action
and has a discount for each j; here one policy per lane is told none of them, so that a family averages its
coefficients, in the gradient, and a sweep over `coef` gives a policy to each. The opening observation enters memory
unpaid and is never overwritten, so that no memory is empty; where it holds fewer than k, those are used. d_m^2 is a
mean over all time, not a decaying one. f is updated after each rollout, not once per episode, has no L2 penalty and
is layer-normalised; RND's input is whitened (`whiten`); the ring is shorter than the paper's 30,000 (Disco Maze:
5,000); mean(e) and std(e) include the batch.

Kind: composed.
Memory: 128,132 bytes, 1,000 rows and the opening one, of 32 float32, and their number.
Knows: the episode so far, through features as of before the batch; d_m^2 also all environments' steps so far; the
life-long factor networks as of before the batch, and its mean and deviation with the batch.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl import counters
from jaxrl.errors import UserError, unknown
from jaxrl.intrinsic.base import episodic
from jaxrl.intrinsic.combine import map_bonus, product
from jaxrl.intrinsic.features import UNLEARNED, inverse_dynamics, unlearned
from jaxrl.intrinsic.nearest import nearest_of_episode
from jaxrl.intrinsic.normalize import standardize
from jaxrl.intrinsic.rnd import rnd
from jaxrl.types import Array, Box, Discrete, IntrinsicReward, PyTree


def ngu(
    lr=5e-4,  # Adam step size of inverse dynamics and of RND
    epsilon=1e-4,  # of the kernel: the squared distance, in units of the mean one, at which a neighbour counts half
    cluster_distance=0.008,  # squared distance, in the same units, below which two states are one
    pseudo_count=0.001,  # added to the similarity
    max_similarity=8.0,  # above it nothing is paid
    max_scale=5.0,  # of the life-long factor
    *,
    actions: Discrete | Box,
    k=10,  # neighbours
    remembered=1000,  # observations of an episode: the opening one and the latest ones
    family=1,  # coefficients dealt to the environments in turn
    modulate=True,  # multiply by the life-long factor
    features="inverse",  # learned by inverse dynamics, or random or raw: not learned
    whiten=True,  # whiten RND's input
    dim=32,  # features, unless raw, and RND's outputs
    hidden=(64,),  # hidden widths of the features and of RND
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes of inverse dynamics and of RND over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Novelty of next_obs in the episode times its life-long novelty, ``[T, N]`` float32.

    Memory: `remembered` embeddings of each environment, ``[N, remembered, dim]`` float32. UserError for k above
    remembered, and a family larger than num_envs. Metrics: `ngu/neighbour_distance`, d_m^2, and those of the parts.
    """
    if k > remembered:
        raise UserError(f"ngu.k = {k}: must be at most ngu.remembered = {remembered}, the neighbours there can be")
    learning = {"dim": dim, "hidden": hidden, "torso": torso, "epochs": epochs, "minibatches": minibatches}
    if features not in (known := ("inverse", *UNLEARNED)):
        raise unknown("ngu.features", features, known)
    if features == "inverse":
        embedding = inverse_dynamics(lr, actions=actions, **learning)
    else:
        embedding = unlearned(features, dim=dim, hidden=hidden, torso=torso)
    reward = episodic(embedding, nearest_of_episode(k, remembered))
    reward = _kernel(reward, epsilon, cluster_distance, pseudo_count, max_similarity)
    if modulate:
        novelty = standardize(rnd(lr, whiten=whiten, scale=False, **learning))
        reward = product(reward, map_bonus(novelty, lambda z: jnp.clip(1.0 + z, 1.0, max_scale)))
    return _weighted(reward, family) if family > 1 else reward


class KernelState(NamedTuple):
    seen: counters.Count  # how many distances the mean is of
    mean: Array  # () float32  d_m^2
    inner: PyTree


def _kernel(reward, epsilon, cluster_distance, pseudo_count, max_similarity) -> IntrinsicReward:
    """The bonus of a `reward` that gives squared distances ``[T, N, k]``, inf where there are fewer than k."""

    def init(key, example):
        state, memory = reward.init(key, example)
        return KernelState(counters.none(), jnp.zeros(()), state), memory

    def label(state, memory, batch):
        memory, squared, trace = reward.label(state.inner, memory, batch)
        there = squared < jnp.inf
        came = there.sum((1, 2)).cumsum()
        seen = counters.number(state.seen) + came
        surplus = jnp.where(there, squared - state.mean, 0.0).sum((1, 2)).cumsum()
        mean = state.mean + surplus / seen  # [T]  through time, this step included
        scale = jnp.where(mean > 0, mean, 1.0)[:, None, None]
        apart = jnp.maximum(squared / scale - cluster_distance, 0.0)
        similarity = jnp.sqrt((epsilon / (apart + epsilon)).sum(-1)) + pseudo_count
        bonus = jnp.where(similarity > max_similarity, 0.0, 1.0 / similarity)
        return memory, bonus, (counters.plus(state.seen, came[-1]), mean[-1], trace)

    def update(key, state, memory, batch, trace):
        seen, mean, inner_trace = trace
        inner, metrics = reward.update(key, state.inner, memory, batch, inner_trace)
        return KernelState(seen, mean, inner), {**metrics, "ngu/neighbour_distance": mean}

    return IntrinsicReward(init, label, update)


class FamilyMemory(NamedTuple):
    weight: Array  # [N] float32  beta_j / beta_max; by design never reset
    inner: PyTree


def _weighted(reward, family: int) -> IntrinsicReward:
    inside = np.arange(1, family - 1)
    sigmoid = 1.0 / (1.0 + np.exp(-10.0 * (2 * inside - (family - 2)) / max(family - 2, 1)))
    coefficients = np.array([0.0, *sigmoid, 1.0], np.float32)

    def init(key, example):
        num_envs = example.reward.shape[0]
        if family > num_envs:
            raise UserError(f"ngu.family = {family}: must be at most num_envs = {num_envs}, one environment for each")
        state, memory = reward.init(key, example)
        return state, FamilyMemory(jnp.asarray(np.resize(coefficients, num_envs)), memory)

    def label(state, memory, batch):
        inner, bonus, trace = reward.label(state, memory.inner, batch)
        return memory._replace(inner=inner), memory.weight * bonus, trace

    def update(key, state, memory, batch, trace):
        return reward.update(key, state, memory.inner, batch, trace)

    return IntrinsicReward(init, label, update)
