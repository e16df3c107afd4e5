"""MarsExplorer: its lidar against a ray walk, rewards and ends against a replay, maps by what can be reached."""

import functools
from math import pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxrl.envs import coverage
from jaxrl.envs.check import check_env
from jaxrl.envs.coverage import frontier
from jaxrl.envs.coverage.lidar import scan
from jaxrl.envs.coverage.mars_explorer import MOVES, MarsExplorerState
from jaxrl.envs.coverage.terrain import blocks, generate
from jaxrl.envs.params import check_traceable, param_names
from jaxrl.errors import UserError

LIMIT = 60
SAFE = {"crash_ends": False, "collision_reward": 0.0, "outside_reward": 0.0}
HARD = {"rows": 3, "columns": 3, "noise": 3, "min_size": 1, "max_size": 3}
FOUR, EIGHT = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


def small(**kwargs):
    return coverage.make("coverage/MarsExplorer", **{"size": 12, "max_steps": LIMIT, "obstacles": 6} | kwargs)


@pytest.fixture(scope="module")
def step():
    env = small().env
    return jax.jit(lambda state, action, params: env.step_env(jax.random.key(0), state, action, params))


def world(drawing):
    """A state from a drawing: # obstacle, R the robot, . free; what the lidar shows has been seen."""
    rows = np.array([list(line) for line in drawing.split()])
    padded = np.full((12, 12), ".")
    padded[: rows.shape[0], : rows.shape[1]] = rows
    obstacles = padded == "#"
    (x, y), region = np.argwhere(padded == "R")[0], flooded(~obstacles)
    attainable = ndimage.binary_dilation(region, EIGHT)
    seen = scan(jnp.asarray(obstacles), x, y, 6.0)
    scalars = (jnp.int32(number) for number in (x, y, 0))
    return MarsExplorerState(jnp.asarray(obstacles), jnp.asarray(attainable), seen, *scalars)


def flooded(free):
    labels, _ = ndimage.label(free, FOUR)
    return (labels == labels[0, 0]) & free


def ray_walk(obstacles, x, y, reach):
    """What the lidar shows: the points of each beam up to half a cell past the nearest obstacle on it."""
    angle, distance = np.arange(32)[:, None] * 2 * pi / 32, np.linspace(0, reach, 200)
    row, column = np.rint(x + distance * np.cos(angle)).astype(int), np.rint(y + distance * np.sin(angle)).astype(int)
    last = len(obstacles) - 1
    inside = (row >= 0) & (row <= last) & (column >= 0) & (column <= last)
    hits = inside & obstacles[np.clip(row, 0, last), np.clip(column, 0, last)]
    beam_range = np.where(hits, np.hypot(row - x, column - y), reach).min(1, keepdims=True)
    shown = inside & (distance <= np.minimum(beam_range + 0.5, reach))
    seen = np.zeros_like(obstacles)
    seen[row[shown], column[shown]] = True
    return seen


def test_contract():
    seen = check_env(small(crash_ends=False), steps=130)
    assert seen["limit_tested"] and seen["truncated"] > 0 and seen["both"] == 0
    crashing = check_env(small(view="one_hot"), steps=100)
    assert crashing["terminated"] > 0 and crashing["reset_tested"]


@pytest.mark.parametrize("reach", [6.0, 3.3])
def test_lidar_is_a_ray_walk(reach):
    random = np.random.default_rng(0)
    maps = random.random((5, 13, 13)) < np.array([0.0, 0.1, 0.2, 0.3, 0.5])[:, None, None]
    corners = [(0, 0), (12, 12), (0, 12)]
    places = np.array(corners + [tuple(place) for place in random.integers(0, 13, (9, 2))])
    maps[:, places[:, 0], places[:, 1]] = False  # the robot's own cell is free
    every = jax.vmap(jax.vmap(functools.partial(scan, reach=reach), (None, 0, 0)), (0, None, None))
    found = np.asarray(jax.jit(every)(maps, places[:, 0], places[:, 1]))
    for map_index, obstacles in enumerate(maps):
        for place_index, (x, y) in enumerate(places):
            np.testing.assert_array_equal(found[map_index, place_index], ray_walk(obstacles, x, y, reach))
            around = np.zeros_like(obstacles)
            around[max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2] = True
            assert found[map_index, place_index][around].all(), "the eight neighbours are always seen"


def test_lidar_is_occluded():
    obstacles = np.zeros((12, 12), bool)
    obstacles[:, 3] = True
    shown = np.asarray(scan(jnp.asarray(obstacles), jnp.int32(5), jnp.int32(0), 6.0))
    assert shown[5, 3] and shown[:, 3].sum() > 5
    assert not shown[:, 5:].any()
    assert np.asarray(scan(jnp.zeros((12, 12), bool), jnp.int32(5), jnp.int32(0), 6.0))[5, 6]


def test_rewards_and_ends_against_a_replay():
    """Random walks, once with crashes that end and once without; each step's reward and flags from the map alone."""
    costs = {"step_cost": 0.3, "cell_reward": 1.5, "complete_reward": 50.0, "reward_scale": 0.5, "covered": 0.8}
    crashes = {"collision_reward": -7.0, "outside_reward": -11.0}
    task = small(**costs, **crashes)

    def play(key, crash_ends):
        params = task.params.replace(crash_ends=crash_ends)
        reset_key, action_key = jax.random.split(key)
        first = task.env.reset_env(reset_key, params)[1]

        def body(state, action):
            _, after, reward, terminated, truncated, info = task.env.step_env(key, state, action, params)
            return after, (after, reward, terminated, truncated, info["coverage"])

        actions = jax.random.randint(action_key, (LIMIT,), 0, 4)
        return first, actions, jax.lax.scan(body, first, actions)[1]

    both = jax.vmap(jax.vmap(play, (0, None)), (None, 0))
    first, actions, played = jax.jit(both)(jax.random.split(jax.random.key(3), 24), jnp.array([True, False]))
    first, actions, (states, *outcomes) = jax.tree.map(np.asarray, (first, actions, played))
    kinds = set()
    for ends, episode in np.ndindex(2, 24):
        obstacles, x, y = first.obstacles[ends, episode], 0, 0
        seen = ray_walk(obstacles, 0, 0, 6.0)
        attainable = ndimage.binary_dilation(flooded(~obstacles), EIGHT)
        reached_the_limit = False
        for time, action in enumerate(actions[ends, episode]):
            nx, ny = np.array([x, y]) + MOVES[action]
            outside = not (0 <= nx < 12 and 0 <= ny < 12)
            collides = not outside and obstacles[nx, ny]
            x, y = (x, y) if outside or collides else (nx, ny)
            wider = seen | ray_walk(obstacles, x, y, 6.0)
            share = (wider & attainable).sum() / attainable.sum()
            complete = share >= 0.8
            expected = 1.5 * (wider.sum() - seen.sum()) - 0.3 + 50 * complete - 7 * collides - 11 * outside
            seen = wider
            terminated = complete or (ends == 0 and (collides or outside))
            truncated = time == LIMIT - 1 and not terminated
            reward, was_terminated, was_truncated, coverage_share = (x[ends, episode, time] for x in outcomes)
            assert reward == pytest.approx(0.5 * expected, abs=1e-4)
            assert (was_terminated, was_truncated) == (terminated, truncated)
            assert coverage_share == pytest.approx(share)
            np.testing.assert_array_equal(states.seen[ends, episode, time], seen)
            kinds.add(("complete", ends) if complete else ("outside" if outside else "inside", ends))
            reached_the_limit |= truncated
            if terminated:
                break
    assert {("outside", 0), ("outside", 1), ("complete", 1)} <= kinds


def test_coverage_reward_sums_to_the_newly_seen_cells(plays):
    """With nothing else paid, the return is the number of cells seen since the reset."""
    task, play = plays
    params = task.params.replace(complete_reward=0.0, step_cost=0.0, **SAFE)
    first, last, total, _, _ = play(1, params)
    np.testing.assert_array_equal(total, (last.seen.sum((1, 2)) - first.seen.sum((1, 2))).astype(np.float32))
    assert total.min() > 20


def test_ends_at_the_limit(step):
    """The last step before the limit goes on; a crash and a completion in the last one are ends, not cuts."""
    params = small().params
    state = world("R.#\n...")
    at = lambda time: state._replace(time=jnp.int32(time))
    _, after, _, terminated, truncated, _ = step(at(LIMIT - 2), 0, params)
    assert not terminated and not truncated and after.time == LIMIT - 1
    _, _, reward, terminated, truncated, _ = step(at(LIMIT - 1), 0, params)
    assert truncated and not terminated and reward > -1
    _, after, reward, terminated, truncated, _ = step(at(LIMIT - 1), 1, params)
    assert terminated and not truncated and reward == pytest.approx(-400.2)
    assert (after.x, after.y) == (0, 0)
    seen = jnp.ones((12, 12), bool).at[0, 8:].set(False)
    nearly = world("R.")._replace(seen=seen, x=jnp.int32(0), y=jnp.int32(3), time=jnp.int32(LIMIT - 1))
    _, after, reward, terminated, truncated, _ = step(nearly, 2, params)
    new = int(after.seen.sum() - seen.sum())
    assert terminated and not truncated and new > 0
    assert reward == pytest.approx(400 + new - 0.2), "the step's own reward is paid as well"


def test_collisions_cost_and_end(step):
    params = small().params
    state = world("R#\n..")
    _, after, reward, terminated, _, _ = step(state, 2, params)
    assert terminated and reward == pytest.approx(-400.2) and (after.x, after.y) == (0, 0)
    _, after, reward, terminated, _, _ = step(state, 2, params.replace(crash_ends=False, collision_reward=-1.0))
    assert not terminated and reward == pytest.approx(-1.2)
    assert params.collision_reward < 0 and params.outside_reward < 0


def test_observation_shows_where_the_robot_is_and_no_trail(step):
    state, params = world("R..#"), small().params
    for action in (0, 0, 2):
        obs, state, *_ = step(state, action, params)
    codes = np.full((12, 12), 0.3, np.float32)
    codes[np.asarray(state.obstacles)] = 1.0
    codes[~np.asarray(state.seen)] = 0.0
    codes[2, 1] = 0.6
    np.testing.assert_array_equal(obs[..., 0], codes)
    one_hot = np.asarray(small(view="one_hot").env.observe(state))
    assert one_hot.shape == (12, 12, 4) and (one_hot.sum(-1) == 1).all()
    np.testing.assert_array_equal(one_hot @ np.array([0, 0.3, 1, 0.6], np.float32), codes)
    assert small().env.state_id(state, params) == 2 * 12 + 1


@pytest.fixture(scope="module")
def maps():
    """``draw(number, **params)``: blocks, obstacles and attainable cells of 21 x 21 maps, from one program."""
    task = coverage.make("coverage/MarsExplorer")
    both = lambda key, params: (blocks(key, 21, 16, params), *generate(key, 21, 16, params))
    program = jax.jit(jax.vmap(both, (0, None)))

    def draw(number, **changes):
        params = jax.tree.map(jnp.asarray, task.params.replace(**changes))
        return jax.tree.map(np.asarray, program(jax.random.split(jax.random.key(5), number), params))

    draw.program = program
    return draw


@pytest.mark.parametrize("level", [HARD, HARD | {"columns": 5, "max_size": 5}, {"obstacles": 16, "max_size": 6}])
def test_start_is_free_and_leads_somewhere(maps, level):
    drawn, obstacles, attainable = maps(400, **level)
    assert not obstacles[:, [0, 0, 1], [0, 1, 0]].any()
    opened = 0
    for raw, blocked, cells in zip(drawn, obstacles, attainable, strict=True):
        region = flooded(~blocked)
        assert 2 * region.sum() >= (~blocked).sum()
        np.testing.assert_array_equal(cells, ndimage.binary_dilation(region, EIGHT))
        raw = raw.copy()
        raw[[0, 0, 1], [0, 1, 0]] = False
        walled_in = 2 * flooded(~raw).sum() < (~raw).sum()
        assert (raw != blocked).any() == walled_in, "only what walls the start in is taken away"
        assert not (blocked & ~raw).any()
        opened += walled_in
    if "rows" in level:
        assert opened > 0
        assert maps(400, **level)[0][:, 0, 0].any(), "the levels as drawn do block the start"


def test_lattice(maps):
    cells = {(x, y) for x, y in np.argwhere(maps(3, rows=3, columns=3, min_size=1, max_size=1)[0][0])}
    assert cells == {(x, y) for x in (1, 10, 19) for y in (1, 10, 19)}
    drawn = maps(400, rows=2, columns=1, noise=2, min_size=1, max_size=1)[0]
    share = drawn.mean(0)
    assert drawn.sum((1, 2)).max() == 2
    assert set(np.argwhere(share)[:, 0]) == {0, 1, 2, 17, 18, 19, 20}, "noise of -2 to 1, cut off at the edge"
    assert set(np.argwhere(share)[:, 1]) == {0, 1, 2}


def test_blocks_are_drawn_evenly(maps):
    drawn = maps(4000, obstacles=1, min_size=1, max_size=3)[0]
    anchors, extents = [], []
    for grid in drawn:
        rows, columns = np.flatnonzero(grid.any(1)), np.flatnonzero(grid.any(0))
        assert grid.sum() == len(rows) * len(columns)
        anchors.append(rows[0] * 21 + columns[0])
        extents.append((len(rows) - 1) * 3 + len(columns) - 1)
    counts = np.bincount(anchors, minlength=441).reshape(21, 21)
    assert counts[1:19, 1:19].sum() == 4000
    assert stats.chisquare(counts[1:19, 1:19].sum(0)).pvalue > 1e-4
    assert stats.chisquare(counts[1:19, 1:19].sum(1)).pvalue > 1e-4
    assert stats.chisquare(np.bincount(extents, minlength=9)).pvalue > 1e-4


def test_difficulty_is_traced(maps):
    """The levels of this file come from one compiled program, and lanes of one program may differ in their params."""
    for level in ({}, HARD, {"obstacles": 0}):
        maps(400, **level)
    assert maps.program._cache_size() <= 3, "one program for each number of maps"
    task = coverage.make("coverage/MarsExplorer")
    for name in param_names(task.params):
        check_traceable(task, name)
    lanes = jnp.arange(0, 17, 4)
    defaults = jax.tree.map(lambda number: jnp.broadcast_to(jnp.asarray(number), lanes.shape), task.params)
    params = defaults.replace(obstacles=lanes, max_size=jnp.full(5, 3))
    reset = lambda key, params: task.env.reset_env(key, params)[1].obstacles.sum()
    filled = jax.jit(jax.vmap(jax.vmap(reset, (0, None)), (None, 0)))(jax.random.split(jax.random.key(0), 200), params)
    mean = np.asarray(filled).mean(1)
    assert mean[0] == 0 and (np.diff(mean) > 5).all()


@pytest.fixture(scope="module")
def plays():
    """``play(policy, params)``: 24 episodes under frontier (0), safe_random (1), frontier_cost (2) or random (3)."""
    task = coverage.make("coverage/MarsExplorer", max_steps=150)

    def one(key, policy, params):
        reset_key, run_key = jax.random.split(key)
        first = task.env.reset_env(reset_key, params)[1]

        def body(carry, key):
            state, over, total, length, share = carry
            action_key, step_key = jax.random.split(key)
            choices = jnp.stack(
                [
                    frontier.frontier(state),
                    frontier.safe_random(action_key, state),
                    frontier.frontier_cost(state),
                    jax.random.randint(action_key, (), 0, 4),
                ]
            )
            _, after, reward, terminated, truncated, info = task.env.step_env(step_key, state, choices[policy], params)
            state = jax.tree.map(lambda old, new: jnp.where(over, old, new), state, after)
            total, share = total + jnp.where(over, 0, reward), jnp.where(over, share, info["coverage"])
            return (state, over | terminated | truncated, total, length + ~over, share), None

        carry = first, jnp.bool_(False), jnp.float32(0), jnp.int32(0), jnp.float32(0)
        (last, _, total, length, share), _ = jax.lax.scan(body, carry, jax.random.split(run_key, 150))
        return first, last, total, length, share

    program = jax.jit(jax.vmap(one, (0, None, None)))

    def play(policy, params):
        params = jax.tree.map(jnp.asarray, params)
        return jax.tree.map(np.asarray, program(jax.random.split(jax.random.key(2), 24), policy, params))

    return task, play


def test_frontier_beats_random(plays):
    task, play = plays
    _, _, total, length, share = play(0, task.params)
    assert (share >= 0.99).all() and length.mean() < 90, "every map is completed, in 73 steps or so"
    assert total.mean() > task.solved
    _, _, cost_total, cost_length, _ = play(2, task.params)
    assert length.mean() < cost_length.mean()
    _, _, safe_total, safe_length, safe_share = play(1, task.params)
    assert (safe_length > 100).mean() > 0.9 and safe_share.mean() < 0.75
    _, _, random_total, random_length, _ = play(3, task.params)
    assert total.mean() > cost_total.mean() > safe_total.mean() > 0 > random_total.mean()
    assert random_length.mean() < 20 and task.solved > 1.5 * safe_total.max()


def test_all_that_counts_as_attainable_is_attained(plays):
    """On maps with sealed places and thick blocks the frontier policy sees 100 % of it."""
    task, play = plays
    hard = task.params.replace(covered=1.0, **HARD | {"max_size": 5})
    _, last, _, length, share = play(0, hard)
    assert (share == 1).all() and length.max() < 150
    assert (last.attainable.mean((1, 2)) < 1).any()
    assert (last.seen | ~last.attainable).all()


def test_render():
    env, params = small().env, small().params
    state = world("R.#\n...\n#..")
    render = jax.jit(env.render)
    picture = np.asarray(render(state, params))
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8
    tile = lambda x, y: tuple(picture[8 * x + 4, 8 * y + 4])
    hidden = state._replace(seen=state.seen.at[0, 2].set(False).at[0, 1].set(False))
    other = np.asarray(render(hidden, params))
    colours = [tile(0, 0), tile(0, 1), tile(0, 2), tuple(other[4, 12]), tuple(other[4, 20])]
    assert len(set(colours)) == 5, "robot, free, obstacle, and the last two unseen"
    assert tile(2, 0) == tile(0, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 4}, "size=4 must be a whole number from 5 to 256"),
        ({"size": True}, "size=True"),
        ({"max_steps": 0}, "max_steps=0 must be a whole number from 1"),
        ({"lidar_range": 1.0}, "lidar_range=1.0 must be a number of cells from 1.5 to 60"),
        ({"view": "onehot"}, "unknown view 'onehot': did you mean 'one_hot'"),
        ({"max_obstacles": 4, "obstacles": 5}, "params.obstacles=5 must be a whole number from 0 to 4"),
        ({"obstacles": 5000}, "params.obstacles=5000 must be a whole number from 0 to 1024"),
        ({"obstacles": 2.5}, "params.obstacles=2.5 must be a whole number"),
        ({"rows": 3}, "params.rows=3 and params.columns=0 must both be 0, or both at least 1"),
        ({"rows": 5, "columns": 5, "max_obstacles": 16}, "at most max_obstacles=16"),
        ({"min_size": 3}, "params.min_size=3 must be at most params.max_size=2"),
        ({"covered": 1.5}, "params.covered=1.5 must be a number from 0 to 1"),
        ({"obstacle": 3}, "unknown argument of coverage/MarsExplorer 'obstacle': did you mean 'obstacles'"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(UserError) as error:
        coverage.make("coverage/MarsExplorer", **arguments)
    assert words in str(error.value)


def test_room_is_made_for_the_blocks_asked_for():
    assert coverage.make("coverage/MarsExplorer", rows=6, columns=6).env.max_obstacles == 36
    assert coverage.make("coverage/MarsExplorer", obstacles=3).env.max_obstacles == 16
