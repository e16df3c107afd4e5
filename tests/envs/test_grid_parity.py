"""Our engine against MiniGrid itself: the same layouts, the same actions, equal observations, rewards and ends."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401  without it this file must fail
import numpy as np
import pytest
from minigrid.core.world_object import Ball, Box, Door, Goal, Key
from minigrid.wrappers import FullyObsWrapper

from jaxrl.envs import grid
from jaxrl.envs.grid.cells import EMPTY
from jaxrl.envs.grid.engine import GridState

NAMES = {
    "Empty-5x5": "Empty-5x5-v0",
    "FourRooms": "FourRooms-v0",
    "DoorKey-5x5": "DoorKey-5x5-v0",
    "DoorKey-8x8": "DoorKey-8x8-v0",
    "LavaGapS6": "LavaGapS6-v0",
    "LavaCrossingS9N3": "LavaCrossingS9N3-v0",
    "MemoryS7": "MemoryS7-v0",
    "MultiRoom-N2-S4": "MultiRoom-N2-S4-v0",
    "MultiRoom-N6": "MultiRoom-N6-v0",
    "KeyCorridorS3R1": "KeyCorridorS3R1-v0",
    "KeyCorridorS3R3": "KeyCorridorS3R3-v0",
    "ObstructedMaze-1Dl": "ObstructedMaze-1Dl-v0",
    "ObstructedMaze-1Dlhb": "ObstructedMaze-1Dlhb-v0",
    "ObstructedMaze-1Q": "ObstructedMaze-1Q-v1",
    "ObstructedMaze-Full": "ObstructedMaze-Full-v1",
}
ALL_NAMES = NAMES | {
    "Empty-Random-6x6": "Empty-Random-6x6-v0",
    "ObstructedMaze-2Dlh": "ObstructedMaze-2Dlh-v0",
    "KeyCorridorS6R3": "KeyCorridorS6R3-v0",
    "MultiRoom-N4-S5": "MultiRoom-N4-S5-v1",
    "MemoryS13Random": "MemoryS13Random-v0",
    "Empty-16x16": "Empty-16x16-v0",
    "DoorKey-16x16": "DoorKey-16x16-v0",
    "SimpleCrossingS11N5": "SimpleCrossingS11N5-v0",
    "MemoryS17Random": "MemoryS17Random-v0",
    "KeyCorridorS4R3": "KeyCorridorS4R3-v0",
    "ObstructedMaze-2Dlhb": "ObstructedMaze-2Dlhb-v1",
    "ObstructedMaze-2Q": "ObstructedMaze-2Q-v1",
}
STEPS = 64  # step limit given to both sides


def reference(name, max_steps):
    return gymnasium.make(f"MiniGrid-{ALL_NAMES[name]}", max_steps=max_steps, disable_env_checker=True).unwrapped


def encoded(thing):
    """Our 16 bits for one of MiniGrid's objects, written out apart from jaxrl's own code."""
    if thing is None:
        return EMPTY
    kind, colour, state = (int(value) for value in thing.encode())
    contents = thing.contains.encode() if isinstance(thing, Box) and thing.contains else (0, 0, 0)
    return kind + 16 * colour + 128 * state + 512 * int(contents[0]) + 8192 * int(contents[1])


def from_minigrid(env):
    """The state of a MiniGrid environment as ours, numpy leaves."""
    grid = np.array([encoded(thing) for thing in env.grid.grid], np.uint16).reshape(env.height, env.width)
    success = getattr(env, "success_pos", (0, 0))
    return GridState(
        grid,
        np.int32(env.agent_pos[0]),
        np.int32(env.agent_pos[1]),
        np.int32(env.agent_dir),
        np.uint16(encoded(env.carrying)),
        np.int32(env.step_count),
        np.int32(success[1] * env.width + success[0]),
    )


def chosen_action(env, rng):
    """Random, but what stands in front is often used: a uniform policy opens few doors."""
    front = env.grid.get(*env.front_pos)
    if rng.random() < 0.6:
        if isinstance(front, Goal):
            return 2
        if isinstance(front, Door):
            return 2 if front.is_open else 5
        if isinstance(front, (Key, Ball, Box)):
            wanted = front is getattr(env, "obj", None) and env.carrying is None
            return 3 if wanted else rng.choice([3, 5] if env.carrying is None else [3, 4, 5])
    return rng.choice(7, p=[0.14, 0.14, 0.42, 0.08, 0.1, 0.08, 0.04])


def move_start(env, rng, close):
    """The agent to a free cell inside the walls, with a key; or `close` to what pays, all doors unlocked."""
    reached, stack = set(), [tuple(env.agent_pos)]
    while stack:
        x, y = stack.pop()
        thing = env.grid.get(x, y)
        if (x, y) in reached or thing is not None and thing.type == "wall":
            continue
        reached.add((x, y))
        stack += [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
    things = {place: env.grid.get(*place) for place in sorted(reached)}
    free = [place for place, thing in things.items() if thing is None]
    doors = [thing for thing in things.values() if isinstance(thing, Door)]
    if close:
        target = getattr(env, "obj", None)
        pays = [place for place, thing in things.items() if isinstance(thing, Goal) or thing and thing is target]
        free = [(x, y) for x, y in free if pays and abs(x - pays[0][0]) + abs(y - pays[0][1]) <= 2]
        for door in doors:
            door.is_locked = False
    elif doors:  # a key in the hand, of a color that may or may not fit
        env.carrying = Key(rng.choice([door.color for door in doors]))
    env.agent_pos = tuple(int(i) for i in rng.permutation(free)[0]) if free else env.agent_pos
    env.agent_dir = int(rng.integers(4))


def played(name, episodes, seed=0, full=False):
    """What MiniGrid does: start states ``[E, ...]``, and ``[E, STEPS, ...]`` of all that is compared."""
    env = reference(name, STEPS)
    whole = FullyObsWrapper(env)
    look = lambda obs: whole.observation(obs)["image"] if full else obs["image"]
    rng = np.random.default_rng(seed)
    starts, records = [], []
    for episode in range(episodes):
        obs, _ = env.reset(seed=1000 * seed + episode)
        if episode % 2:  # from anywhere, behind the locked doors as well, or from close to what pays
            move_start(env, rng, close=episode % 4 == 3)
            obs = env.gen_obs()
        starts.append((from_minigrid(env), look(obs)))
        rows = []
        for _ in range(STEPS):
            action = int(chosen_action(env, rng))
            obs, reward, terminated, truncated, _ = env.step(action)
            carried = np.uint16(encoded(env.carrying))
            rows.append((action, look(obs), obs["direction"], reward, terminated, truncated, carried))
            if terminated or truncated:
                break
        rows += [rows[-1]] * (STEPS - len(rows))
        records.append([np.stack(column) for column in zip(*rows, strict=True)])
    lengths = [int(np.argmax(terminated | truncated)) + 1 for *_, terminated, truncated, _ in records]
    stacked = [np.stack(column) for column in zip(*records, strict=True)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *starts), np.array(lengths), stacked


@functools.lru_cache
def program(name, view):
    """Ours, over all episodes at once and without resets."""
    task = grid.make(f"grid/{name}", max_steps=STEPS, view=view)

    def episode(state, actions):
        def step(state, action):
            obs, state, reward, terminated, truncated, _ = task.env.step_env(jax.random.key(0), state, action, None)
            return state, (obs, state.direction, reward, terminated, truncated, state.carrying)

        return task.env.observe(state, None), jax.lax.scan(step, state, actions)[1]

    return jax.jit(jax.vmap(episode))


def compare(name, episodes, view="agent", seed=0):
    (starts, first_images), lengths, (actions, *expected) = played(name, episodes, seed, full=view == "full")
    first, ours = program(name, view)(jax.tree.map(jnp.asarray, starts), jnp.asarray(actions))
    np.testing.assert_array_equal(first, first_images)
    assert first.dtype == np.uint8
    running = np.arange(STEPS) < lengths[:, None]
    what = ("image", "direction", "reward", "terminated", "truncated", "carried object")
    for label, theirs, mine in zip(what, expected, ours, strict=True):
        mine = np.asarray(mine)
        assert mine.shape == theirs.shape
        equal = np.isclose(mine, theirs, atol=1e-6) if label == "reward" else mine == theirs
        wrong = running & ~equal.reshape(*running.shape, -1).all(-1)
        assert not wrong.any(), f"{label} differs in {wrong.sum()} steps, first (episode, step) {np.argwhere(wrong)[0]}"
    rewards, carried = expected[2], expected[5]
    return {
        "successes": int(((rewards > 0) & running).any(1).sum()),
        "carried": int((carried > EMPTY).any(1).sum()),
        "truncated": int((expected[4] & running).any(1).sum()),
    }


@pytest.mark.parametrize("name", NAMES)
def test_same_episodes(name):
    seen = compare(name, episodes=24)
    assert seen["successes"] > 0, "no episode succeeded: the reward was not compared"
    if name.startswith(("DoorKey", "KeyCorridor", "Obstructed")):
        assert seen["carried"] > 0
    if not name.startswith(("Memory", "Lava", "Empty-5")):
        assert seen["truncated"] > 0


@pytest.mark.parametrize("name", ["DoorKey-8x8", "ObstructedMaze-1Dlhb"])
def test_same_full_view(name):
    compare(name, episodes=12, view="full", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_same_thousand_episodes(name):
    assert compare(name, episodes=1000, seed=2)["successes"] > 0


@pytest.mark.parametrize("name", ALL_NAMES)
def test_same_step_limit_and_size(name):
    ours, theirs = grid.make(f"grid/{name}"), gymnasium.make(f"MiniGrid-{ALL_NAMES[name]}").unwrapped
    assert ours.max_steps == theirs.max_steps
    assert (ours.env.width, ours.env.height) == (theirs.width, theirs.height)
    assert ours.actions.n == theirs.action_space.n
    assert ours.obs_shape == theirs.observation_space["image"].shape
