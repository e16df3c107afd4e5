"""Environments whose program compiles for minutes, or whose steps take a while."""

import jax
import jax.numpy as jnp

from jaxrl.envs import AutoReset
from jaxrl.types import Discrete


class _Guessing(AutoReset):
    """A coin: guess it, ten times an episode."""

    actions, max_steps = Discrete(2), 10

    def reset_env(self, key, params):
        return jnp.zeros(1), jnp.int32(0)

    def step_env(self, key, time, action, params):
        coin = jax.random.bernoulli(key)
        return jnp.zeros(1) + 0 * self.work(0.1 * action), time + 1, coin == action, False, time >= 9, {}


class Compiling(_Guessing):
    """Its step is a chain of operations that no optimisation shortens."""

    def work(self, x):
        for i in range(1500):
            x = jnp.sort(jnp.stack([jnp.sin(x + i), jnp.cos(x - i), x]))[1]
        return x


class Slow(_Guessing):
    """A step takes some ten milliseconds."""

    def work(self, x):
        return jax.lax.fori_loop(0, 200_000, lambda i, x: jnp.sin(x + i), x)
