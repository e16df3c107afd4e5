import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import Env, State

from jaxrl import envs
from jaxrl.envs.catalogue import row_of, rows
from jaxrl.errors import UserError


class Drift(Env):
    """Starts at random in [0, 0.5), moves by half the action as it arrives; done (a number, as brax has it) above 1."""

    observation_size, action_size, backend = 2, 1, "none"

    def reset(self, rng):
        x = jax.random.uniform(rng, ()) / 2
        return State(None, jnp.array([x, 0.0]), jnp.float32(0), jnp.float32(0))

    def step(self, state, action):
        x = state.obs[0] + action[0] / 2
        return state.replace(obs=jnp.array([x, action[0]]), reward=1.0, done=jnp.where(x > 1, 1.0, 0.0))


def steps(task, actions):
    """(final observations, terminated, truncated) of one environment."""

    def body(state, inputs):
        key, action = inputs
        _, state, _, terminated, truncated, info = task.env.step(key, state, action, task.params)
        return state, (info["final_observation"], terminated, truncated)

    _, state = task.env.reset(jax.random.key(0), task.params)
    keys = jax.random.split(jax.random.key(1), len(actions))
    return jax.tree.map(np.asarray, jax.lax.scan(body, state, (keys, jnp.float32(actions)))[1])


def test_the_time_limit_truncates_and_does_not_terminate():
    report = envs.check_env(envs.make("brax/fast", episode_length=7), steps=21)
    assert (report["terminated"], report["truncated"], report["limit_tested"]) == (0, 3, True)


def test_an_episode_that_ends_is_terminated_and_starts_from_a_fresh_key():
    task = envs.make(Drift, episode_length=4)
    assert (task.max_steps, task.obs_shape, task.actions.low, task.actions.high) == (4, (2,), -1.0, 1.0)
    final, terminated, truncated = steps(task, [[1.0]] * 2 + [[0.0]] * 4)
    assert final[1, 0] > 1
    assert np.flatnonzero(terminated).tolist() == [1]
    assert np.flatnonzero(truncated).tolist() == [5]  # four steps after the reset, the clock began again
    report = envs.check_env(task, steps=60)
    assert report["random_starts"] and report["reset_tested"] and report["terminated"] and report["truncated"]


def test_actions_are_clipped_to_the_range_brax_expects():
    final, _, _ = steps(envs.make(Drift), [[5.0], [-5.0], [0.25]])
    np.testing.assert_array_equal(final[:, 1], [1.0, -1.0, 0.25])


def test_dictionary_observations_are_flattened():
    assert envs.make("brax/fast", obs_mode="dict_state").obs_shape == (2,)
    assert envs.make("brax/fast", obs_mode="dict_pixels_state").obs_shape == (2 + 2 * 4 * 4 * 3,)


def test_physics_runs_in_the_cheap_pipeline_unless_asked():
    task = envs.make("brax/inverted_pendulum")
    assert (task.env.env.backend, task.obs_shape, task.actions.shape, task.max_steps) == ("spring", (4,), (1,), 1000)
    assert envs.make("brax/inverted_pendulum", backend="positional").env.env.backend == "positional"


def test_a_sparse_robot_is_paid_beyond_the_threshold_and_nothing_else():
    task = envs.make("brax/sparse-ant", episode_length=100, threshold=0.5)
    assert (task.max_steps, task.solved, task.params.threshold) == (100, 50.0, 0.5)
    _, state = jax.jit(lambda key: task.env.reset_env(key, task.params))(jax.random.key(0))

    @jax.jit
    def step(threshold):
        params = task.params.replace(threshold=threshold)
        _, after, reward, *_ = task.env.step_env(jax.random.key(0), state, jnp.zeros(8), params)
        return after.brax.pipeline_state.x.pos[0, 0], reward

    place, _ = step(0.0)
    assert [bool(step(place + offset)[1]) for offset in (-0.01, 0.01)] == [True, False]


def test_sparse_names_and_mistakes():
    task = envs.make("brax/sparse-halfcheetah")
    assert row_of(task, "brax") == rows()[task.name] and task.params.threshold == 5.0
    with pytest.raises(UserError, match="'treshold': did you mean 'threshold'"):
        envs.make("brax/sparse-halfcheetah", treshold=3)
