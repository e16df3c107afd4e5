"""XLand-MiniGrid: ``xminigrid/MiniGrid-DoorKey-8x8``, and rule worlds such as ``xminigrid/XLand-MiniGrid-R4-13x13``.

The view is the library's: uint8 ``[7, 7, 2]`` (tile, colour), 5x5 in XLand and 3x3 in Memory by default, through walls,
and without what is carried. Step limits and the reward 1 - 0.9 t / T are MiniGrid's already.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import xminigrid
from xminigrid.benchmarks import DATA_PATH, NAME2HFFILENAME, Benchmark, load_benchmark_from_path
from xminigrid.types import StepType, TimeStep

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.errors import UserError, unknown
from jaxrl.types import Array, Discrete, Key, PyTree

NAMES = tuple(f"xminigrid/{name}" for name in xminigrid.registered_environments())


class State(NamedTuple):
    xminigrid: PyTree  # xminigrid's own State; counts the steps


def make(name: str, **kwargs: Any) -> Task:
    """The task of an xminigrid name; arguments as in `MiniGrid` and `XLand`."""
    short = name.removeprefix("xminigrid/")
    kind = XLand if short.startswith("XLand") else MiniGrid
    return construct(name, _bound(kind, short), kwargs)


def _bound(kind: type, short: str) -> Any:
    if kind is MiniGrid:
        return lambda view_size=None, max_steps=None: MiniGrid(short, view_size, max_steps)
    return lambda benchmark=None, ruleset=None, view_size=None, max_steps=None: XLand(
        short, view_size, max_steps, benchmark, ruleset
    )


class MiniGrid(AutoReset):
    """A task ported from MiniGrid; ``view_size`` is odd, ``max_steps`` the limit T, by default MiniGrid's.

    ``state_id`` is the agent's cell, row * width + column. Solved (ours): every episode succeeds within 2/9 of the
    limit (return 0.8), in FourRooms and LockedRoom, whose limits are tight, within 4/9 (0.6). Playground has no goal.
    """

    lazy_reset = True

    def __init__(self, short: str, view_size: int | None, max_steps: int | None):
        given = {"view_size": view_size, "max_steps": max_steps}
        if view_size is not None and (view_size < 3 or view_size % 2 == 0):
            raise UserError(f"view_size = {view_size} of xminigrid/{short}: must be odd, at least 3")
        options = {name: value for name, value in given.items() if value is not None}
        self.env, self.params = xminigrid.make(short, **options)
        self.max_steps = self.params.max_steps
        self.actions = Discrete(self.env.num_actions(self.params))
        self.num_states = self.params.height * self.params.width
        tight = short.removeprefix("MiniGrid-") in ("FourRooms", "LockedRoom")
        self.solved = None if short == "MiniGrid-Playground" else 0.6 if tight else 0.8

    def state_id(self, state: State, params: Any) -> Array:
        row, column = state.xminigrid.agent.position
        return (row * self.params.width + column).astype(jnp.int32)

    def reset_env(self, key: Key, params: Any) -> tuple[PyTree, State]:
        first = self.env.reset(self.params, key)
        return first.observation, State(first.state)

    def step_env(self, key: Key, state: State, action: Array, params: Any) -> tuple:
        zero = jnp.float32(0)
        before: TimeStep = TimeStep(state.xminigrid, StepType.MID, zero, zero, ())  # type: ignore[arg-type]
        after = self.env.step(self.params, before, action)
        terminated = after.discount == 0
        return after.observation, State(after.state), after.reward, terminated, after.last() & ~terminated, {}


class XLand(MiniGrid):
    """A rule world: a layout, and a ruleset (goal, production rules, objects) out of a benchmark.

    ``benchmark`` is a name of an installed benchmark ("trivial-21k", ...) or, from Python, a Benchmark; without one
    the world is empty of objects and has no goal. ``ruleset`` is the number of one ruleset in it; without one, every
    episode draws its own, and the compiled program holds the whole benchmark. Nothing is downloaded here, and
    no file that an argument names is loaded: benchmarks are pickles, and loading one runs what its author put in. No
    `solved`: it depends on the ruleset.
    """

    def __init__(
        self,
        short: str,
        view_size: int | None,
        max_steps: int | None,
        benchmark: str | Benchmark | None = None,
        ruleset: int | None = None,
    ):
        super().__init__(short, view_size, max_steps)
        self.solved, self.benchmark = None, None
        if benchmark is None:
            if ruleset is not None:
                raise UserError(f"ruleset = {ruleset} of xminigrid/{short} needs a benchmark that it is part of")
            return
        rulesets = load(benchmark)
        if ruleset is None:
            self.benchmark = rulesets
        elif not 0 <= ruleset < rulesets.num_rulesets():
            raise UserError(
                f"ruleset = {ruleset} of its benchmark: must be in [0, {rulesets.num_rulesets() - 1}]"
            )
        else:
            self.params = self.params.replace(ruleset=rulesets.get_ruleset(ruleset))

    def reset_env(self, key: Key, params: Any) -> tuple[PyTree, State]:
        world = self.params
        if self.benchmark is not None:
            key, ruleset_key = jax.random.split(key)
            world = world.replace(ruleset=self.benchmark.sample_ruleset(ruleset_key))
        first = self.env.reset(world, key)
        return first.observation, State(first.state)


def load(benchmark: str | Benchmark) -> Benchmark:
    """An installed benchmark by name, or one in hand; UserError with a sentence where there is none."""
    if isinstance(benchmark, Benchmark):
        return benchmark
    if benchmark not in NAME2HFFILENAME and Path(benchmark).exists():
        raise UserError(
            f"benchmark = {benchmark!r}: a benchmark file is a pickle, which runs what its author put in, so an "
            "argument names an installed one only; load it in Python, with load_benchmark_from_path of "
            "xminigrid.benchmarks, and pass that"
        )
    if benchmark not in NAME2HFFILENAME:
        raise unknown("benchmark of xminigrid", benchmark, NAME2HFFILENAME)
    path = Path(DATA_PATH) / NAME2HFFILENAME[benchmark]
    if not path.is_file():
        command = f"python -c \"import xminigrid; xminigrid.load_benchmark('{benchmark}')\""
        raise UserError(f"benchmark {benchmark!r} is not installed in {DATA_PATH}; to download it: {command}")
    return load_benchmark_from_path(str(path))
