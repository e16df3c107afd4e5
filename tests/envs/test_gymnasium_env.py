"""Tasks for callers of Gymnasium: its own checker passes, and the numbers are those of the task."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium

from jaxrl.envs import AutoReset, Box, to_gymnasium
from jaxrl.errors import UserError


class Walk(AutoReset):
    """A point on a line that must not be left; four steps."""

    actions, max_steps = Box(-1.0, 1.0, (1,)), 4

    def reset_env(self, key, params):
        place = jax.random.uniform(key)
        return place[None], (place, 0)

    def step_env(self, key, state, action, params):
        place, time = state[0] + action[0], state[1] + 1
        return place[None], (place, time), place, jnp.abs(place) > 2, time >= 4, {}

    def render(self, state, params):
        return jnp.full((2, 3, 3), jnp.uint8(10) + state[1].astype(jnp.uint8))


def test_the_checker_of_gymnasium_passes():
    env = to_gymnasium(Walk)
    check_gymnasium(env, skip_render_check=True)
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (1,), np.float32) and env.render_mode == "rgb_array"


def test_an_episode_is_that_of_the_task_and_ends_without_a_reset():
    env = to_gymnasium(Walk)
    obs, _ = env.reset(seed=3)
    again, _ = to_gymnasium(Walk).reset(seed=3)
    np.testing.assert_array_equal(obs, again)
    places, rewards = [obs[0]], []
    for step in range(4):
        obs, reward, terminated, truncated, _ = env.step(np.array([0.25], np.float32))
        places.append(obs[0])
        rewards.append(reward)
        assert (terminated, truncated) == (False, step == 3) and isinstance(reward, float)
    np.testing.assert_allclose(np.diff(places), 0.25, rtol=1e-5)
    np.testing.assert_allclose(rewards, places[1:], rtol=1e-6)
    with pytest.raises(UserError, match="call reset before the first step and after an end"):
        env.step(np.array([0.0], np.float32))
    other, _ = env.reset()
    assert other != places[0]  # another world, from the same seed
    with pytest.raises(UserError, match="is not in Box"):
        env.step(np.array([7.0], np.float32))


def test_pictures_and_their_absence():
    env = to_gymnasium(Walk)
    env.reset(seed=0)
    assert env.render().shape == (2, 3, 3) and env.render()[0, 0, 0] == 10
    plain = to_gymnasium(_Plain)
    plain.reset(seed=0)
    with pytest.raises(UserError, match="cannot draw itself"):
        plain.render()


class _Plain(AutoReset):
    actions, max_steps = Walk.actions, 4
    reset_env, step_env = Walk.reset_env, Walk.step_env


def test_words_and_pixels_have_the_spaces_of_their_dtype():
    env = to_gymnasium("DeepSea-bsuite")
    assert isinstance(env.action_space, gymnasium.spaces.Discrete) and env.action_space.n == 2
    assert env.observation_space.dtype == np.float32
    pixels = to_gymnasium("grid/Empty-5x5")
    assert pixels.observation_space == gymnasium.spaces.Box(0, 255, (7, 7, 3), np.uint8)
