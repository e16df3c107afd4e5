"""Advantages over reward streams: one pure function, time-major."""

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Streams


def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    last_value: Array,
    terminated: Array,
    truncated: Array,
    streams: Streams,
    gae_lambda: Array | float,
) -> Array:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16), stream by stream.

        delta_t = r_t + discount * bootstrap_t - V(o_t)
        A_t     = delta_t + discount * lambda * continues_t * A_{t+1}

    An episodic stream bootstraps from V(next_obs) unless the MDP terminated there, so a truncated episode keeps its
    future, and its trace stops at either end. A non-episodic stream (Burda et al. 2018, section 2.3) runs through
    both kinds of end: it bootstraps from the value of what really came next, the observation after the reset.

    Args:
        rewards: ``[T, N, S]``. values: V(obs) ``[T, N, S]``. next_values: V(next_obs) ``[T, N, S]``.
        last_value: V(last_obs) ``[N, S]``, the observation after the last step and its auto-reset.
        terminated, truncated: bool ``[T, N]``. streams: fields ``[S]``. gae_lambda: scalar in [0, 1].

    Returns:
        Advantages ``[T, N, S]``; adding `values` gives the lambda-returns critics regress on.
    """
    after = jnp.concatenate([values[1:], last_value[None]])
    alive, goes_on = ~terminated[..., None], ~(terminated | truncated)[..., None]
    bootstrap = jnp.where(streams.episodic, next_values * alive, after)
    continues = jnp.where(streams.episodic, goes_on, True)
    delta = rewards + streams.discount * bootstrap - values
    decay = streams.discount * gae_lambda * continues

    def step(advantage, inputs):
        delta, decay = inputs
        advantage = delta + decay * advantage
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(last_value), (delta, decay), reverse=True, unroll=8)[1]
