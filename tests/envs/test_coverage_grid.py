"""VisualGrid: the picture, the noise, and the goal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import coverage
from jaxrl.envs.check import check_env
from jaxrl.envs.coverage.visual_grid import VisualGrid, VisualGridParams, VisualGridState
from jaxrl.errors import UserError

MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def best_success(size, noise, max_steps):
    """The probability that the best policy is at the goal within the limit, by dynamic programming."""
    value = np.zeros((size, size))
    value[-1, -1] = 1
    for _ in range(max_steps):
        padded = np.pad(value, 1, mode="edge")
        after = np.stack([padded[1 + r : 1 + r + size, 1 + c : 1 + c + size] for r, c in MOVES])
        value = (1 - noise) * after.max(0) + noise * after.mean(0)
        value[-1, -1] = 1
    return value[0, 0]


@pytest.fixture(scope="module")
def step():
    env = VisualGrid(size=5, goal=True, max_steps=9)
    return jax.jit(lambda row, column, time, action: env.step_env(
        jax.random.key(0), VisualGridState(row, column, time), action, VisualGridParams()
    ))  # fmt: skip


@pytest.mark.parametrize("goal", [False, True])
def test_contract(goal):
    seen = check_env(coverage.make("coverage/VisualGrid", size=3, goal=goal, max_steps=12, noise=0.2), steps=80)
    assert seen["truncated"] > 0 and seen["both"] == 0
    assert (seen["terminated"] > 0) == goal


def test_defaults_are_reward_free_and_the_papers():
    task = coverage.make("coverage/VisualGrid")
    assert (task.obs_shape, task.obs_dtype, task.max_steps) == ((42, 42, 1), np.uint8, 150)
    assert (task.num_states, task.solved) == (441, None)
    paper = coverage.make("coverage/VisualGrid-42")
    assert (paper.obs_shape, paper.max_steps, paper.num_states, paper.solved) == ((84, 84, 1), 150, 42 * 42 - 1, 0.9)


def test_moves_picture_and_number(step):
    for row, column in np.ndindex(5, 5):
        for action, (down, right) in enumerate(MOVES):
            obs, state, *_ = step(row, column, 0, action)
            expected = min(max(row + down, 0), 4), min(max(column + right, 0), 4)
            assert (state.row, state.column, state.time) == (*expected, 1)
            assert VisualGrid(size=5).state_id(state, None) == expected[0] * 5 + expected[1]
            picture = np.zeros((10, 10, 1), np.uint8)
            picture[2 * expected[0] : 2 * expected[0] + 2, 2 * expected[1] : 2 * expected[1] + 2] = 255
            np.testing.assert_array_equal(obs, picture)


def test_goal_pays_and_ends(step):
    *_, reward, terminated, truncated, _ = step(3, 4, 0, 2)
    assert reward == 1 and terminated and not truncated
    *_, reward, terminated, truncated, _ = step(3, 4, 8, 2)
    assert reward == 1 and terminated and not truncated, "the goal at the limit is an end"
    *_, reward, terminated, truncated, _ = step(3, 3, 8, 2)
    assert reward == 0 and not terminated and truncated
    env = VisualGrid(size=5)
    _, _, reward, terminated, _, _ = env.step_env(jax.random.key(0), VisualGridState(3, 4, 0), 2, VisualGridParams())
    assert reward == 0 and not terminated, "reward-free by default"


def test_noise_is_the_share_of_random_actions():
    """Where action 1 leads from the middle, at four noises in one compiled program."""
    env, noises, draws = VisualGrid(size=5), np.array([0.0, 0.2, 0.5, 1.0]), 20_000
    one = lambda key, noise: env.step_env(key, VisualGridState(2, 2, 0), 1, VisualGridParams(noise))[1]
    keys = jax.random.split(jax.random.key(1), draws)
    states = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, jnp.asarray(noises))
    for noise, rows, columns in zip(noises, np.asarray(states.row), np.asarray(states.column), strict=True):
        share = [np.mean((rows == 2 + down) & (columns == 2 + right)) for down, right in MOVES]
        expected = np.full(4, noise / 4) + (1 - noise) * np.eye(4)[1]
        deviation = np.sqrt(expected * (1 - expected) / draws)
        assert (np.abs(share - expected) <= 4 * deviation).all()


def test_success_under_noise_is_what_dynamic_programming_says():
    """Along the longer of the two ways left, which is optimal; and the three numbers that the docstring gives."""
    env, params, episodes = VisualGrid(size=6, goal=True, max_steps=14), VisualGridParams(0.4), 8000

    def one(key):
        def body(carry, key):
            state, reached = carry
            action = jnp.where(state.row < state.column, 2, 1)
            _, state, reward, _, _, _ = env.step_env(key, state, action, params)
            return (state, reached | (reward > 0)), None

        start = env.reset_env(key, params)[1], jnp.bool_(False)
        return jax.lax.scan(body, start, jax.random.split(key, 14))[0][1]

    share = np.mean(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(4), episodes)))
    expected = best_success(6, 0.4, 14)
    assert 0.2 < expected < 0.8
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / episodes)
    for noise, success in ((0.3, 0.998), (0.4, 0.889), (0.5, 0.376)):
        assert best_success(42, noise, 150) == pytest.approx(success, abs=5e-4)
        assert str(success) in VisualGrid.__doc__


def test_render():
    env = VisualGrid(size=5, goal=True)
    picture = np.asarray(env.render(VisualGridState(1, 3, 0), VisualGridParams()))
    assert picture.shape == (40, 40, 3) and picture.dtype == np.uint8
    agent = (picture == picture[12, 28]).all(-1)
    assert agent.sum() == 64 and agent[8:16, 24:32].all()
    goal = (picture == picture[36, 36]).all(-1)
    assert goal.sum() == 64 and goal[32:, 32:].all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 1}, "size=1 must be a whole number from 2 to 256"),
        ({"size": 21.5}, "size=21.5 must be a whole number"),
        ({"max_steps": 0}, "max_steps=0 must be a whole number"),
        ({"noise": 1.5}, "params.noise=1.5 must be a number from 0 to 1"),
        ({"noise": "high"}, "params.noise='high' must be a number"),
        ({"noises": 0.5}, "unknown argument of coverage/VisualGrid 'noises': did you mean 'noise'"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(UserError) as error:
        coverage.make("coverage/VisualGrid", **arguments)
    assert words in str(error.value)
