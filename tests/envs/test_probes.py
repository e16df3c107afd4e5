"""The values that the probes' docstrings state, from the transitions they really produce."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs

DISCOUNT = 0.9


def transitions(task, actions, seed=0):
    """(obs, reward, next_obs, terminated, truncated, state after reset) of one environment, leading axis time."""

    def body(carry, inputs):
        obs, state = carry
        key, action = inputs
        after, state, reward, terminated, truncated, info = task.env.step(key, state, action, task.params)
        return (after, state), (obs, reward, info["final_observation"], terminated, truncated, state)

    def run(key):
        keys = jax.random.split(key, len(actions))
        return jax.lax.scan(body, task.env.reset(key, task.params), (keys, jnp.asarray(actions)))[1]

    return jax.tree.map(np.asarray, jax.jit(run)(jax.random.key(seed)))


def values(task, actions):
    """V of each observation, by iterating the Bellman equation; only termination stops the bootstrap."""
    obs, reward, next_obs, terminated, *_ = transitions(task, actions)
    value = dict.fromkeys([tuple(x) for x in (*obs, *next_obs)], 0.0)
    for _ in range(300):
        for x, r, y, end in zip(obs, reward, next_obs, terminated, strict=True):
            value[tuple(x)] = r + DISCOUNT * (not end) * value[tuple(y)]
    return value


@pytest.mark.parametrize("name", [name for name, source in envs.names().items() if source == "probe"])
def test_contract(name):
    report = envs.check_env(name, steps=40)
    assert report["limit_tested"] and report["reset_tested"]


def test_constant():
    assert values(envs.make("probe/constant"), [0, 1, 1]) == {(1.0,): 1.0}


def test_echo():
    assert values(envs.make("probe/echo"), [0] * 20) == {(1.0,): 1.0, (-1.0,): -1.0}


def test_delay():
    assert values(envs.make("probe/delay"), [0, 1, 1, 0]) == pytest.approx({(0.0,): DISCOUNT, (1.0,): 1.0})


def test_action():
    _, reward, *_ = transitions(envs.make("probe/action"), [0, 1, 1, 0])
    np.testing.assert_array_equal(reward, [-1, 1, 1, -1])


def test_action_box():
    grid = np.linspace(-1, 1, 2001, dtype=np.float32)
    _, reward, *_ = transitions(envs.make("probe/action_box"), grid[:, None])
    assert grid[reward.argmax()] == 0.5 and reward.max() == 0
    assert reward.mean() == pytest.approx(-7 / 12, abs=1e-3)


def test_truncation_goes_on_where_termination_stops():
    endless = values(envs.make("probe/truncation", length=3), [0] * 6)
    assert list(endless.values()) == pytest.approx([1 / (1 - DISCOUNT)] * 3)
    ending = values(envs.make("probe/termination", length=3), [0] * 6)
    assert [ending[tuple(row)] for row in np.eye(3)] == pytest.approx([1 + 0.9 + 0.81, 1.9, 1.0])
    *_, terminated, truncated, _ = transitions(envs.make("probe/truncation", length=3), [0] * 6)
    assert not terminated.any() and truncated.tolist() == [False, False, True] * 2
    *_, terminated, truncated, _ = transitions(envs.make("probe/termination", length=3), [0] * 6)
    assert not truncated.any() and terminated.tolist() == [False, False, True] * 2


def test_chain_visits_what_the_actions_say():
    task = envs.make("probe/chain", length=4, max_steps=3)
    obs, reward, next_obs, terminated, truncated, state = transitions(task, [2, 1, 3, 1, 2, 1, 0])
    assert obs.argmax(1).tolist() == [0, 2, 1, 0, 1, 2, 0]
    assert next_obs.argmax(1).tolist() == [2, 1, 3, 1, 2, 1, 0]
    assert reward.tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert np.flatnonzero(terminated).tolist() == [2] and np.flatnonzero(truncated).tolist() == [2, 5]
    assert task.state_id(state, None).tolist() == [2, 1, 0, 1, 2, 0, 0] and task.num_states == 3


def test_chain_starts_anywhere_but_at_the_end_when_asked():
    task = envs.make("probe/chain", length=4, random_start=True)
    _, _, _, _, _, state = transitions(task, [3] * 60)
    assert set(state.position) == {0, 1, 2}
