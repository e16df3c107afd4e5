"""The order of one iteration (collect, label, learn), warm-up, and the metrics, seen by spies that record it all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.counters import number
from jaxrl.intrinsic.base import stateless
from jaxrl.intrinsic.normalize import normalize_obs
from jaxrl.trainers.on_policy import on_policy, split_streams, summed_stream
from jaxrl.types import Agent, IntrinsicReward

N, T = 3, 4


def task():
    return envs.make("probe/chain", length=5, max_steps=3)


def watcher(script=None):
    """An agent that plays `script` [steps, N] by its clock (default: action 1), and remembers in its state what
    `update` was given last."""
    script = jnp.ones((1, N), jnp.int32) if script is None else jnp.asarray(script)

    def init(key, example):
        state = {
            "updates": jnp.int32(0),
            "rewards": jnp.zeros((T, N, 2)),
            "extrinsic": jnp.zeros((T, N)),
            "done": jnp.zeros((T, N), bool),
        }
        return state, jnp.zeros(N, jnp.int32)

    def act(key, state, memory, obs, first):
        return memory + 1, script[memory % len(script), jnp.arange(N)], ()

    def update(key, state, rollout, rewards):
        batch = rollout.batch
        done = batch.terminated | batch.truncated
        state = {"updates": state["updates"] + 1, "rewards": rewards, "extrinsic": batch.reward, "done": done}
        return state, {"agent/updates": state["updates"].astype(jnp.float32)}

    return Agent(init, act, update)


def spy():
    """Its bonus is how often it has learned; its memory how many steps it has labelled."""

    def init(key, example):
        return jnp.float32(0), jnp.zeros(example.reward.shape)

    def label(state, memory, batch):
        trace = {"state": state, "memory": memory}
        return memory + batch.reward.shape[0], jnp.full(batch.reward.shape, state), trace

    def update(key, state, memory, batch, trace):
        same = (trace["state"] == state) & (trace["memory"] == memory).all()
        return state + 1, {"spy/memory": memory.mean(), "spy/trace_is_of_this_batch": same.astype(jnp.float32)}

    return IntrinsicReward(init, label, update)


def stack(reward, bonus):
    return jnp.stack([reward, bonus], -1)


def iterate(trainer, iterations, key=0):
    """(states after each iteration, metrics [iterations])."""
    step = jax.jit(trainer.step)
    state, states, rows = jax.jit(trainer.init)(jax.random.key(key)), [], []
    for _ in range(iterations):
        state, row = step(state)
        states.append(state)
        rows.append(row)
    assert step._cache_size() == 1  # nothing changes its type or shape from one iteration to the next
    return states, {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def spied():
    return iterate(on_policy(task(), watcher(), spy(), stack, num_envs=N, num_steps=T), 3)


def test_a_rollout_is_labelled_before_the_bonus_learns_from_it(spied):
    _, rows = spied
    np.testing.assert_array_equal(rows["bonus_mean"], [0, 1, 2])
    np.testing.assert_array_equal(rows["bonus_max"], [0, 1, 2])


def test_the_agent_learns_from_the_labels_and_the_extrinsic_reward(spied):
    states, rows = spied
    np.testing.assert_array_equal(rows["agent/updates"], [1, 2, 3])
    for iteration, state in enumerate(states):
        np.testing.assert_array_equal(state.agent["rewards"][..., 1], iteration)
        np.testing.assert_array_equal(state.agent["rewards"][..., 0], state.agent["extrinsic"])


def test_the_bonus_learns_with_its_memory_from_before_the_batch(spied):
    states, rows = spied
    np.testing.assert_array_equal(rows["spy/memory"], [0, T, 2 * T])
    np.testing.assert_array_equal(rows["spy/trace_is_of_this_batch"], 1)
    np.testing.assert_array_equal(states[-1].reward_memory, 3 * T)
    np.testing.assert_array_equal(states[-1].agent_memory, 3 * T)


def test_metrics_are_scalars_and_keys_never_repeat(spied):
    states, rows = spied
    assert {name: row.shape for name, row in rows.items()} == dict.fromkeys(rows, (3,))
    assert len({tuple(np.asarray(jax.random.key_data(state.key))) for state in states}) == 3


def test_random_parts_of_an_iteration_draw_from_keys_of_their_own():
    """Agent, bonus and environments each report the key that they were given."""

    def agent_update(key, state, rollout, rewards):
        return jax.random.bits(key), {"agent/bits": jax.random.bits(key)}

    def bonus_update(key, state, memory, batch, trace):
        return jax.random.bits(key), {"spy/bits": jax.random.bits(key)}

    agent = watcher()._replace(
        update=agent_update, init=lambda key, example: (jax.random.bits(key), jnp.zeros(N, jnp.int32))
    )
    label = lambda state, memory, batch: ((), batch.reward, ())
    bonus = IntrinsicReward(lambda key, example: (jax.random.bits(key), ()), label, bonus_update)
    trainer = on_policy(task(), agent, bonus, stack, num_envs=N, num_steps=T)
    state = trainer.init(jax.random.key(0))
    states, rows = iterate(trainer, 3)
    bits = [int(state.agent), int(state.reward), *rows["agent/bits"].tolist(), *rows["spy/bits"].tolist()]
    assert len(set(bits)) == len(bits)


WALK = [[1, 1, 1], [2, 1, 1], [1, 1, 1], [3, 1, 1], [1, 1, 1], [1, 1, 1], [1, 4, 1], [1, 1, 1]]


def test_coverage_is_the_share_of_named_states_that_were_acted_in():
    """Four states can be acted in. Iteration 1 acts in 0, 1, 2 (three steps, cut, then 0); iteration 2 in 3, 1, 0."""
    trainer = on_policy(task(), watcher(WALK), spy(), stack, num_envs=N, num_steps=T)
    states, rows = iterate(trainer, 2)
    np.testing.assert_allclose(rows["coverage"], [3 / 4, 4 / 4])
    np.testing.assert_array_equal(states[0].visits.counts > 0, [True, True, True, False])


def test_the_bonus_of_exact_counts_correlates_perfectly_with_them():
    """A bonus 1 / sqrt(n + 1) of the state arrived at, n as it is after iteration 1, judged in iterations 1 and 2."""
    script = np.random.default_rng(0).integers(0, 5, (2 * T, N))
    run = lambda bonus: iterate(on_policy(task(), watcher(script), bonus, stack, num_envs=N, num_steps=T), 2)
    states, rows = run(spy())
    assert np.isnan(rows["bonus_count_correlation"]).all()  # a spy's bonus is constant
    ideal = 1.0 / jnp.sqrt(jnp.append(states[0].visits.counts, 0) + 1.0)  # of the end, which nobody acts in, as well
    _, rows = run(stateless(lambda batch: ideal[batch.next_obs.argmax(-1)]))
    assert np.isnan(rows["bonus_count_correlation"][0])  # nothing was counted yet: the truth is constant
    np.testing.assert_allclose(rows["bonus_count_correlation"][1], 1.0, rtol=1e-5)


def test_a_task_that_names_no_states_has_no_coverage():
    trainer = on_policy(
        envs.make("probe/constant"), watcher(np.zeros((1, N), int)), spy(), stack, num_envs=N, num_steps=T
    )
    assert not {"coverage", "first_visit", "bonus_count_correlation"} & set(iterate(trainer, 1)[1])


def test_normalized_rewards_are_divided_by_the_deviation_of_their_running_return():
    discount = 0.9
    script = np.random.default_rng(0).integers(0, 5, (4 * T, N))
    trainer = on_policy(task(), watcher(script), spy(), stack, num_envs=N, num_steps=T, reward_discount=discount)
    states, _ = iterate(trainer, 4)
    running, seen, paid = np.zeros(N), [], 0
    for state in states:
        rewards, done = np.asarray(state.agent["extrinsic"], np.float64), np.asarray(state.agent["done"])
        for t in range(T):
            running = discount * running + rewards[t]
            seen.extend(running)
            running = np.where(done[t], 0.0, running)
        expected = rewards / np.sqrt(np.var(seen) + 1e-8)
        np.testing.assert_allclose(state.agent["rewards"][..., 0], expected, rtol=1e-4)
        paid += rewards.any() and done.any()
    assert paid >= 2


def test_returns_are_reported_before_normalization():
    trainer = lambda discount: on_policy(
        task(), watcher([[4, 1, 1]]), spy(), stack, num_envs=N, num_steps=T, reward_discount=discount
    )
    raw, scaled = iterate(trainer(None), 1)[1], iterate(trainer(0.9), 1)[1]
    # four one-step episodes that pay 1, and one cut after three steps in each of the other two environments
    np.testing.assert_allclose([raw["return"][0], scaled["return"][0]], 4 / 6, rtol=1e-6)


def nan_from(iteration, where):
    """A bonus that breaks at an iteration: in its labels, its metrics or its state."""

    def init(key, example):
        return (jnp.int32(1), jnp.float32(0)), ()

    def label(state, memory, batch):
        bad = (state[0] >= iteration) & (where == "label")
        return (), jnp.where(bad, jnp.nan, jnp.zeros(batch.reward.shape).at[0, 0].set(1.0)), ()

    def update(key, state, memory, batch, trace):
        bad = state[0] >= iteration
        broken = lambda part: jnp.where(bad & (where == part), jnp.float32(jnp.inf), 0.0)
        return (state[0] + 1, broken("state")), {"spy/metric": broken("metric")}

    return IntrinsicReward(init, label, update)


@pytest.mark.parametrize("where", ["label", "metric", "state"])
def test_finite_falls_to_zero_in_the_iteration_that_breaks(where):
    _, rows = iterate(on_policy(task(), watcher(), nan_from(3, where), stack, num_envs=N, num_steps=T), 4)
    np.testing.assert_array_equal(rows["finite"], [1, 1, 0, 0])


def test_finite_does_not_mind_that_no_episode_finished():
    trainer = on_policy(envs.make("probe/chain", max_steps=50), watcher(), spy(), stack, num_envs=N, num_steps=T)
    _, rows = iterate(trainer, 2)
    assert np.isnan(rows["return"]).all()
    np.testing.assert_array_equal(rows["finite"], 1)


def test_a_warm_up_keeps_the_moments_of_the_random_rollouts_and_nothing_else():
    make = lambda warmup: on_policy(
        task(), watcher(), normalize_obs(spy()), stack, num_envs=N, num_steps=T, warmup=warmup
    )
    key = jax.random.key(0)
    cold, warm = make(0).init(key), make(5).init(key)
    assert number(cold.reward.moments.rows) == 0
    assert number(warm.reward.moments.rows) == 5 * N * T
    # random actions of the chain end anywhere, so each of the five positions was arrived at
    mean = np.asarray(warm.reward.moments.mean)
    assert (mean > 0).all() and np.isclose(mean.sum(), 1, atol=1e-5)
    same = jax.tree.map(lambda a, b: np.array_equal(data(a), data(b)), cold, warm)
    assert same.reward.inner and not same.reward.moments.mean
    assert all(jax.tree.leaves(same._replace(reward=())))


def test_a_bonus_without_moments_is_not_warmed_up_at_no_cost():
    program = lambda warmup: str(
        jax.make_jaxpr(on_policy(task(), watcher(), spy(), stack, num_envs=N, num_steps=T, warmup=warmup).init)(
            jax.random.key(0)
        )
    )
    assert "scan" not in program(5)
    assert program(5).count("\n") == program(0).count("\n")


def data(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def test_split_streams_weigh_the_bonus_and_keep_the_two_apart():
    streams, combine = split_streams(0.3, 0.99, 0.9, False)
    np.testing.assert_allclose(streams.coef, [1, 0.3])
    np.testing.assert_allclose(streams.discount, [0.99, 0.9])
    np.testing.assert_array_equal(streams.episodic, [True, False])
    np.testing.assert_array_equal(split_streams(0.3, 0.99, 0.9, True)[0].episodic, [True, True])
    rewards = combine(jnp.full((T, N), 2.0), jnp.full((T, N), 5.0))
    np.testing.assert_array_equal(rewards[..., 0], 2)
    np.testing.assert_array_equal(rewards[..., 1], 5)


def test_a_summed_stream_adds_the_weighed_bonus():
    streams, combine = summed_stream(0.5, 0.99)
    np.testing.assert_allclose([streams.coef, streams.discount], [[1], [0.99]])
    np.testing.assert_array_equal(streams.episodic, [True])
    rewards = combine(jnp.full((T, N), 2.0), jnp.full((T, N), 5.0))
    assert rewards.shape == (T, N, 1)
    np.testing.assert_allclose(rewards, 4.5)


def test_a_stateless_bonus_reads_the_batch():
    trainer = on_policy(
        task(), watcher(WALK), stateless(lambda batch: batch.next_obs.argmax(-1) * 1.0), stack, num_envs=N, num_steps=T
    )
    assert iterate(trainer, 1)[1]["bonus_max"][0] == 3
