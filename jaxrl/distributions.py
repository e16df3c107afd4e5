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
        log_p = self._log_p()
        # A mask instead of a gather: its gradient is no scatter, which XLA's CPU backend runs serially.
        taken = jnp.arange(log_p.shape[0]).reshape(-1, *(1 for _ in action.shape)) == action
        return jnp.where(taken, log_p, 0.0).sum(0)

    def entropy(self) -> Array:
        """In nats ``[...]``."""
        log_p = self._log_p()
        return -(jnp.exp(log_p) * jnp.maximum(log_p, jnp.finfo(jnp.float32).min)).sum(0)  # 0 log 0 = 0

    def _log_p(self) -> Array:
        """``[A, ...]``: actions first, as networks compute, so that nothing is transposed on the way."""
        return jax.nn.log_softmax(jnp.moveaxis(self.logits, -1, 0), axis=0)


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
