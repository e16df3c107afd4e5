"""The policy distributions PPO needs: categorical and diagonal normal, over the last axis, in float32.

Tests compare them with distrax, which is not a run-time dependency (it pulls a nightly build).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, Key


class Categorical(NamedTuple):
    logits: Array  # [..., A] unnormalised

    def sample(self, key: Key) -> Array:
        """int32 ``[...]``."""
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def mode(self) -> Array:
        return self.logits.argmax(-1).astype(jnp.int32)

    def log_prob(self, action: Array) -> Array:
        # A selection instead of a gather: its gradient is no scatter, which XLA's CPU backend runs serially.
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=bool)
        return jnp.where(chosen, jax.nn.log_softmax(self.logits), 0.0).sum(-1)  # 0 * -inf would be NaN

    def entropy(self) -> Array:
        """In nats ``[...]``."""
        log_p = jax.nn.log_softmax(self.logits)
        return -(jnp.exp(log_p) * jnp.maximum(log_p, jnp.finfo(jnp.float32).min)).sum(-1)  # 0 log 0 = 0


class DiagonalNormal(NamedTuple):
    mean: Array  # [..., A]
    log_std: Array  # [..., A] or broadcastable

    def sample(self, key: Key) -> Array:
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)

    def mode(self) -> Array:
        return self.mean

    def log_prob(self, action: Array) -> Array:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -0.5 * (z**2 + 2.0 * self.log_std + np.log(2.0 * np.pi)).sum(-1)

    def entropy(self) -> Array:
        per_axis = self.log_std + 0.5 * (1.0 + np.log(2.0 * np.pi))
        return jnp.broadcast_to(per_axis, self.mean.shape).sum(-1)
