"""Evaluation: one whole episode in each environment, from fresh memory, with returns known by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import envs
from jaxrl.agents.ppo import ppo
from jaxrl.envs.contract import AutoReset
from jaxrl.trainers.evaluate import evaluate
from jaxrl.trainers.rollout import example_of
from jaxrl.types import Agent, Discrete, Streams


class Endless(AutoReset):
    """Pays 1 a step and never ends, whatever its step limit says."""

    actions = Discrete(2)
    max_steps = 5

    def reset_env(self, key, params):
        return jnp.zeros(1), ()

    def step_env(self, key, state, action, params):
        return jnp.zeros(1), state, 1.0, False, False, {}


class Countdown(AutoReset):
    """The first action says how many steps the episode lasts; each pays 1."""

    actions = Discrete(6)
    max_steps = 5

    def reset_env(self, key, params):
        return jnp.zeros(1), (jnp.int32(0), jnp.int32(0))

    def step_env(self, key, state, action, params):
        time, length = state
        length = jnp.where(time == 0, action, length)
        return jnp.zeros(1), (time + 1, length), 1.0, time + 1 >= length, time + 1 >= self.max_steps, {}


def clockwork(script):
    """Plays `script` [steps, N] by the clock of its memory; the agent state is added to every action."""
    script = jnp.asarray(script)

    def init(key, example):
        return jnp.int32(0), jnp.zeros(example.reward.shape, jnp.int32)

    def act(key, state, memory, obs, first):
        return memory + 1, script[memory, jnp.arange(memory.shape[0])] + state, ()

    return Agent(init, act, None)


def test_each_environment_plays_its_first_episode_and_no_more():
    script = np.tile([[1, 3, 2, 5]], (5, 1))
    found = evaluate(jax.random.key(0), envs.make(Countdown), clockwork(script), jnp.int32(0), episodes=4)
    np.testing.assert_array_equal(found, [1, 3, 2, 5])


def test_it_is_the_trained_state_that_plays():
    script = np.tile([[1, 3]], (5, 1))
    found = evaluate(jax.random.key(0), envs.make(Countdown), clockwork(script), jnp.int32(1), episodes=2)
    np.testing.assert_array_equal(found, [2, 4])


def test_an_episode_that_does_not_end_is_cut_at_the_step_limit():
    agent = clockwork(np.zeros((50, 3), int))
    found = jax.jit(lambda key: evaluate(key, envs.make(Endless), agent, jnp.int32(0), episodes=3))(jax.random.key(0))
    np.testing.assert_array_equal(found, 5)
    assert found.dtype == jnp.float32


def test_it_stops_as_soon_as_all_episodes_ended():
    """The clock of the script has two entries; a third step would read past them, so count the steps themselves."""
    steps = []

    def act(key, state, memory, obs, first):
        jax.debug.callback(lambda: steps.append(1))
        return memory, jnp.full(2, 2), ()

    agent = Agent(lambda key, example: ((), ()), act, None)
    evaluate(jax.random.key(0), envs.make(Countdown), agent, (), episodes=2).block_until_ready()
    jax.effects_barrier()
    assert len(steps) == 2


def test_memory_is_fresh_and_first_opens_only_the_episode():
    """Every step pays 1 if and only if `first` and the clock agree about where the episode opens."""

    class Judge(Endless):
        def step_env(self, key, state, action, params):
            return jnp.zeros(1), state, action.astype(jnp.float32), False, False, {}

    def act(key, state, memory, obs, first):
        return memory + 1, (first == (memory == 0)).astype(jnp.int32), ()

    agent = Agent(lambda key, example: ((), jnp.zeros(example.reward.shape)), act, None)
    np.testing.assert_array_equal(evaluate(jax.random.key(0), envs.make(Judge), agent, (), episodes=2), 5)


def test_greedy_play_is_the_same_for_every_key_and_sampled_play_is_not():
    task = envs.make("probe/chain", length=8, max_steps=6)
    streams = Streams(jnp.ones(1), jnp.full(1, 0.9), jnp.array([True]))

    def returns(explore, key):
        agent = ppo(streams, actions=task.actions, iterations=1, explore=explore, hidden=(8,))
        state, _ = agent.init(jax.random.key(3), example_of(task, 8))
        return evaluate(key, task, agent, state, episodes=8)

    greedy = jax.jit(lambda key: returns(False, key))
    sampled = jax.jit(lambda key: returns(True, key))
    one, two = np.asarray(greedy(jax.random.key(0))), np.asarray(greedy(jax.random.key(1)))
    np.testing.assert_array_equal(one, two)
    assert len(set(one)) == 1  # the world is deterministic, so are all episodes
    assert len(set(np.asarray(sampled(jax.random.key(0))))) > 1
