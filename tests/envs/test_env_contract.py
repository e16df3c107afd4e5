import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.contract import AutoReset, sample_action, task_of
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


class Space(NamedTuple):
    low: Any
    high: Any
    shape: tuple = (2,)


def test_gymnax_style_spaces_and_limits_are_resolved():
    env = Count()
    env.actions, env.action_space = None, lambda params: Space(np.float32([-2, -2]), np.float32([2, 2]))
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
        ({"actions": Space(-np.inf, np.inf)}, r"bounds \[-inf, inf\]: they must be finite"),
        ({"actions": Space(1.0, -1.0)}, "low below high"),
        ({"actions": Space([-1.0, -2.0], [1.0, 2.0])}, "differ between coordinates"),
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
