"""navix: ``navix/DoorKey-8x8`` is navix's ``Navix-DoorKey-8x8-v0``, with MiniGrid's limits, view and reward.

Written against navix 0.7.4 (Python 3.11). navix 4 (Python 3.12) has the same functions by reading and is chosen by its
version, but no test of jaxrl runs it. What navix does otherwise than MiniGrid and is not mended here: the first-person
view sees through walls (navix's categorical one, which is not offered, hides cells by an inverted map of what is
transparent) and does not show what is carried; running into a moving obstacle ends the episode but costs nothing.
KeyCorridor and the two largest SimpleCrossings are not listed: goals cannot be reached (`catalogue.UNSOLVABLE`).
"""

import re
from importlib.metadata import version
from typing import Any, NamedTuple

import jax.numpy as jnp
import navix
from navix.environments.environment import StepType, Timestep
from navix.rendering.cache import RenderingCache

from jaxrl.envs.catalogue import UNSOLVABLE
from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.envs.solvable import FREE, Layout
from jaxrl.errors import UserError, unknown
from jaxrl.types import Array, Discrete, Key, PyTree

NAMES = tuple(
    name for full in navix.registry() if (name := f"navix/{full[len('Navix-') : -len('-v0')]}") not in UNSOLVABLE
)
OLD = int(version("navix").split(".")[0]) < 4

# MiniGrid's own step limits as a function of the size in the name; checked against the minigrid package by a test.
_LIMITS = {
    "DoorKey": lambda size: 10 * size**2,
    "KeyCorridor": lambda size: 30 * size**2,
    "FourRooms": lambda size: 100,
    "DistShift": lambda size: 252,
    "Empty": lambda size: 4 * size**2,
    "Dynamic": lambda size: 4 * size**2,
    "LavaGap": lambda size: 4 * size**2,
    "SimpleCrossing": lambda size: 4 * size**2,
    "LavaCrossing": lambda size: 4 * size**2,
    "GoToDoor": lambda size: 4 * size**2,
    "GoToObject": lambda size: 5 * size**2,
    "Fetch": lambda size: 5 * size**2,
    "PutNear": lambda size: 5 * size,
    "RedBlueDoors": lambda size: 20 * size**2,
    "UnlockPickup": lambda size: 288,
    "Unlock": lambda size: 288,
    "BlockedUnlockPickup": lambda size: 576,
}
_VIEWS = {"agent": navix.observations.symbolic_first_person, "full": navix.observations.symbolic}
_REWARDS = ("minigrid", "navix")
_NO_CACHE = RenderingCache(patches=jnp.zeros((1, 1, 1, 3), jnp.uint8))


class State(NamedTuple):
    navix: PyTree  # navix's own State, without the pictures of its tiles: 3 kB for every cell of the grid
    time: Array  # [] int32  steps since the reset


def make(name: str, **kwargs: Any) -> Task:
    """The task of a navix name; arguments as in `Navix`, others go to navix's constructor (``random_start``, ...)."""
    short = name.removeprefix("navix/")

    def build(view: str = "agent", reward: str = "minigrid", max_steps: int | None = None, **options: Any) -> Navix:
        return Navix(short, view, reward, max_steps, **options)

    return construct(name, build, kwargs)


def minigrid_limit(short: str) -> int | None:
    """MiniGrid's step limit of the task, None for a family that is not in the table."""
    family = re.match(r"[A-Za-z]+?(?=S\d|\d|-|$)", short)
    size = re.search(r"(\d+)x\d+|S(\d+)", short)
    rule = _LIMITS.get(family.group() if family else "")
    return rule(int(size.group(1) or size.group(2)) if size else 0) if rule else None


class Navix(AutoReset):
    """A navix environment; observation uint8 ``[7, 7, 3]`` (``view="agent"``) or ``[H, W, 3]`` (``"full"``).

    ``reward="minigrid"`` pays 1 - 0.9 t / T for success at step t of at most T, ``"navix"`` a flat 1. ``max_steps`` is
    T, by default MiniGrid's (navix's own default is 100 for every task). ``state_id`` is the agent's cell,
    row * width + column. Solved (ours): with the flat reward, 9 of 10 episodes succeed; with MiniGrid's, all do within
    2/9 of the limit (return 0.8), in FourRooms, whose limit is tight, within 4/9 (0.6).
    """

    lazy_reset = True

    def __init__(self, short: str, view: str, reward: str, max_steps: int | None, **options: Any):
        if view not in _VIEWS:
            raise unknown(f"view of navix/{short}", view, _VIEWS)
        if reward not in _REWARDS:
            raise unknown(f"reward of navix/{short}", reward, _REWARDS)
        limit = minigrid_limit(short) if max_steps is None else max_steps
        if limit is not None:
            options["max_steps"] = limit
        elif OLD:
            raise UserError(f"environment 'navix/{short}' has no known step limit: give it max_steps")
        self.env = navix.registry()[f"Navix-{short}-v0"](observation_fn=_VIEWS[view], **options)
        self.max_steps = self.env.max_steps
        self.flat = reward == "navix"
        self.actions = Discrete(len(self.env.action_set))
        self.num_states = self.env.height * self.env.width
        self.solved = 0.9 if self.flat else 0.6 if short.startswith("FourRooms") else 0.8

    def state_id(self, state: State, params: Any) -> Array:
        row, column = state.navix.entities["player"].position[0]
        return (row * self.env.width + column).astype(jnp.int32)

    def ways(self, state: State, params: Any) -> Layout:
        """What `jaxrl.envs.solvable` searches: walls, lava, doors and their keys; a door in a wall stays a wall."""
        grid, entities = state.navix.grid, state.navix.entities
        none = jnp.zeros(grid.shape, bool)

        def put(cells, name, value):
            one = entities.get(name)
            return cells if one is None else cells.at[tuple(one.position.T)].set(value(one))

        marked = lambda cells, name: put(cells, name, lambda _: True)
        blocked, free = marked(marked(grid != 0, "wall"), "lava"), jnp.full(grid.shape, FREE)
        locks = put(free, "door", lambda door: jnp.where(door.open == 1, FREE, door.requires))
        keys = put(free, "key", lambda key: key.id)
        goal = marked(none, "goal")
        if (mission := state.navix.mission) is not None:  # to stand before a door
            goal = goal.at[tuple(mission.position)].set(True)
            blocked, locks = blocked & ~goal, jnp.where(goal, FREE, locks)
        return Layout(~blocked, locks, keys, marked(none, "player"), goal)

    def reset_env(self, key: Key, params: Any) -> tuple[Array, State]:
        first = self.env.reset(key)
        return first.observation, State(first.state.replace(cache=_NO_CACHE), jnp.int32(0))

    def step_env(self, key: Key, state: State, action: Array, params: Any) -> tuple:
        # navix.step would also reset (both branches run under vmap); chance comes from the key inside navix's state.
        before = Timestep(state.time, None, action, jnp.float32(0), StepType.TRANSITION, state.navix)
        after = self.env._step(before, action)
        share = jnp.where(self.flat | (after.reward <= 0), 1.0, 1.0 - 0.9 * after.t / self.max_steps)
        terminated, truncated = after.is_termination(), after.is_truncation()
        return after.observation, State(after.state, after.t), after.reward * share, terminated, truncated, {}
