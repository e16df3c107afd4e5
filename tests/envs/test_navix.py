import gymnasium
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401  registers MiniGrid's tasks
import navix
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.catalogue import UNSOLVABLE, row_of, rows
from jaxrl.envs.construct import construct
from jaxrl.envs.navix import NAMES, Navix, minigrid_limit
from jaxrl.envs.solvable import unsolvable
from jaxrl.errors import UserError

RIGHT, FORWARD = 1, 2


@pytest.fixture(scope="module")
def empty():
    return envs.make("navix/Empty-5x5")


@pytest.fixture(scope="module")
def play(empty):
    """Plays actions from reset: observations, rewards, ends, final observations, cells; one compiled program."""

    @jax.jit
    def run(key, actions):
        def body(state, inputs):
            key, action = inputs
            obs, state, reward, terminated, truncated, info = empty.env.step(key, state, action, None)
            return state, (obs, reward, terminated, truncated, info["final_observation"], empty.state_id(state, None))

        obs, state = empty.env.reset(key, None)
        return obs, jax.lax.scan(body, state, (jax.random.split(key, len(actions)), actions))[1]

    return lambda actions: jax.tree.map(np.asarray, run(jax.random.key(0), jnp.int32(actions)))


def test_the_table_is_the_registry_of_the_installed_version():
    every = [f"navix/{name.removeprefix('Navix-').removesuffix('-v0')}" for name in navix.registry()]
    assert [name for name in every if name not in UNSOLVABLE] == list(NAMES) and set(UNSOLVABLE) < set(every)
    assert [name for name, row in rows().items() if row.source == "navix"] == list(NAMES)


def test_step_limits_are_minigrids():
    compared = 0
    for name in NAMES:
        short = name.removeprefix("navix/").replace("5x5-Random", "Random-5x5").replace("6x6-Random", "Random-6x6")
        short = short if "Dynamic" in short else short.replace("-Random", "")
        limit = gymnasium.make(f"MiniGrid-{short}-v0", disable_env_checker=True).unwrapped.max_steps
        assert minigrid_limit(name.removeprefix("navix/")) == limit, name
        compared += 1
    assert compared == len(NAMES) > 32


def test_success_pays_minigrids_reward_and_terminates(play):
    first, (obs, reward, terminated, truncated, final, cells) = play([FORWARD] * 2 + [RIGHT] + [FORWARD] * 2)
    assert first.shape == (7, 7, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(terminated, [False] * 4 + [True])
    assert not truncated.any()
    np.testing.assert_allclose(reward, [0, 0, 0, 0, 1 - 0.9 * 5 / 100], rtol=1e-6)
    np.testing.assert_array_equal(cells, [7, 8, 8, 13, 6])  # row * 5 + column; the last is the next episode's start
    np.testing.assert_array_equal(obs[-1], first)
    assert (final[-1] != first).any()


def test_the_limit_truncates_once_and_the_clock_begins_again(play):
    first, (obs, reward, terminated, truncated, final, _) = play([FORWARD] + [RIGHT] * 203)
    assert np.flatnonzero(truncated).tolist() == [99, 199] and not terminated.any() and not reward.any()
    np.testing.assert_array_equal(obs[99], first)
    assert (final[99] != first).any()  # one cell further on, as the agent then stood


def test_view_and_reward_are_chosen_by_name():
    task = envs.make("navix/DoorKey-5x5", view="full", reward="navix", max_steps=9)
    assert (task.obs_shape, task.max_steps, task.solved, task.num_states) == ((5, 5, 3), 9, 0.9, 25)
    with pytest.raises(UserError, match=r"unknown view of navix/DoorKey-5x5 'ful': did you mean 'full'"):
        envs.make("navix/DoorKey-5x5", view="ful")
    with pytest.raises(UserError, match=r"unknown reward of navix/DoorKey-5x5 'flat': allowed: minigrid, navix"):
        envs.make("navix/DoorKey-5x5", reward="flat")
    with pytest.raises(UserError, match=r"cannot be made with hight=3"):
        envs.make("navix/DoorKey-5x5", hight=3)


def test_contract_and_catalogue():
    task = envs.make("navix/DoorKey-Random-5x5")
    assert row_of(task, "navix") == rows()[task.name]
    report = envs.check_env(task, steps=600)
    assert report["limit_tested"] and report["reset_tested"] and report["random_starts"]


def unlisted(name):
    """The task of any name of the library, offered or not."""
    return construct(name, Navix(name.removeprefix("navix/"), "agent", "minigrid", None), {})


def test_the_goals_of_key_corridor_cannot_be_reached():
    assert len(unsolvable(unlisted("navix/KeyCorridorS3R1"), worlds=64)) == 64


def test_some_goals_of_the_large_simple_crossing_cannot_be_reached():
    assert len(unsolvable(unlisted("navix/SimpleCrossingS11N5"), worlds=256)) == 12


@pytest.mark.parametrize("name", ["navix/DoorKey-8x8", "navix/GoToDoor-5x5", "navix/SimpleCrossingS9N1"])
def test_what_is_offered_can_be_solved(name):
    assert unsolvable(envs.make(name), worlds=64) == []


@pytest.mark.slow  # a program for each name
@pytest.mark.parametrize("name", [*NAMES, *UNSOLVABLE])
def test_exactly_what_can_be_solved_is_offered(name):
    assert len(unsolvable(unlisted(name), worlds=256)) == UNSOLVABLE.get(name, 0)


@pytest.mark.parametrize("name", UNSOLVABLE)
def test_an_unsolvable_name_says_why_and_what_to_use(name):
    use = name.replace("navix/", "grid/")
    with pytest.raises(UserError, match=f"{UNSOLVABLE[name]} of 256 worlds of navix 0.7.4 .* use '{use}'"):
        envs.make(name)
    assert use in rows() and name not in rows()
