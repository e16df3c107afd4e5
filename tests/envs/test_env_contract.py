import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.contract import AutoReset, sample_action, task_of
from jaxrl.envs.params import check_numbers, check_traceable, with_numbers
from jaxrl.envs.wrappers import flatten
from jaxrl.errors import UserError
from jaxrl.types import Box, Discrete


@dataclasses.dataclass(frozen=True)
class Params:
    max_steps_in_episode: int = 3
    reward: float = 0.5


class Count(AutoReset):
    """Random start, dictionary observation, a key in the state, Python numbers wherever an author may write them."""

    default_params = Params()
    actions = Discrete(2)

    def reset_env(self, key, params):
        start = jax.random.uniform(key, (2,))
        return {"time": 0, "start": start}, {"time": 0, "start": start, "key": key}

    def step_env(self, key, state, action, params):
        state = {**state, "time": state["time"] + jnp.int32(1)}
        over = state["time"] >= params.max_steps_in_episode
        return {"time": state["time"], "start": state["start"]}, state, params.reward, False, over, {"extra": 1}


def test_auto_reset_starts_afresh_and_keeps_the_final_observation():
    env, params = Count(), Params()
    _, state = env.reset(jax.random.key(0), params)
    start = state["start"]
    for time in (1, 2, 3):
        key = jax.random.key(time)
        obs, state, reward, terminated, truncated, info = env.step(key, state, 0, params)
        assert (bool(terminated), bool(truncated)) == (False, time == 3)
        assert info["extra"] == 1 and reward == 0.5 and reward.dtype == np.float32
        np.testing.assert_array_equal(info["final_observation"]["start"], start)
        assert info["final_observation"]["time"] == time
    fresh, _ = env.reset(jax.random.split(key)[1], params)
    assert obs["time"] == 0 and state["time"] == 0
    np.testing.assert_array_equal(obs["start"], fresh["start"])
    assert not np.array_equal(obs["start"], start)


def test_one_compilation_serves_every_step():
    env, params = Count(), Params()
    step = jax.jit(lambda key, state: env.step(key, state, 0, params))
    _, state = jax.jit(lambda key: env.reset(key, params))(jax.random.key(0))
    for seed in range(3):
        _, state, *_ = step(jax.random.key(seed), state)
    assert step._cache_size() == 1


def test_task_of_flattens_trees_and_reads_params():
    task = envs.make(Count, max_steps_in_episode=5, reward=2.0)
    assert (task.name, task.max_steps, task.obs_shape, task.obs_dtype) == ("Count", 5, (3,), np.float32)
    obs, state = task.env.reset(jax.random.key(0), task.params)
    np.testing.assert_array_equal(obs, [*state["start"], 0])
    obs, state, reward, *_, info = task.env.step(jax.random.key(1), state, 0, task.params)
    np.testing.assert_array_equal(info["final_observation"], [*state["start"], 1])
    assert reward == 2.0
    assert envs.check_env(task, steps=20)["truncated"] == 4


def test_flatten_keeps_a_single_array():
    picture = jnp.ones((2, 3), jnp.uint8)
    assert flatten(picture) is picture
    np.testing.assert_array_equal(flatten((picture, jnp.int32(7))), np.float32([1, 1, 1, 1, 1, 1, 7]))
    assert flatten((picture,)).dtype == np.float32


def test_sampled_actions_fill_the_space():
    keys = jax.random.split(jax.random.key(0), 200)
    discrete = jax.vmap(lambda key: sample_action(Discrete(3), key))(keys)
    assert set(np.asarray(discrete)) == {0, 1, 2} and discrete.dtype == np.int32
    box = np.asarray(jax.vmap(lambda key: sample_action(Box(-2.0, 3.0, (2,)), key))(keys))
    assert box.shape == (200, 2) and box.dtype == np.float32
    assert -2 <= box.min() < -1.8 and 2.8 < box.max() <= 3


def test_gymnax_style_spaces_and_limits_are_resolved():
    env = Count()
    env.actions, env.action_space = None, lambda params: Box(np.float32([-2, -2]), np.float32([2, 2]), (2,))
    assert task_of(env, Params(max_steps_in_episode=4)).actions == Box(-2.0, 2.0, (2,))
    env.solved = lambda params: 10 * params.reward
    assert task_of(env, Params()).solved == 5.0


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"reset": None}, r"no method reset\(key, params\)"),
        ({"step": None}, r"no method step\(key, state, action, params\)"),
        ({"actions": None}, "has no actions"),
        ({"actions": "two"}, "actions of type str: use Discrete or Box"),
        ({"actions": Discrete(0)}, "at least one is needed"),
        ({"actions": Box(-np.inf, np.inf, (2,))}, r"bounds \[-inf, inf\]: they must be finite"),
        ({"actions": Box(1.0, -1.0, (2,))}, "low below high"),
        ({"actions": Box(-1.0, 1.0, ())}, r"actions of the shape \(\): flatten them to one axis"),
        ({"actions": Box(-1.0, 1.0, (2, 3))}, r"actions of the shape \(2, 3\): flatten them to one axis"),
        ({"max_steps": 2.5}, "step limit 2.5"),
        ({"num_states": 3}, "both num_states and state_id"),
        ({"reset": lambda key, params: ((), 0)}, "observation without any array"),
    ],
)
def test_each_missing_part_has_its_sentence(attributes, sentence):
    env = Count()
    for name, value in attributes.items():
        setattr(env, name, value)
    with pytest.raises(UserError, match=sentence):
        task_of(env, Params())


def test_a_missing_step_limit_has_its_sentence():
    with pytest.raises(UserError, match="no step limit"):
        task_of(Count(), None)


@flax.struct.dataclass
class Numbers:
    speed: float = 1.0
    start: int = 0
    slippery: bool = False
    width: int = 2
    noisy: bool = False
    force: float = 1.0
    limit: int = 5
    table: tuple = (1.0, 2.0)


class Runner(AutoReset):
    """A position that grows by speed; some of its numbers decide what cannot be traced."""

    default_params = Numbers()

    def action_space(self, params):
        return Box(-params.force, params.force, (2,))

    def max_steps(self, params):
        return params.limit

    def solved(self, params):
        return 2 * params.speed

    def reset_env(self, key, params):
        position = jnp.float32(params.start) + (jax.random.uniform(key) if params.noisy else 0)
        return jnp.full(params.width, position), {"position": position, "time": 0}

    def step_env(self, key, state, action, params):
        position = state["position"] + jnp.where(params.slippery, 0, params.speed)
        state = {"position": position, "time": state["time"] + 1}
        return jnp.full(params.width, position), state, position, False, state["time"] >= params.limit, {}


@pytest.mark.parametrize("params", [Numbers(), Numbers(width=3)])
def test_numbers_may_be_traced_and_keep_their_type(params):
    task = task_of(Runner(), params, "Runner")

    @jax.jit
    def run(numbers):
        changed = with_numbers(task, numbers)
        assert [changed.params.start.dtype, changed.params.slippery.dtype] == [np.int32, np.bool_]
        _, state = changed.env.reset(jax.random.key(0), changed.params)
        obs, *_ = changed.env.step(jax.random.key(0), state, 0, changed.params)
        return obs, changed.solved

    numbers = lambda speed, start, slippery: {
        "speed": jnp.float32(speed), "start": jnp.float32(start), "slippery": jnp.float32(slippery)
    }  # fmt: skip
    for values, position in (((2, 3, 0), 5), ((1, 3, 0), 4), ((2, 3, 1), 3)):
        obs, solved = run(numbers(*values))
        np.testing.assert_array_equal(obs, np.full(params.width, position))
        assert solved == 2 * values[0]
    assert run._cache_size() == 1
    assert with_numbers(task, {}) is task and task.solved == 2.0


def test_a_threshold_that_cannot_follow_a_traced_number_is_none():
    class Published(Runner):
        def solved(self, params):
            return 7.0 if params == Numbers() else None

    task = task_of(Published(), Numbers())
    found = []
    jax.eval_shape(lambda speed: found.append(with_numbers(task, {"speed": speed}).solved), jnp.float32(1))
    assert task.solved == 7.0 and found == [None]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("limit", "params.limit of environment .Runner. cannot differ .* decides the step limit: give it in"),
        ("width", "decides a shape.*: give it in env_args, as env_args.width"),
        ("noisy", "a branch of Python code: give it in env_args, as env_args.noisy"),
        ("force", "a bound of the actions"),
        ("sped", "unknown params field of environment 'Runner' 'sped': did you mean 'speed'"),
        ("table", r"params.table of environment 'Runner' is \(1.0, 2.0\), not one number"),
    ],
)
def test_a_number_that_decides_something_static_is_refused(name, sentence):
    task = task_of(Runner(), Numbers(), "Runner")
    check_traceable(task, "speed")
    with pytest.raises(UserError, match=sentence):
        check_traceable(task, name)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ({"start": 2.5}, "params.start = 2.5 of environment 'Runner': must be a whole number"),
        ({"start": 2**24 + 2}, "at most 16,777,216"),
        ({"slippery": 2}, "params.slippery = 2 of environment 'Runner': must be 0 or 1"),
    ],
)
def test_a_number_that_its_field_cannot_hold_is_refused(number, sentence):
    task = task_of(Runner(), Numbers(), "Runner")
    check_numbers(task, {"start": 2**24, "slippery": 1, "speed": 2.5})
    with pytest.raises(UserError, match=sentence):
        check_numbers(task, number)
