"""E3B: exploration via elliptical episodic bonuses (Henaff, Raileanu, Jiang and Rocktaschel 2022, arXiv:2210.05805).

    b_t = phi_t^T C_{t-1}^{-1} phi_t        C_{t-1} = ridge I + sum_{i<t} phi_i phi_i^T over this episode    (eq. 2)

phi is learned by inverse dynamics. The norm is squared, there is no root. With one-hot features b = 1 / (ridge + n).

Departures: b scores o_{t+1} (released code: o_t, stored one step late); the opening observation enters C unpaid;
`normalize` divides by the running standard deviation of the bonus, which the released code overestimates about 20
times (it counts T where it sums over T x B), so the paper's coefficient 1 is about 0.05 here; phi is layer-normalised.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.intrinsic.base import episodic
from jaxrl.intrinsic.features import inverse_dynamics
from jaxrl.intrinsic.normalize import standardize
from jaxrl.types import Array, Box, Discrete, Episodic, IntrinsicReward


class EllipticalMemory(NamedTuple):
    precision: Array  # [D, D] float32  C^{-1}


def elliptical(ridge) -> Episodic:
    """The rule on features ``[D]``, by Sherman-Morrison: u = C^{-1} x, b = x.u, C^{-1} <- C^{-1} - u u^T / (1 + b)."""

    def step(memory, x):
        u = jnp.matmul(memory.precision, x, precision=jax.lax.Precision.HIGHEST)
        bonus = jnp.matmul(x, u, precision=jax.lax.Precision.HIGHEST)
        return EllipticalMemory(memory.precision - jnp.outer(u, u) / (1.0 + bonus)), bonus

    def init(x0):
        return step(EllipticalMemory(jnp.eye(x0.shape[0]) / ridge), x0)[0]

    return Episodic(init, step, reset=lambda memory, x0: init(x0))


def e3b(
    ridge=0.1,  # lambda of the paper
    lr=1e-4,  # Adam step size of the inverse dynamics
    *,
    actions: Discrete | Box,
    normalize=True,  # divide by the running standard deviation of the bonus
    dim=64,  # features
    hidden=(64,),  # hidden widths of the embedding
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes of inverse dynamics over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Elliptical episodic bonus of next_obs, ``[T, N]`` float32. Memory: C^{-1}, ``[N, D, D]`` float32.

    Metric: `inverse_dynamics/loss`.
    """
    features = inverse_dynamics(
        lr, actions=actions, dim=dim, hidden=hidden, torso=torso, epochs=epochs, minibatches=minibatches
    )
    reward = episodic(features, elliptical(ridge))
    return standardize(reward, center=False) if normalize else reward
