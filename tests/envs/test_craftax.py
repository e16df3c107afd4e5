"""Slow: one step of Craftax-Classic compiles for most of a minute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.catalogue import row_of, rows
from jaxrl.envs.craftax import NAMES

pytestmark = pytest.mark.slow
NOOP, COLLECT_WOOD = 0, 0


@pytest.fixture(scope="module")
def task():
    return envs.make("craftax/Classic-Symbolic", max_timesteps=3)


@pytest.fixture(scope="module")
def step(task):
    return jax.jit(lambda key, state: task.env.step(key, state, jnp.int32(NOOP), task.params))


@pytest.fixture(scope="module")
def start(task):
    return jax.jit(lambda key: task.env.reset(key, task.params))(jax.random.key(0))[1]


def test_catalogue(task):
    assert [name for name, row in rows().items() if row.source == "craftax"] == list(NAMES)
    assert row_of(task, "craftax")._replace(step_limit="10000") == rows()[task.name]
    assert task.max_steps == 3 and task.env.lazy_reset


def test_the_limit_truncates_once_and_a_fresh_world_follows(step, start):
    state, ends, worlds = start, [], [np.asarray(start.map)]
    for number in range(7):
        obs, state, _, terminated, truncated, info = step(jax.random.fold_in(jax.random.key(1), number), state)
        ends.append((bool(terminated), bool(truncated)))
        if ends[-1][1]:
            assert (obs != info["final_observation"]).any() and int(state.timestep) == 0
            worlds.append(np.asarray(state.map))
    assert ends == ([(False, False)] * 2 + [(False, True)]) * 2 + [(False, False)]
    assert (worlds[0] != worlds[1]).any() and (worlds[1] != worlds[2]).any()


def test_death_terminates_even_at_the_limit(step, start):
    for timestep in (0, 2):
        dying = start.replace(player_health=jnp.zeros_like(start.player_health), timestep=jnp.int32(timestep))
        _, _, _, terminated, truncated, _ = step(jax.random.key(1), dying)
        assert (bool(terminated), bool(truncated)) == (True, False)


def test_achievements_are_in_info_until_the_episode_ends(step, start):
    done = start.replace(achievements=start.achievements.at[COLLECT_WOOD].set(True), timestep=jnp.int32(2))
    _, state, _, _, truncated, info = step(jax.random.key(1), done)
    assert bool(truncated) and float(info["achievements/collect_wood"]) == 1 == float(info["achievements"])
    assert len([name for name in info if name.startswith("achievements/")]) == 22
    assert not state.achievements.any()


def test_contract(task):
    report = envs.check_env(task, steps=10)
    assert report["limit_tested"] and report["random_starts"] and report["reset_tested"]
