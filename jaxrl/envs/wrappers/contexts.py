"""Contextual MDPs: worlds drawn from a fixed set of |C|, or without end (Henaff et al. 2023, arXiv:2306.03236)."""

import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs.params import Around
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.keys import key_of
from jaxrl.types import Array, Key


def context_seeding(
    env,
    contexts=0,  # |C|, the worlds there are; 0: without end
    context_seed=0,  # which set of worlds
) -> Wrapper:
    """Each episode draws a context, uniformly, and is reset with a key made of its number and `context_seed` only.

    Equal contexts are the same world, in every lane and every environment; what chance does within the episode (step
    keys) differs. ``info["context"]`` is the number, int32. A set of |C| worlds
    contains every smaller one of the same seed.
    """
    return ContextSeeding(env, Contexts(int(contexts), int(context_seed)))


@flax.struct.dataclass
class Contexts:
    contexts: Array | int
    context_seed: Array | int


class ContextSeeding(Wrapper):
    """The memory is the context's number, int32."""

    def reset_env(self, key, params):
        context = draw(key, params.own.contexts)
        world = jax.random.fold_in(key_of(params.own.context_seed), context)
        obs, inner = self.env.reset_env(world, params.inner)
        return obs, Around(context, inner)

    def step_env(self, key, state, action, params):
        obs, inner, reward, terminated, truncated, info = self.env.step_env(key, state.inner, action, params.inner)
        return obs, Around(state.own, inner), reward, terminated, truncated, {**info, "context": state.own}


def draw(key: Key, number: Array | int) -> Array:
    """``[]`` int32, uniform in 0 .. number - 1; number 0 stands for 2^31 - 1, of which chance draws none twice."""
    return jax.random.randint(key, (), 0, jnp.where(number > 0, number, 2**31 - 1))
