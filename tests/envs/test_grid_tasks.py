"""Rules of the tasks that MiniGrid does not have, what a user can get wrong, the picture, and sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import check_env, grid
from jaxrl.envs.grid.cells import BOX, DOOR, EMPTY, FLOOR, GOAL, LAVA, WALL
from jaxrl.envs.grid.engine import FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from jaxrl.errors import UserError

EAST, SOUTH, WEST, NORTH = range(4)
KEYS = jax.random.split(jax.random.key(1), 64)


def kinds(state):
    return np.asarray(state.grid) & 15


def worlds(task, params=None):
    """64 worlds, leading axis."""
    params = task.params if params is None else params
    return jax.jit(jax.vmap(task.env.generate, (0, None)))(KEYS, params)


def run(task, actions, state=None, key=0):
    """(states, rewards, terminated, truncated) after each action, from a state or from a fresh world."""
    if state is None:
        state = task.env.generate(jax.random.key(key), task.params)

    def step(carry, inputs):
        key, action = inputs
        _, carry, reward, terminated, truncated, _ = task.env.step_env(key, carry, action, task.params)
        return carry, (carry, reward, terminated, truncated)

    keys = jax.random.split(jax.random.key(key), len(actions))
    return jax.jit(lambda state: jax.lax.scan(step, state, (keys, jnp.asarray(actions)))[1])(state)


def distinct(states):
    return len(np.unique(np.asarray(states.grid).reshape(64, -1), axis=0))


def open_maze(kinds):
    """Is it a tree: connected, with one edge less than cells?"""
    free = kinds != WALL
    edges = (free[:, 1:] & free[:, :-1]).sum() + (free[1:] & free[:-1]).sum()
    seen, stack = set(), [(1, 1)]
    while stack:
        y, x = stack.pop()
        if (y, x) not in seen and free[y, x]:
            seen.add((y, x))
            stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return len(seen) == free.sum() and edges == free.sum() - 1 and free[1::2, 1::2].all()


@pytest.fixture(scope="module")
def maze():
    return grid.make("grid/Maze", size=9)


def test_mazes_are_trees(maze):
    new = worlds(maze, maze.params.replace(contexts=0))
    assert distinct(new) == 64
    assert all(open_maze(kinds) for kinds in kinds(new))
    assert (kinds(new)[:, -2, -2] == GOAL).all()


def test_maze_contexts(maze):
    assert distinct(worlds(maze)) == 1
    assert distinct(worlds(maze, maze.params.replace(contexts=4))) == 4


def test_disco_maze():
    task = grid.make("grid/RandomDiscoMaze-11x11")
    states = worlds(task)
    assert all(open_maze(kinds) for kinds in kinds(states))
    step = jax.jit(jax.vmap(task.env.step_env, (0, 0, 0, None)))
    for action in range(4):
        _, after, reward, terminated, _, _ = step(KEYS, states, jnp.full(64, action), task.params)
        dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[action]
        wall = kinds(states)[np.arange(64), states.y + dy, states.x + dx] == WALL
        np.testing.assert_array_equal(terminated, wall)
        np.testing.assert_array_equal(after.x, np.where(wall, states.x, states.x + dx))
        assert not np.any(reward)
    np.testing.assert_array_equal(kinds(after), kinds(states))
    walls = kinds(states) == WALL
    before, now = (np.asarray(s.grid >> 4 & 7)[walls] for s in (states, after))
    np.testing.assert_allclose(np.bincount(now) / len(now), [0.2] * 5, atol=0.02)
    assert (before == now).mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("goal, paid", [(0, 1.0), (1, 0.0)])
def test_corridors(goal, paid):
    """Up the hall to the topmost of 3 corridors and to its end: in time, paid once if the goal is there."""
    task = grid.make("grid/Corridors", corridors=3, length=4, goal=goal)
    states, reward, terminated, truncated = run(task, [NORTH] * 2 + [EAST] * 5)
    assert list(reward) == [0] * 5 + [paid, 0]
    assert bool(terminated[5]) == bool(paid) and not truncated[:6].any() and truncated[6]
    assert (int(states.x[5]), int(states.y[5])) == (5, 1)


def test_context_rooms():
    task = grid.make("grid/ContextRooms")
    many = worlds(task)
    assert distinct(many) > 50 and set(np.asarray(many.mission)) == {-1}
    few = worlds(task, task.params.replace(contexts=3))
    assert distinct(few) == 3 and set(np.asarray(few.mission)) == {0, 1, 2}
    again = jax.jit(jax.vmap(task.env.generate, (0, None)))(KEYS[::-1], task.params.replace(contexts=3))
    for context in range(3):  # the same world under another key
        one, other = (s.grid[np.argmax(s.mission == context)] for s in (few, again))
        np.testing.assert_array_equal(one, other)
    state = jax.tree.map(lambda leaf: leaf[0], many)
    state = state._replace(x=jnp.int32(3), y=jnp.int32(2), grid=state.grid.at[2, 4].set(LAVA).at[2, 3].set(EMPTY))
    _, reward, terminated, _ = run(task, [EAST], state)
    assert terminated[0] and reward[0] == 0


def test_slip_is_traced():
    task = grid.make("grid/ContextRooms")
    state = task.env.generate(jax.random.key(0), task.params)._replace(x=jnp.int32(2), y=jnp.int32(2))
    state = state._replace(grid=jnp.full_like(state.grid, EMPTY))
    after = lambda key, slip: task.env.step_env(key, state, EAST, task.params.replace(slip=slip))[1].direction
    direction = jax.jit(jax.vmap(jax.vmap(after, (0, None)), (None, 0)))(KEYS, jnp.array([0.0, 1.0]))
    assert not direction[0].any()
    assert set(np.asarray(direction[1])) == {EAST, SOUTH, WEST, NORTH}


def test_number_of_rooms_is_traced():
    task = grid.make("grid/MultiRoom", max_rooms=5, max_room_size=5)
    counted = lambda key, rooms: (task.env.generate(key, task.params.replace(num_rooms=rooms)).grid & 15 == DOOR).sum()
    doors = jax.jit(jax.vmap(jax.vmap(counted, (0, None)), (None, 0)))(KEYS[:8], jnp.array([1, 2, 5, 9]))
    np.testing.assert_array_equal(doors, np.repeat([[0], [1], [4], [4]], 8, 1))


def test_noisy_rooms():
    task = grid.make("grid/MultiRoomAB", noisy=1.0)
    state = task.env.generate(jax.random.key(3), task.params)
    floor = kinds(state) == FLOOR
    rooms = np.asarray(state.grid >> 9)
    assert (kinds(state) == BOX).sum() == 4 and set(rooms[floor]) == {1, 2, 3, 4}
    assert (kinds(state)[rooms > 0] != EMPTY).all()

    # In front of the box of some room, to the left of it where the floor is.
    y, x = next((y, x) for y, x in np.argwhere(kinds(state) == BOX) if floor[y, x - 1])
    room = rooms[y, x]
    state = state._replace(x=jnp.int32(x - 1), y=jnp.int32(y), direction=jnp.int32(EAST))
    states, *_ = run(task, [LEFT, RIGHT, TOGGLE, LEFT, LEFT], state)
    colour = np.asarray(states.grid) & 127
    changes = lambda a, b, where: (colour[a] != colour[b])[where].mean()
    assert changes(0, 1, floor) == pytest.approx(5 / 6, abs=0.15)
    frozen, lit = floor & (rooms == room), floor & (rooms != room)
    assert changes(2, 3, frozen) == changes(3, 4, frozen) == 0
    assert changes(3, 4, lit) == pytest.approx(5 / 6, abs=0.15)
    assert int(states.grid[2][y, x]) == EMPTY
    calm = worlds(task, task.params.replace(noisy=0.0))
    assert not np.isin(kinds(calm), (FLOOR, BOX)).any()


MAP = """
#######
#>.A.G#
#a.####
#######
"""


@pytest.mark.parametrize("source", ["text", "path"])
def test_map(source, tmp_path):
    (tmp_path / "world.txt").write_text(MAP)
    task = grid.make("grid/Map", map=MAP if source == "text" else str(tmp_path / "world.txt"))
    fetch = [RIGHT, PICKUP, LEFT, FORWARD, TOGGLE]
    states, reward, terminated, _ = run(task, [*fetch, FORWARD, FORWARD, FORWARD])
    assert terminated.tolist() == [False] * 7 + [True]
    assert reward[-1] == pytest.approx(1 - 0.9 * 8 / task.max_steps)
    assert task.state_id(jax.tree.map(lambda leaf: leaf[-1], states), task.params) == 1 * 7 + 5
    locked = run(task, [FORWARD, TOGGLE, FORWARD, FORWARD, FORWARD])
    assert not locked[2].any() and locked[0].x[-1] == 2


def test_map_with_four_moves():
    task = grid.make("grid/Map", map="####\n#v.#\n#.G#\n####", compass=True)
    assert task.actions.n == 4
    _, reward, terminated, _ = run(task, [EAST, SOUTH])
    assert terminated[1] and list(reward) == [0, 1]


@pytest.mark.parametrize(
    "name, arguments, sentence",
    [
        ("Map", {"map": "####\n#..#\n####"}, "0 starts"),
        ("Map", {"map": "####\n#>>#\n####"}, "2 starts: row 1, column 1, row 1, column 2"),
        ("Map", {"map": "####\n#>?#\n####"}, r"'\?' at row 1, column 2"),
        ("Map", {"map": "####\n#>.\n####"}, "row 1 has 3 characters"),
        ("Map", {"map": "####\n#>.G\n####"}, "border"),
        ("Map", {"map": "nowhere.txt"}, "nowhere.txt"),
        ("MultiRoom", {"max_rooms": 99}, "max_rooms=99.* 1 to 32 rooms"),
        ("MultiRoom", {"max_rooms": 0}, "max_rooms=0"),
        ("MultiRoom", {"max_room_size": 3}, "max_room_size=3 must be a whole number from 4 to 24"),
        ("DoorKey-8x8", {"size": 4}, "size=4 must be a whole number from 5"),
        ("DoorKey-8x8", {"view": "fall"}, "did you mean 'full'"),
        ("DoorKey-8x8", {"max_steps": 0}, "max_steps=0"),
        ("Maze", {"size": 8}, "odd number"),
        ("KeyCorridorS3R3", {"room_size": 2}, "room_size=2"),
        ("MemoryS7", {"size": 6}, "size=6"),
        ("Corridors", {"corridors": 1}, "corridors=1"),
    ],
)
def test_bad_input(name, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        grid.make(f"grid/{name}", **arguments)


def test_every_name_is_made():
    for name in grid.NAMES:
        task = grid.make(name)
        assert task.num_states == task.env.width * task.env.height
        assert task.solved is None or 0.1 <= task.solved < 1
        assert task.env.lazy_reset


def test_contract():
    report = check_env(grid.make("grid/MemoryS7", max_steps=8), steps=60)
    assert report["limit_tested"] and report["random_starts"] and report["reset_tested"]


def test_states_are_small():
    """65,536 environments in 2 GB leave 32 KB each, for the observation and what XLA needs besides the state."""
    for name in ("grid/MultiRoom-N6", "grid/ObstructedMaze-Full"):
        state = jax.eval_shape(grid.make(name).env.reset, jax.random.key(0), grid.make(name).params)[1]
        assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) < 2048


def test_render():
    task = grid.make("grid/Map", map=MAP)
    states, *_ = run(task, [RIGHT, PICKUP, LEFT, FORWARD, TOGGLE])
    pictures = np.asarray(jax.jit(jax.vmap(lambda state: task.env.render(state, task.params)))(states))
    assert pictures.shape == (5, 4 * 8, 7 * 8, 3) and pictures.dtype == np.uint8
    tile = lambda step, x, y: pictures[step, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].astype(float)
    red = lambda step, x, y: (tile(step, x, y)[..., 0] - tile(step, x, y)[..., 1]).mean()
    assert red(0, 1, 1) > 30 and red(3, 1, 1) == 0  # the agent goes away
    assert red(0, 1, 2) > 20 and red(1, 1, 2) == 0  # and takes the red key
    assert red(3, 3, 1) > 2 * red(4, 3, 1) > 0  # an open door is mostly hole
    assert tile(3, 5, 1).max() == tile(3, 5, 1)[..., 1].max() and tile(4, 5, 1)[..., 0].min() > 0  # goal in sight
    np.testing.assert_array_equal(tile(3, 5, 1)[..., 0], 0)  # hidden behind the door
