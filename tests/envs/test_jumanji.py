import jax
import jax.numpy as jnp
import jumanji
import numpy as np
import pytest
from jumanji.specs import DiscreteArray

from jaxrl import envs
from jaxrl.envs import jumanji as adapter
from jaxrl.envs.catalogue import row_of, rows
from jaxrl.errors import UserError

WAY = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # up, right, down, left, as (row, column)


@pytest.fixture(scope="module")
def maze():
    return envs.make("jumanji/Maze", max_steps=3)


@pytest.fixture(scope="module")
def step(maze):
    return jax.jit(lambda key, state, action: maze.env.step(key, state, action, None))


@pytest.fixture(scope="module")
def start(maze):
    return jax.jit(lambda key: maze.env.reset(key, None))(jax.random.key(1))[1]


def test_the_catalogue_has_the_adapters_games():
    assert [name for name, row in rows().items() if row.source == "jumanji"] == list(adapter.NAMES)


@pytest.mark.slow  # makes every game
def test_every_game_with_one_discrete_action_is_listed():
    listed = {game for game, _ in adapter._GAMES.values()}
    for game in jumanji.registered_environments() - {"Sokoban-v0"}:  # it downloads its levels
        env = jumanji.make(game)
        usable = isinstance(env.action_spec, DiscreteArray) and env.action_spec.shape == env.reward_spec.shape == ()
        assert usable == (game in listed), game


def test_the_limit_truncates_once_and_a_fresh_maze_follows(maze, step, start):
    assert (maze.max_steps, maze.num_states, maze.solved) == (3, 100, 0.9)
    state, ends, key = start, [], jax.random.key(2)
    wall = next(a for a in range(4) if not start.jumanji.action_mask[a])  # an action that leaves the agent where it is
    for number in range(6):
        before = state
        obs, state, reward, terminated, truncated, info = step(
            jax.random.fold_in(key, number), state, jnp.int32(wall if number < 3 else 0)
        )
        ends.append((bool(terminated), bool(truncated)))
        if number == 2:
            assert (state.jumanji.walls != before.jumanji.walls).any() and int(state.time) == 0
            assert (obs != info["final_observation"]).any()
    assert ends == [(False, False), (False, False), (False, True)] * 2
    assert float(reward) == 0


def test_reaching_the_target_terminates_and_pays(maze, step, start):
    inner, mask = start.jumanji, np.asarray(start.jumanji.action_mask)
    action = int(mask.argmax())
    position = inner.agent_position
    target = type(position)(row=position.row + int(WAY[action][0]), col=position.col + int(WAY[action][1]))
    state = start._replace(jumanji=inner.replace(target_position=target), time=jnp.int32(2))
    assert int(maze.state_id(state, None)) == int(position.row) * 10 + int(position.col)
    _, after, reward, terminated, truncated, _ = step(jax.random.key(0), state, jnp.int32(action))
    assert (float(reward), bool(terminated), bool(truncated)) == (1.0, True, False)  # at the limit, and yet an end
    assert int(after.time) == 0


def test_the_librarys_own_limit_is_out_of_reach(step, start):
    late = start._replace(jumanji=start.jumanji.replace(step_count=jnp.int32(100_000)))
    _, _, _, terminated, truncated, _ = step(jax.random.key(0), late, jnp.int32(0))
    assert (bool(terminated), bool(truncated)) == (False, False)


def test_arguments():
    assert envs.make("jumanji/Snake", num_rows=4, num_cols=4, max_steps=7).max_steps == 7
    with pytest.raises(UserError, match="the limit is called max_steps"):
        envs.make("jumanji/Snake", time_limit=3)
    with pytest.raises(UserError, match="cannot be made with rows=3"):
        envs.make("jumanji/Snake", rows=3)


def test_contract_and_catalogue():
    task = envs.make("jumanji/TSP")
    assert row_of(task, "jumanji") == rows()[task.name]
    report = envs.check_env(task, steps=60)
    assert report["random_starts"] and report["reset_tested"] and report["terminated"] > 2
