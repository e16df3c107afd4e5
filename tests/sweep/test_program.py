"""Programs: environment parameters as lanes of one compilation, wrappers, and what a program has no use for."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.contract import AutoReset
from jaxrl.errors import UserError
from jaxrl.spec.spec import spec
from jaxrl.sweep.lanes import Packing, keys_of, lanes_of, stacked
from jaxrl.sweep.plan import lanes, programs
from jaxrl.sweep.program import build, check_values
from jaxrl.types import Discrete

PACKING = Packing(1, 2, "cpu")
ITERATIONS = 2


@flax.struct.dataclass
class Wages:
    wage: float = 1.0
    start: int = 0
    goal: float = 4.0  # the return that counts as solved
    length: int = 4


class Work(AutoReset):
    """Pays `wage` a step, whatever is done; an episode has `length` steps, counted from `start` in what is seen."""

    default_params = Wages()
    actions = Discrete(2)

    def max_steps(self, params):
        return params.length

    def solved(self, params):
        return params.goal

    def reset_env(self, key, params):
        return jnp.full(3, params.start, jnp.float32), 0

    def step_env(self, key, time, action, params):
        obs = jnp.full(3, params.start + time + 1, jnp.float32)
        return obs, time + 1, params.wage, False, time + 1 >= params.length, {}


def work(**fields):
    small = {"num_envs": 4, "num_steps": 8, "steps": ITERATIONS * 32, "evals": 1, "eval_episodes": 2}
    return spec(**{"env": Work, "agent": "random", **small, **fields})


@pytest.fixture(scope="module")
def swept():
    made = work(grid={"params.wage": [1.0, 3.0], "params.goal": [4, 5]}, **{"params.start": 2})
    ((_, planned),) = programs(lanes(made))
    return planned, build(planned[0].program, made.objects)


def test_lanes_of_one_compilation_differ_in_the_environments_params(swept):
    planned, program = swept
    functions = lanes_of(program, PACKING, ITERATIONS)
    for pair in (planned[:2], planned[2:]):
        values, keys = stacked([lane.values for lane in pair]), keys_of([lane.seed for lane in pair])
        states = functions.init(values, keys)
        states, metrics = functions.run(values, states, jnp.int32(ITERATIONS))
        measured = functions.evaluate(values, keys, states)
        for i, lane in enumerate(pair):
            wage, goal = lane.values["params.wage"], lane.values["params.goal"]
            np.testing.assert_allclose(np.asarray(metrics["return"])[i], 4 * wage)
            assert measured["eval_return"][i] == 4 * wage
            assert measured["solved"][i] == (4 * wage >= goal)
    assert functions.init._cache_size() == functions.run._cache_size() == functions.evaluate._cache_size() == 1
    assert program.task.params == Wages()  # shared by the lanes, so without the numbers of any


def test_a_lanes_task_has_its_numbers_in_their_own_types(swept):
    planned, program = swept
    one = program.make({name: jnp.float32(value) for name, value in planned[-1].values.items()})
    params = one.task.params
    assert (params.wage, params.start, params.goal, params.length) == (3.0, 2, 5.0, 4)
    assert params.start.dtype == np.int32 and params.wage.dtype == np.float32
    assert one.task.solved == 5.0 and one.task.env is program.task.env


def test_the_environment_is_followed_once_for_each_number(swept, monkeypatch):
    planned, program = swept
    values = {name: jnp.float32(value) for name, value in planned[0].values.items()}
    program.make(values)
    monkeypatch.setattr("jaxrl.sweep.program.check_traceable", lambda task, name: pytest.fail(f"{name} again"))
    program.make(values)


def test_lanes_are_told_apart_by_params_and_only_by_those_they_have():
    plain = {lane.id for lane in lanes(work())}
    low, high = lanes(work(grid={"params.wage": [1, 2]}))
    assert len({low.id, high.id, *plain}) == 3 and low.program == high.program
    wider = lanes(work(grid={"params.wage": [2, 3, 1.0]}))
    assert {low.id, high.id} < {lane.id for lane in wider}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"params.wag": 2}, "unknown params field of environment 'Work' 'wag': did you mean 'wage'"),
        ({"params.length": 3}, "decides the step limit: give it in env_args, as env_args.length"),
        ({"params.start": 1.5}, "params.start = 1.5 of environment 'Work': must be a whole number"),
    ],
)
def test_a_number_that_cannot_be_a_lanes_is_a_sentence(fields, sentence):
    made = work(**fields)
    (lane,) = lanes(made)
    program = build(lane.program, made.objects)
    with pytest.raises(UserError, match=sentence):
        check_values(program, lane.values)
        jax.eval_shape(lambda values: program.make(values).trainer.init(jax.random.key(0)), stacked([lane.values]))


def test_env_args_decide_what_is_static():
    made = work(env_args={"length": 3})
    assert build(lanes(made)[0].program, made.objects).task.max_steps == 3


def test_wrappers_are_around_the_environment_and_their_numbers_are_lanes():
    made = work(
        wrap=["delayed_reward", "frame_stack(frames=2)"],
        env_args={"length": 5},
        grid={"params.period": [2, 0]},
    )
    ((static, planned),) = programs(lanes(made))
    program = build(static, made.objects)
    assert program.task.obs_shape == (6,) and program.task.max_steps == 5
    paid = []
    for lane in planned:
        task = program.make({name: jnp.float32(value) for name, value in lane.values.items()}).task
        _, state = task.env.reset(jax.random.key(0), task.params)
        _, state, first, *_ = task.env.step(jax.random.key(1), state, jnp.int32(0), task.params)
        _, state, second, *_ = task.env.step(jax.random.key(2), state, jnp.int32(0), task.params)
        paid.append((float(first), float(second)))
    assert paid == [(0, 2), (0, 0)]


@pytest.mark.parametrize(
    "fields",
    [
        {"bonus": "none"},
        {"bonus": "count", "streams": "sum"},
        {"bonus": "count"},
        {"bonus": "count", "streams": "only"},
        {"bonus": "none", "streams": "only"},
    ],
)
def test_a_program_reads_only_the_fields_it_has(fields):
    made = work(**fields)
    (lane,) = lanes(made)
    values = {name: jnp.float32(value) for name, value in lane.values.items()}
    trainer = build(lane.program, made.objects).make(values).trainer
    _, metrics = jax.eval_shape(lambda key: trainer.step(trainer.init(key)), jax.random.key(0))
    assert metrics["return"].shape == ()


@pytest.mark.parametrize("bonus", ["count", "none"])
def test_where_the_bonus_is_all_the_reward_changes_nothing_that_is_learned(bonus):
    small = {"agent": "ppo", "minibatches": 2, "epochs": 1, "hidden": (8,)}
    made = work(bonus=bonus, streams="only", **small, grid={"params.wage": [1.0, 3.0]})
    program = build(lanes(made)[0].program, made.objects)
    found = []
    for lane in lanes(made):
        trainer = program.make({name: jnp.float32(value) for name, value in lane.values.items()}).trainer
        state, metrics = jax.jit(trainer.step)(trainer.init(jax.random.key(0)))
        found.append((state.agent, float(metrics["return"])))
    (learned, paid), (again, paid_more) = found
    assert 3 * paid == paid_more
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (learned, again)), strict=True))
