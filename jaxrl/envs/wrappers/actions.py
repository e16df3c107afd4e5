"""Sticky actions (Machado et al. 2018, "Revisiting the Arcade Learning Environment", section 5)."""

import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs.params import Around
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.types import Array, Box, Discrete


def sticky_actions(
    env,
    probability=0.25,  # that the action before is executed again
) -> Wrapper:
    """With `probability` the environment executes the action that it executed last, not the one that was chosen.

    Drawn once a step. Departure: an episode's first action is always the chosen one, because not every environment
    has an action that means "nothing happened before". The observation does not show which action was executed.
    """
    return StickyActions(env, Stickiness(probability))


@flax.struct.dataclass
class Stickiness:
    probability: Array | float


class StickyActions(Wrapper):
    """The memory is (the action executed last, in the space's dtype; bool, whether there is one)."""

    def reset_env(self, key, params):
        obs, inner = self.env.reset_env(key, params.inner)
        return obs, Around((_zero(self.action_space(params)), jnp.array(False)), inner)

    def step_env(self, key, state, action, params):
        stick_key, step_key = jax.random.split(key)
        last, started = state.own
        stick = started & jax.random.bernoulli(stick_key, params.own.probability)
        action = jnp.where(stick, last, jnp.asarray(action, last.dtype))
        obs, inner, *rest = self.env.step_env(step_key, state.inner, action, params.inner)
        return obs, Around((action, jnp.array(True)), inner), *rest


def _zero(actions: Discrete | Box) -> Array:
    return jnp.int32(0) if isinstance(actions, Discrete) else jnp.zeros(actions.shape, jnp.float32)
