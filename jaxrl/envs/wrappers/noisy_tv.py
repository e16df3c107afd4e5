"""A television in a corner of the observation: noise that no policy can learn to predict.

After the agent with a remote control of Burda et al. 2018 ("Large-Scale Study of Curiosity-Driven Learning") and the
action-dependent noise of Mavor-Parker et al. 2022; sizes and pictures are ours.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs.contract import step_limit
from jaxrl.envs.params import Around
from jaxrl.envs.wrappers import CHOICES
from jaxrl.envs.wrappers.contexts import draw
from jaxrl.envs.wrappers.observations import flatten
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.errors import UserError, unknown
from jaxrl.keys import key_of
from jaxrl.types import Array, Discrete


def noisy_tv(
    env,
    channels=0,  # pictures there are; 0: a new one each time, never seen before
    *,
    when="action",  # the picture changes by an additional action, or always
    size=4,  # edge of the patch; numbers appended to a vector
    levels=256,  # an integer picture's values are 0 to levels - 1
) -> Wrapper:
    """Noise over the corner at row 0, column 0 of ``[H, W]`` or ``[H, W, C]``, or behind a vector ``[D]``.

    With ``when="action"`` there is one more action, the last: it changes the channel, and the world stands still for
    that step (reward 0) while the step limit, which this wrapper counts by itself, comes nearer. The number of a
    channel is drawn uniformly, at each reset too, and its picture depends on nothing else: uniform in [0, 1), or in
    0 .. levels - 1 where observations are integers. True states and coverage are the environment's: they ignore the
    picture.
    """
    return NoisyTV(env, Channels(int(channels)), when, size, levels)


@flax.struct.dataclass
class Channels:
    channels: Array | int


class Screen(NamedTuple):
    obs: Array  # the environment's own observation, shown again where the world stands still
    channel: Array  # [] int32
    time: Array  # [] int32  steps since the reset


class NoisyTV(Wrapper):
    def __init__(self, env: Any, own: Any, when: str, size: int, levels: int):
        super().__init__(env, own)
        if when not in CHOICES["when"]:
            raise unknown("noisy_tv when", when, CHOICES["when"])
        self.remote, self.size, self.levels = when == "action", size, levels
        actions = super().action_space(self.default_params)
        if self.remote and not isinstance(actions, Discrete):
            raise UserError(f"noisy_tv(when=action) needs discrete actions, not {actions}: use noisy_tv(when=always)")

    def action_space(self, params):
        actions = super().action_space(params)
        return Discrete(actions.n + 1) if self.remote else actions

    def reset_env(self, key, params):
        reset_key, tune_key = jax.random.split(key)
        obs, inner = self.env.reset_env(reset_key, params.inner)
        screen = Screen(jnp.asarray(flatten(obs)), draw(tune_key, params.own.channels), jnp.int32(0))
        return self.shown(screen), Around(screen, inner)

    def step_env(self, key, state, action, params):
        step_key, tune_key = jax.random.split(key)
        own = state.own
        change = action == super().action_space(params).n if self.remote else jnp.array(True)
        still = change & self.remote
        # Where the world stands still the environment is stepped all the same, by an action it has, and not heeded.
        obs, inner, reward, terminated, truncated, info = self.env.step_env(
            step_key, state.inner, jnp.where(still, jnp.zeros_like(action), action), params.inner
        )
        inner = jax.tree.map(lambda before, after: jnp.where(still, before, after), state.inner, inner)
        info = jax.tree.map(lambda x: jnp.where(still, jnp.zeros_like(x), x), info)
        screen = Screen(
            jnp.where(still, own.obs, flatten(obs)),
            jnp.where(change, draw(tune_key, params.own.channels), own.channel),
            own.time + 1,
        )
        over = screen.time >= step_limit(self.env, params.inner)
        reward = jnp.where(still, 0.0, reward)
        return self.shown(screen), Around(screen, inner), reward, terminated & ~still, (truncated & ~still) | over, info

    def shown(self, screen: Screen) -> Array:
        """The observation with the picture of the channel in it."""
        obs, size = screen.obs, self.size
        if obs.ndim < 2:
            picture = self.picture(screen.channel, (size,), obs.dtype)
            return jnp.concatenate([obs.reshape(-1), picture])
        if size > min(obs.shape[:2]):
            raise UserError(f"noisy_tv(size={size}) does not fit observations of the shape {obs.shape}")
        return obs.at[:size, :size].set(self.picture(screen.channel, (size, size, *obs.shape[2:]), obs.dtype))

    def picture(self, channel: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        key = jax.random.fold_in(key_of(0), channel)
        if jnp.issubdtype(dtype, jnp.floating):
            return jax.random.uniform(key, shape, dtype)
        return jax.random.randint(key, shape, 0, self.levels).astype(dtype)
