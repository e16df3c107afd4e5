"""E3B: exploration via elliptical episodic bonuses (Henaff, Raileanu, Jiang and Rocktaschel 2022, arXiv:2210.05805).

    b_t = phi_t^T C_{t-1}^{-1} phi_t        C_{t-1} = ridge I + sum_{i<t} phi_i phi_i^T over this episode    (eq. 2)

phi is learned by inverse dynamics. The norm is squared, there is no root. With one-hot features b = 1 / (ridge + n).
`features=projection` is the ablation with a phi that never learns: random, but the same in every run.

C^{-1} = S S^T is kept as S (Potter's square-root form): f = S^T x, b = f.f, S <- S - (S f) f^T / (1 + b + sqrt(1 + b)).
So b is never negative, and nothing has to be refreshed: in float32, after an episode of 10,000 steps (D = 64, ridge
0.1), bonuses were wrong by 0.01 % on most data and by 4 % at worst. The update of C^{-1} itself (Sherman-Morrison, as
released) takes 0.7 times as long; where the features of an episode span few directions it was wrong by 40 % after
1,000 steps and by 800 % after 10,000, and where features are large it went below zero (measured). Taking several
steps at once is not worth its code: blocks of 8 took 0.7 times as long with one lane and 1.7 times with eight.

Departures: b scores o_{t+1} (released code: o_t, stored one step late); the opening observation enters C unpaid;
`normalize` divides by the running standard deviation of the bonus, which the released code overestimates about 20
times (it counts T where it sums over T x B), so the paper's coefficient 1 is about 0.05 here; phi is layer-normalised.

Kind: episodic.
Memory: 16,384 bytes, a root of the inverse, dim^2 float32.
Knows: the episode so far, through features as of before the batch; the scale includes
the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import unknown
from jaxrl.intrinsic.base import episodic
from jaxrl.intrinsic.features import frozen, inverse_dynamics
from jaxrl.intrinsic.normalize import standardize
from jaxrl.keys import key_of
from jaxrl.types import Array, Box, Discrete, Episodic, IntrinsicReward

FEATURES = ("inverse", "projection")


class EllipticalMemory(NamedTuple):
    root: Array  # [D, D] float32  S, where C^{-1} = S S^T


def elliptical(ridge) -> Episodic:
    """The rule on features ``[D]`` float32, in the square-root form above."""

    def absorbed(root, f, image):  # image = root @ f
        bonus = jnp.vdot(f, f, precision=jax.lax.Precision.HIGHEST)
        return EllipticalMemory(root - jnp.outer(image, f) / (1.0 + bonus + jnp.sqrt(1.0 + bonus))), bonus

    def step(memory, x):
        f = jnp.matmul(x, memory.root, precision=jax.lax.Precision.HIGHEST)
        return absorbed(memory.root, f, jnp.matmul(memory.root, f, precision=jax.lax.Precision.HIGHEST))

    def init(x0):
        # A step from S = I / sqrt(ridge), without its products: every step computes the reset that it may need.
        f = x0 / jnp.sqrt(ridge)
        return absorbed(jnp.eye(x0.shape[0]) / jnp.sqrt(ridge), f, f / jnp.sqrt(ridge))[0]

    return Episodic(init, step, reset=lambda memory, x0: init(x0))


def diagonal(memory: EllipticalMemory) -> Array:
    """The diagonal of C^{-1}, ``[D]`` float32."""
    return (memory.root**2).sum(-1)


def projected(obs: Array, dim: int) -> Array:
    """A fixed random linear map of one observation and of 1, layer-normalised: ``[*O] -> [dim]`` float32."""
    x = jnp.append(obs.reshape(-1).astype(jnp.float32), 1.0)
    y = jax.random.normal(key_of(0), (dim, x.shape[0])) @ x
    return (y - y.mean()) / jnp.sqrt(y.var() + 1e-6)


def e3b(
    ridge=0.1,  # lambda of the paper
    lr=1e-4,  # Adam step size of the inverse dynamics
    *,
    actions: Discrete | Box,
    features="inverse",  # learned by inverse dynamics, or projection: fixed, what augment_obs can show
    normalize=True,  # divide by the running standard deviation of the bonus
    dim=64,  # features
    hidden=(64,),  # hidden widths of the embedding
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes of inverse dynamics over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Elliptical episodic bonus of next_obs, ``[T, N]`` float32. Memory: a root of C^{-1}, ``[N, D, D]`` float32.

    Metric: `inverse_dynamics/loss`, where it is learned.
    """
    if features not in FEATURES:
        raise unknown("features", features, FEATURES)
    if features == "projection":
        phi = frozen(lambda obs: projected(obs, dim))
    else:
        phi = inverse_dynamics(
            lr, actions=actions, dim=dim, hidden=hidden, torso=torso, epochs=epochs, minibatches=minibatches
        )
    reward = episodic(phi, elliptical(ridge))
    return standardize(reward, center=False) if normalize else reward
