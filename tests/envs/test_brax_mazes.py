import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.brax_mazes import _MAPS, CELL, _boxes
from jaxrl.envs.catalogue import row_of, rows

WALLS = {maze: np.array([[cell == "#" for cell in row] for row in text.split()]) for maze, text in _MAPS.items()}


@pytest.fixture(scope="module")
def play():
    """(reward, terminated, truncated, cell, final observation, position) along actions ``[T, 2]`` in the U."""
    task = envs.make("brax/point-umaze", max_steps=45)

    @jax.jit
    def run(key, actions):
        def body(state, inputs):
            key, action = inputs
            _, state, reward, terminated, truncated, info = task.env.step(key, state, action, task.params)
            cell = task.state_id(state, task.params)
            return state, (reward, terminated, truncated, cell, info["final_observation"], state.position)

        _, state = task.env.reset(key, task.params)
        return jax.lax.scan(body, state, (jax.random.split(key, len(actions)), actions))[1]

    return lambda actions, seed=0: jax.tree.map(np.asarray, run(jax.random.key(seed), jnp.float32(actions)))


def test_the_way_to_the_goal_pays_once_and_terminates(play):
    way = [[1, 0]] * 15 + [[0, 1]] * 10 + [[-1, 0]] * 15
    reward, terminated, truncated, cells, *_ = play(way)
    (end,) = np.flatnonzero(terminated)
    assert reward.sum() == reward[end] == 1 and not truncated.any()
    visited = list(dict.fromkeys(cells[:end].tolist()))  # the seven free cells are numbered row by row
    assert visited in ([0, 1, 2, 3, 6, 5], [0, 1, 2, 3, 6, 5, 4])
    assert cells[end] == 0  # the next episode's start


def test_the_limit_truncates_once_from_a_fresh_start(play):
    reward, terminated, truncated, _, final, position = play([[-1, 0]] * 90)
    assert np.flatnonzero(truncated).tolist() == [44, 89] and not terminated.any() and not reward.any()
    assert (position[44] != position[89]).all()  # starts are random
    assert abs(final[44, 0] - (2 * 0.5 / 4 - 1)) < 0.02  # the end of the episode, at the wall, not the next start


def test_walls_hold(play):
    actions = np.random.default_rng(0).uniform(-3, 3, (90, 2))
    for seed in range(4):
        x, y = play(actions, seed)[-1].round().astype(int).T
        assert not WALLS["umaze"][y, x].any()
    position = play([[0, 1]] * 40 + [[0, 0]] * 50)[-1]  # down, against the wall under the start
    assert 1.4 < position[39, 1] < 1.5


def test_the_goals_are_as_far_as_they_look():
    for maze, far in (("umaze", 6), ("large", 14)):
        env = envs.make(f"brax/point-{maze}").env
        steps, frontier, seen = 0, {env.start}, {env.start}
        while env.goal not in frontier:
            near = {(x + dx, y + dy) for x, y in frontier for dx, dy in ((0, 1), (1, 0), (0, -1), (-1, 0))}
            frontier = {(x, y) for x, y in near if not env.walls[y, x]} - seen
            seen |= frontier
            steps += 1
        assert steps == far


def test_speed_is_traced():
    task = envs.make("brax/point-umaze")
    _, state = task.env.reset(jax.random.key(0), task.params)

    def moved(speed):
        params = task.params.replace(speed=speed)
        return task.env.step_env(jax.random.key(0), state, jnp.array([1.0, 0.0]), params)[1].position[0]

    distances = jax.vmap(moved)(jnp.array([0.1, 0.4])) - state.position[0]
    np.testing.assert_allclose(distances, [0.1, 0.4], rtol=1e-4)


def test_contract_and_catalogue():
    task = envs.make("brax/point-large", max_steps=30)
    assert row_of(task, "brax")._replace(step_limit="600") == rows()[task.name]
    report = envs.check_env(task, steps=90)
    assert report["limit_tested"] and report["random_starts"] and report["reset_tested"]


@pytest.mark.parametrize("maze", list(_MAPS))
def test_boxes_cover_the_walls_exactly(maze):
    covered = np.zeros_like(WALLS[maze])
    for box in re.findall(r'pos="([^"]+)" size="([^"]+)"', _boxes(WALLS[maze])):
        (x, y, _), (half_x, half_y, _) = (np.array([float(number) for number in part.split()]) / CELL for part in box)
        rows_, columns = ((middle - half + 0.5, middle + half + 0.5) for middle, half in ((y, half_y), (x, half_x)))
        covered[slice(*map(round, rows_)), slice(*map(round, columns))] = True
    np.testing.assert_array_equal(covered, WALLS[maze])


@pytest.fixture(scope="module")
def ant():
    return envs.make("brax/ant-umaze", max_steps=3)


@pytest.fixture(scope="module")
def step(ant):
    return jax.jit(lambda key, state, params: ant.env.step(key, state, jnp.zeros(8), params))


@pytest.fixture(scope="module")
def start(ant):
    return jax.jit(lambda key: ant.env.reset(key, ant.params))(jax.random.key(0))[1]


def test_the_ants_limit_truncates_once(ant, step, start):
    state, ends = start, []
    for number in range(6):
        obs, state, reward, terminated, truncated, info = step(jax.random.key(number), state, ant.params)
        ends.append((float(reward), bool(terminated), bool(truncated)))
    assert ends == ([(0, False, False)] * 2 + [(0, False, True)]) * 2
    assert (obs != info["final_observation"]).any() and int(state.time) == 0
    assert int(ant.state_id(start, None)) == 0 and ant.num_states == 7 and obs.shape == (29,)


def test_the_ants_goal_pays_and_terminates(ant, step, start):
    for radius, reached in ((9.0, True), (7.0, False)):  # metres; the goal is two cells from the start, 8 m
        _, _, reward, terminated, _, _ = step(jax.random.key(0), start, ant.params.replace(goal_radius=radius))
        assert (float(reward), bool(terminated)) == (reached, reached)


def test_a_wall_stops_the_ant(ant, step, start):
    def thrown(velocity):
        physics = start.pipeline
        speed = physics.xd_i.vel + jnp.array([velocity, 0.0, 0.0])
        physics = physics.replace(xd_i=physics.xd_i.replace(vel=speed), xd=physics.xd.replace(vel=speed))
        state = start._replace(pipeline=physics)
        for _ in range(20):
            _, state, *_ = step(jax.random.key(0), state._replace(time=jnp.int32(0)), ant.params)
        return float(state.position[0])

    assert thrown(8.0) > 1.6  # cells: along the corridor
    assert 0.5 < thrown(-8.0) < 1.0  # the wall's face is at 0.5
