"""Every fault that ``check_agent`` names, made on purpose in an agent that is otherwise sound."""

import jax.numpy as jnp
import pytest

from jaxrl.agents import check_agent
from jaxrl.agents.ppo import ppo
from jaxrl.agents.ppo_rnn import ppo_rnn
from jaxrl.agents.random import random
from jaxrl.envs import AutoReset, make
from jaxrl.errors import UserError
from jaxrl.types import Agent, Box, Discrete

T, N = 8, 4


class Room(AutoReset):
    """Observations ``[6]``, which never change; four steps."""

    actions, max_steps = Discrete(3), 4

    def reset_env(self, key, params):
        return jnp.zeros(6), 0

    def step_env(self, key, state, action, params):
        return jnp.zeros(6), state + 1, 0.0, False, state >= 3, {}


class Field(Room):
    actions = Box(-1.0, 1.0, (2,))


@pytest.fixture(scope="module")
def room():
    return make(Room)


def sound(init=None, act=None, update=None, observe=None) -> Agent:
    """State: a table of preferences; memory: the steps of each environment's episode."""
    return Agent(
        init or (lambda key, example: ({"table": jnp.zeros(3)}, jnp.zeros(len(example.first), jnp.int32))),
        act or (lambda key, state, memory, obs, first: (memory + 1, jnp.zeros(len(obs), jnp.int32), obs[:, 0])),
        update or (lambda key, state, rollout, rewards: (state, {"loss": rewards.mean()})),
        observe or (lambda memory, reward: memory),
    )


def acts(function):
    return sound(act=lambda key, state, memory, obs, first: function(memory, obs))


def chooses(action):
    return acts(lambda memory, obs: (memory, action(obs), ()))


def updates(function):
    return sound(update=lambda key, state, rollout, rewards: function(state, rewards))


def peeking(key, state, memory, obs, first):
    if first[0]:
        memory = memory * 0
    return memory, jnp.zeros(len(obs), jnp.int32), ()


FAULTS = {
    "an action for all": (
        chooses(lambda obs: jnp.int32(0)), r"the action from act is int32\[\], it must be int32\[4\]"),
    "logits": (
        chooses(lambda obs: jnp.zeros((4, 3))), r"the action from act is float32\[4, 3\], it must be int32\[4\]"),
    "a number for an index": (
        chooses(lambda obs: obs[:, 0]), r"the action from act is float32\[4\], it must be int32\[4\]"),
    "a small index": (
        chooses(lambda obs: obs[:, 0].astype(jnp.int8)), r"the action from act is int8\[4\], it must be int32\[4\]"),
    "extras of nobody": (
        acts(lambda memory, obs: (memory, jnp.zeros(4, jnp.int32), {"logits": jnp.zeros(3)})),
        r"the extras\['logits'\] is float32\[3\], its first axis must be num_envs = 4",
    ),
    "two values of act": (
        acts(lambda memory, obs: (memory, obs)), r"act must return \(memory, action, extras\), and returned 2 values"),
    "memory of another dtype": (
        acts(lambda memory, obs: (jnp.float32(memory), jnp.zeros(4, jnp.int32), ())),
        r"the memory is int32\[4\] from init and float32\[4\] from act",
    ),
    "memory without environments": (
        sound(lambda key, example: (jnp.zeros(3), jnp.zeros(7))),
        r"the memory is float32\[7\], its first axis must be num_envs = 4",
    ),
    "memory changed by observe": (
        sound(observe=lambda memory, reward: memory + reward),
        r"the memory is int32\[4\] from init and float32\[4\] from observe",
    ),
    "observe that returns nothing": (
        sound(observe=lambda memory, reward: None), "the memory has the structure .* from init and None from observe"),
    "a state of another structure": (
        updates(lambda state, rewards: (state["table"], {})), "the state has the structure .* from init and .* update"),
    "a state of another shape": (
        updates(lambda state, rewards: ({"table": rewards.mean((0, 1))}, {})),
        r"the state\['table'\] is float32\[3\] from init and float32\[2\] from update",
    ),
    "only the state": (
        updates(lambda state, rewards: state), r"update must return \(state, metrics\), and returned a single value"),
    "a loss for each stream": (
        updates(lambda state, rewards: (state, {"loss": rewards.mean((0, 1))})),
        r"the metrics, the second value of update, must be a dict of scalars by name, but 'loss' is float32\[2\]",
    ),
    "an if": (
        sound(act=peeking), r"act failed in .*test_agent_check.py, line \d+, `if first\[0\]:`: TracerBool.*lax.cond"),
    "rewards of one stream": (
        updates(lambda state, rewards: ({"table": state["table"] + rewards[..., 5]}, {})),
        r"update failed in .*test_agent_check.py, line \d+, ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_sentence_that_names_the_method(room, fault):
    agent, sentence = FAULTS[fault]
    with pytest.raises(UserError, match=f"^the agent: {sentence}"):
        check_agent(agent, room, num_steps=T, num_envs=N)


def test_an_action_in_a_box_is_float32_of_its_shape():
    with pytest.raises(UserError, match=r"the action from act is int32\[4\], it must be float32\[4, 2\]"):
        check_agent(sound(), Field, num_steps=T, num_envs=N)
    assert check_agent(chooses(lambda obs: obs[:, :2]), Field, num_envs=N)["action"] == "float32[4, 2]"


def lost(lr=1e-3, *, actions):
    random(actions=actions)


def greedy_only(lr=1e-3, *, actions, explore):
    return random(actions=actions) if explore else chooses(lambda obs: obs)


def wanting(lr=1e-3, *, wishes):
    return sound()


def test_a_factory_must_return_an_agent_whichever_way_it_acts(room):
    with pytest.raises(UserError, match="^agent 'lost' must return a jaxrl.types.Agent, and returned None"):
        check_agent(lost, room)
    with pytest.raises(UserError, match="^agent 'greedy_only': the action from act is float32"):
        check_agent(greedy_only, room)
    with pytest.raises(UserError, match="^agent 'wanting' asks for 'wishes', which is not one of streams, actions"):
        check_agent(wanting, room)


def test_what_was_seen(room):
    assert check_agent(sound(), room, num_steps=T, num_envs=N) == {
        "state": "{table: float32[3]}",
        "memory": "int32[4]",
        "action": "int32[4]",
        "extras": "float32[4]",
        "metrics": ("loss",),
    }


@pytest.mark.parametrize("agent", [ppo, ppo_rnn, random])
@pytest.mark.parametrize("env", [Room, Field])
def test_every_agent_of_ours_passes(agent, env):
    for num_streams in (1, 2):
        assert check_agent(agent, env, num_streams=num_streams)["action"] in ("int32[16]", "float32[16, 2]")
