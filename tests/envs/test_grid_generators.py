"""Worlds that we generate: statistics against MiniGrid's, solvability, and what ``solved`` asks for."""

import functools
from collections import deque

import gymnasium
import jax
import minigrid  # noqa: F401  without it this file must fail
import numpy as np
import pytest
from scipy.stats import ks_2samp
from test_grid_parity import ALL_NAMES, from_minigrid

from jaxrl.envs import grid
from jaxrl.envs.grid.cells import BALL, BLUE, BOX, DOOR, FLOOR, GOAL, KEY, LAVA, LOCKED, WALL, cell

OURS, THEIRS = 1200, 400  # worlds
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
COMPARED = [
    "DoorKey-8x8", "FourRooms", "LavaCrossingS9N3", "MemoryS13Random", "MultiRoom-N6", "KeyCorridorS3R3",
    "ObstructedMaze-1Dlhb", "ObstructedMaze-2Q",
]  # fmt: skip
COMPARED_SLOWLY = [name for name in ALL_NAMES if name not in COMPARED and not name.startswith("Empty-1")]


@functools.cache
def ours(name, count=OURS):
    """Worlds at the start of an episode, a list of states with numpy leaves."""
    task = grid.make(f"grid/{name}")
    keys = jax.random.split(jax.random.key(5), count)
    states = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: task.env.generate(key, task.params)))(keys))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(count)]


def theirs(name):
    env = gymnasium.make(f"MiniGrid-{ALL_NAMES[name]}", disable_env_checker=True).unwrapped
    for seed in range(THEIRS):
        env.reset(seed=seed)
        yield from_minigrid(env)


def features(state):
    """Numbers that describe a world; where a kind of object is absent, -1."""
    kinds, colours, door_states = state.grid & 15, state.grid >> 4 & 7, state.grid >> 7 & 3
    found = {"agent_x": state.x, "agent_y": state.y, "direction": state.direction, "walls": (kinds == WALL).sum()}
    height, width = kinds.shape
    for label, kind in {"goal": GOAL, "door": DOOR, "key": KEY, "ball": BALL, "box": BOX, "lava": LAVA}.items():
        y, x = np.nonzero(kinds == kind)
        found[f"{label}_count"] = len(x)
        found[f"{label}_x"], found[f"{label}_y"] = (x.mean(), y.mean()) if len(x) else (-1, -1)
        found[f"{label}_colour"] = colours[y[0], x[0]] if len(x) else -1
        found[f"{label}_last_colour"] = colours[y[-1], x[-1]] if len(x) else -1
        found[f"{label}_near_agent"] = np.abs(x - state.x).min() + np.abs(y - state.y).min() if len(x) else -1
    found["locked"] = (door_states == LOCKED).sum()
    found["hidden"] = int((state.grid >> 9 > 0).sum())
    room = reached(state, passable=lambda kind, colour, door: kind not in (WALL, DOOR))
    x, y = np.array(sorted(room)).T
    found["room_width"], found["room_height"] = np.ptp(x), np.ptp(y)
    dx, dy = STEPS[state.direction]
    found["ahead"] = kinds[(state.y + dy) % height, (state.x + dx) % width]
    return found


def reached(state, passable):
    """Cells that the agent can walk to if ``passable(kind, colour, door state)`` says where it may go."""
    grid_, stack, seen = state.grid, [(int(state.x), int(state.y))], set()
    while stack:
        x, y = stack.pop()
        if (x, y) in seen or not (0 <= y < grid_.shape[0] and 0 <= x < grid_.shape[1]):
            continue
        value = int(grid_[y, x])
        if not passable(value & 15, value >> 4 & 7, value >> 7 & 3):
            continue
        seen.add((x, y))
        stack += [(x + dx, y + dy) for dx, dy in STEPS]
    return seen


def check_statistics(name):
    mine, other = ([features(state) for state in states] for states in (ours(name), theirs(name)))
    for label in mine[0]:
        a, b = ([float(found[label]) for found in side] for side in (mine, other))
        p = ks_2samp(a, b).pvalue
        # About 30 features times 25 tasks: one false alarm in a thousand choices of seeds.
        assert p > 1e-6, f"{label}: means {np.mean(a):.3f} and {np.mean(b):.3f}, p = {p:.1e}"


@pytest.mark.parametrize("name", COMPARED)
def test_same_statistics_as_minigrid(name):
    check_statistics(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED_SLOWLY)
def test_same_statistics_as_minigrid_elsewhere(name):
    check_statistics(name)


def opened(state):
    """Cells that can be reached by fetching keys, out of boxes too, and moving what stands in the way."""
    keys = set()
    passable = lambda kind, colour, door: kind not in (WALL, LAVA) and (kind != DOOR or door < LOCKED or colour in keys)
    while True:
        reach = reached(state, passable)
        values = [int(state.grid[y, x]) for x, y in reach]
        found = {value >> 4 & 7 for value in values if value & 15 == KEY}
        found |= {value >> 13 & 7 for value in values if value & 15 == BOX and value >> 9 & 15 == KEY}
        if found <= keys:
            return reach
        keys.update(found)


def prize(state):
    """(x, y) of the goal, else of the blue ball of ObstructedMaze, else of KeyCorridor's ball."""
    for wanted in (state.grid & 15 == GOAL, state.grid == cell(BALL, BLUE), state.grid & 15 == BALL):
        y, x = np.nonzero(wanted)
        if len(x):
            assert len(x) == 1
            return int(x[0]), int(y[0])
    raise AssertionError("nothing to reach")


@pytest.mark.parametrize("name", [name for name in COMPARED if not name.startswith("Memory")])
def test_solvable(name):
    for state in ours(name)[:300]:
        assert prize(state) in opened(state)
        if name.startswith(("DoorKey", "KeyCorridor", "Obstructed")):
            assert prize(state) not in reached(
                state, lambda kind, colour, door: kind != WALL and (kind != DOOR or door < LOCKED)
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MultiRoom-N10-S10", "MultiRoom-N12-S10"])
def test_long_chains(name):
    """Most have all their rooms, and all can be solved."""
    states = ours(name, 256)
    assert all(prize(state) in opened(state) for state in states)
    rooms = np.array([(state.grid & 15 == DOOR).sum() + 1 for state in states])
    assert (rooms == grid.make(f"grid/{name}").env.max_rooms).mean() > 0.5 and rooms.min() >= 6


def walk(world, place, looks_at=None, enters=None):
    """(steps, place) of the shortest way from (x, y, direction) until a cell is looked at, or entered.

    Closed doors on the way take one step to open.
    """
    queue, cost = deque([place]), {place: 0}
    best = None
    while queue:
        x, y, direction = here = queue.popleft()
        dx, dy = STEPS[direction]
        ahead = (x + dx, y + dy)
        if ((x, y) == enters or ahead == looks_at) and (best is None or cost[here] < cost[best]):
            best = here
        value = int(world[ahead[1], ahead[0]])
        free = value & 15 not in (WALL, LAVA, KEY, BALL, BOX) and (value & 15 != DOOR or value >> 7 & 3 < LOCKED)
        opens = int(value & 15 == DOOR and value >> 7 & 3 > 0)
        moves = [(1, (x, y, (direction + 1) % 4)), (1, (x, y, (direction - 1) % 4))]
        for price, there in moves + [(1 + opens, (*ahead, direction))] * free:
            if cost[here] + price < cost.get(there, 10**6):
                cost[there] = cost[here] + price
                queue.append(there)
    assert best is not None
    return cost[best], best


def plan(state):
    """Steps of a straight solution: key, locked door, drop the key if the prize must be picked up, prize."""
    world, place, steps = state.grid.copy(), (int(state.x), int(state.y), int(state.direction)), 0
    door = [(int(x), int(y)) for y, x in np.argwhere((world & 15 == DOOR) & (world >> 7 & 3 == LOCKED))]
    if door:
        y, x = (int(i[0]) for i in np.nonzero(world & 15 == KEY))
        for target in ((x, y), door[0]):
            taken, place = walk(world, place, looks_at=target)
            steps += taken + 1
            world[target[1], target[0]] = FLOOR
    picks = world[prize(state)[1], prize(state)[0]] & 15 == BALL
    taken, _ = walk(world, place, **{"looks_at" if picks else "enters": prize(state)})
    return steps + taken + 2 * picks


@pytest.mark.parametrize(
    "name", ["Empty-8x8", "DoorKey-8x8", "FourRooms", "LavaCrossingS9N3", "MultiRoom-N6", "KeyCorridorS3R3"]
)
def test_solved_is_for_those_who_do_not_wander(name):
    """A straight policy's mean return is above the threshold; that of one that needs three times as long is below."""
    task = grid.make(f"grid/{name}")
    steps = np.array([plan(state) for state in ours(name)[:60]])
    returns = lambda steps: np.where(steps <= task.max_steps, 1 - 0.9 * steps / task.max_steps, 0).mean()
    assert returns(3 * steps) < task.solved < returns(steps), f"mean {steps.mean()} steps"
