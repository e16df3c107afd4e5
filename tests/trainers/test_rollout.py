"""What `collect` records against a hand-written loop over a world whose every step is scripted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl.trainers.rollout
from jaxrl import envs
from jaxrl.trainers.rollout import collect, example_of, start, step_all
from jaxrl.types import Agent, Box

LENGTH, MAX_STEPS, T = 4, 3, 6
# The chain's action is the position to go to; position 3 terminates and pays 1, three steps truncate.
SCRIPT = np.array(
    [  # [2 T, N]: two rollouts of three environments
        [1, 3, 0],  # environment 1 terminates at once
        [2, 1, 0],
        [3, 2, 0],  # environment 0 terminates on its last allowed step; environment 2 is only ever truncated
        [1, 1, 1],
        [1, 3, 1],
        [0, 2, 2],
        [2, 2, 2],
        [1, 0, 0],
        [1, 1, 0],
        [1, 1, 1],
        [2, 1, 1],
        [0, 3, 0],
    ]
)
NUM_ENVS = SCRIPT.shape[1]


def scripted(script):
    """Plays `script` [steps, N]; memory counts the steps [N], extras are what the agent was told."""
    script = jnp.asarray(script)

    def act(key, state, memory, obs, first):
        action = script[memory, jnp.arange(memory.shape[0])]
        return memory + 1, action, {"clock": memory, "first": first, "obs": obs}

    return Agent(None, act, None)


def by_hand(actions):
    """One environment of the chain, step by step: rows of one environment's Transition, and its finished episodes."""
    one_hot = lambda position: np.eye(LENGTH)[position]
    position, time, first, total, rows, finished, visited = 0, 0, True, 0.0, [], [], []
    for action in actions:
        visited.append(position)
        obs = one_hot(position)
        position, time = action, time + 1
        reward = float(position == LENGTH - 1)
        terminated, truncated = position == LENGTH - 1, time >= MAX_STEPS
        total += reward
        rows.append((obs, action, reward, one_hot(position), terminated, truncated, first))
        first = terminated or truncated
        if first:
            finished.append((total, time))
            position, time, total = 0, 0, 0.0
        else:
            finished.append(None)
    return rows, finished, visited, one_hot(position), first


@pytest.fixture(scope="module")
def rollouts():
    """Two rollouts in a row, the second continuing the first, and the hand loop over both."""
    task = envs.make("probe/chain", length=LENGTH, max_steps=MAX_STEPS)
    agent = scripted(SCRIPT)
    k_start, k_one, k_two = jax.random.split(jax.random.key(0), 3)
    run = jax.jit(lambda key, memory, carry: collect(key, task, agent, (), memory, carry, T))
    one = run(k_one, jnp.zeros(NUM_ENVS, jnp.int32), start(k_start, task, NUM_ENVS))
    two = run(k_two, one[0], one[1])
    return one, two, [by_hand(SCRIPT[:, n]) for n in range(NUM_ENVS)]


def test_every_field_of_every_step_is_that_of_the_hand_loop(rollouts):
    one, two, hand = rollouts
    for number, (_, _, rollout, played) in enumerate((one, two)):
        for n, (rows, _, visited, _, _) in enumerate(hand):
            for t in range(T):
                expected = rows[number * T + t]
                for name, value in zip(rollout.batch._fields[:7], expected, strict=True):
                    found = np.asarray(getattr(rollout.batch, name)[t, n])
                    np.testing.assert_array_equal(found, value, err_msg=f"{name}, rollout {number}, t={t}, n={n}")
                assert played["states"][t, n] == visited[number * T + t]
    batch = two[2].batch
    assert batch.reward.dtype == jnp.float32
    assert batch.terminated.dtype == batch.truncated.dtype == batch.first.dtype == bool


def test_final_observations_are_those_before_the_reset(rollouts):
    batch = rollouts[0][2].batch
    ended = np.asarray(batch.terminated[:-1])
    assert ended.any()
    assert (np.asarray(batch.next_obs[:-1])[ended].argmax(-1) == LENGTH - 1).all()
    assert (np.asarray(batch.obs[1:])[ended].argmax(-1) == 0).all()


def test_returns_and_lengths_are_those_of_the_episodes_that_ended_even_across_rollouts(rollouts):
    for number, (_, _, _, played) in enumerate(rollouts[:2]):
        ended = [row for _, finished, *_ in rollouts[2] for row in finished[number * T : (number + 1) * T] if row]
        assert float(played["episodes"]) == len(ended) > 2
        np.testing.assert_allclose(played["return"], np.mean([total for total, _ in ended]), rtol=1e-6)
        np.testing.assert_allclose(played["length"], np.mean([length for _, length in ended]), rtol=1e-6)


def test_what_comes_next_is_handed_over(rollouts):
    (memory, carry, rollout, _), two, hand = rollouts
    last_obs = [row[T][0] for row, *_ in hand]
    np.testing.assert_array_equal(rollout.last_obs, last_obs)
    np.testing.assert_array_equal(rollout.last_first, [row[T][6] for row, *_ in hand])
    np.testing.assert_array_equal(rollout.memory, 0)
    np.testing.assert_array_equal(two[2].memory, T)
    np.testing.assert_array_equal(two[0], 2 * T)
    np.testing.assert_array_equal(two[2].last_obs, [obs for *_, obs, _ in hand])
    np.testing.assert_array_equal(two[2].last_first, [first for *_, first in hand])


def test_the_agent_sees_what_is_recorded_as_obs_and_first(rollouts):
    for _, _, rollout, _ in rollouts[:2]:
        np.testing.assert_array_equal(rollout.batch.extras["obs"], rollout.batch.obs)
        np.testing.assert_array_equal(rollout.batch.extras["first"], rollout.batch.first)


def test_no_finished_episode_is_nan_and_not_zero():
    task = envs.make("probe/chain", length=LENGTH, max_steps=50)
    agent, carry = scripted(np.ones((4, 2), int)), start(jax.random.key(0), task, 2)
    _, carry, _, played = collect(jax.random.key(1), task, agent, (), jnp.zeros(2, jnp.int32), carry, 4)
    assert np.isnan(played["return"]) and np.isnan(played["length"]) and float(played["episodes"]) == 0
    np.testing.assert_array_equal(carry.lengths, 4)


def test_environments_start_apart_where_the_world_is_random():
    task = envs.make("probe/chain", length=16, random_start=True)
    opening = start(jax.random.key(0), task, 32).obs.argmax(-1)
    assert len(set(opening.tolist())) > 5


@pytest.mark.parametrize("name", ["probe/chain", "probe/action_box"])
def test_an_example_has_the_shapes_and_types_of_what_is_collected(name):
    task = envs.make(name)
    if isinstance(task.actions, Box):
        act = lambda key, state, memory, obs, first: ((), jnp.zeros((2, *task.actions.shape)), ())
    else:
        act = lambda key, state, memory, obs, first: ((), jnp.zeros(2, jnp.int32), ())
    carry = start(jax.random.key(0), task, 2)
    _, _, rollout, _ = collect(jax.random.key(1), task, Agent(None, act, None), (), (), carry, 3)
    kinds = lambda tree, lead: [(x.shape[lead:], x.dtype) for x in jax.tree.leaves(tree)]
    assert kinds(example_of(task, 2), 0) == kinds(rollout.batch, 1)


@pytest.mark.parametrize("num_envs", [1, 5, 40])
def test_only_what_ended_is_reset_and_to_the_world_its_own_step_would_give(num_envs):
    """Random starts, so that a wrong key shows; every environment ends at once, some do, none does."""
    task = envs.make("probe/chain", length=9, max_steps=50, random_start=True)
    state = start(jax.random.key(0), task, num_envs).state
    some = jnp.where(jnp.arange(num_envs) % 3 == 0, 8, 2)  # 8 is the last position, where an episode ends
    lazy = jax.jit(lambda key, action: step_all(key, task, state, action))
    own = jax.jit(
        lambda key, action: jax.vmap(lambda i, s, a: task.env.step(jax.random.fold_in(key, i), s, a, None))(
            jnp.arange(num_envs), state, action
        )
    )
    for action in (jnp.full(num_envs, 8), some, jnp.full(num_envs, 2)):
        for key in jax.random.split(jax.random.key(1), 3):
            jax.tree.map(np.testing.assert_array_equal, lazy(key, action), own(key, action))


def test_an_accelerator_resets_lazily_only_where_the_environment_asks_for_it(monkeypatch):
    task = envs.make("probe/chain", length=4)
    state, action = start(jax.random.key(0), task, 3).state, jnp.zeros(3, jnp.int32)
    loops = lambda: "while[" in str(jax.make_jaxpr(lambda key: step_all(key, task, state, action))(jax.random.key(0)))
    assert loops()
    monkeypatch.setattr(jaxrl.trainers.rollout.jax, "default_backend", lambda: "gpu")
    assert not loops()
    monkeypatch.setattr(task.env, "lazy_reset", True, raising=False)
    assert loops()
