"""Every counter from where it used to turn negative or stand still: prepared, advanced by a batch, against integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch

from jaxrl import counters
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.deir import nearest as history
from jaxrl.intrinsic.episodic_count import EpisodicCountMemory, visits
from jaxrl.intrinsic.nearest import nearest_of_episode
from jaxrl.intrinsic.ngu import ngu
from jaxrl.intrinsic.simhash import simhash
from jaxrl.moments import Moments, empty_moments, merge, variance
from jaxrl.trainers.visits import correlation_with_counts, exploration, no_visits, visit

T, N = 4, 3
INT, UINT = 2**31 - 1, 2**32 - 1
STARTS = [2**24, 2**24 + 1, 2**31 - 5, 2**32 - 5, 2**40 + 3, 2**52]


def counted(n):
    return counters.Count(jnp.uint32(n >> 32), jnp.uint32(n & UINT))


def exact(count):
    return (int(count.high) << 32) + int(count.low)


@pytest.mark.parametrize("start", [0, *STARTS])
@pytest.mark.parametrize("more", [1, 1000, UINT])
def test_a_count_is_exact(start, more):
    after = jax.jit(counters.plus)(counted(start), jnp.uint32(more))
    assert exact(after) == start + more
    np.testing.assert_allclose(counters.number(after), float(start + more), rtol=1.2e-7)
    assert exact(counters.plus(counters.none(), more)) == more


def test_a_tally_stops_at_the_largest_number_and_never_falls():
    counts = jnp.array([0, 2**24, INT, UINT - 2, UINT], jnp.uint32)
    found = counters.tallied(counts, jnp.array([[0, 1, 2, 3, 4], [3, 3, 3, 4, 1]]))
    assert found.tolist() == [1, 2**24 + 2, INT + 1, UINT, UINT]


@pytest.mark.parametrize("start", [2**24, 2**31, 2**40])
def test_moments_move_by_the_share_of_the_batch(start):
    """1,000 rows, which at 2^24 * 2^10 rows and beyond are no whole number of float32's steps."""
    rows = np.full(1000, 1e6, np.float32)
    rows[::2] = -4e5
    before = Moments(counted(start), jnp.float32(0.0), jnp.float32(1.0))
    after = jax.jit(merge)(before, rows)
    share = 1000 / (start + 1000)
    assert exact(after.rows) == start + 1000
    np.testing.assert_allclose(after.mean, share * 3e5, rtol=1e-6)
    spread = (1 - share) + share * (rows.var(dtype=float) + 9e10 * (1 - share))
    np.testing.assert_allclose(variance(after), spread, rtol=1e-6)


def test_moments_of_many_small_batches_do_not_decay_or_grow():
    """From 2^40 rows on, a thousand batches like those before leave the mean and the variance where they were."""
    rows = jnp.array([-1.0, 1.0] * 500) + 3.0
    start = Moments(counted(2**40), jnp.float32(3.0), jnp.float32(1.0))
    after, _ = jax.lax.scan(lambda moments, _: (merge(moments, rows), None), start, length=1000)
    assert exact(after.rows) == 2**40 + 10**6
    np.testing.assert_allclose([after.mean, variance(after)], [3.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: count(buckets=2**10), lambda: simhash(buckets=2**10)])
def test_counts_of_hashed_states_pay_by_all_visits(make):
    """At 2^24 a float32 stood still; 1 / sqrt(n + 1) goes on falling to n = 2^32."""
    reward, batch = make(), fake_batch(jax.random.key(0), T, N)
    state, memory = reward.init(jax.random.key(1), example(N))
    for start in (2**24, INT - 3, UINT - 3):
        at = lambda table, start=start: jnp.full_like(table, start)
        full = state._replace(visits=at(state.visits)) if hasattr(state, "visits") else at(state)
        _, bonus, trace = reward.label(full, memory, batch)
        np.testing.assert_allclose(bonus, (start + 1) ** -0.5, rtol=1e-6)
        after, _ = reward.update(jax.random.key(2), full, memory, batch, trace)
        table = np.asarray(getattr(after, "visits", after), np.int64)
        expected = np.bincount(np.asarray(trace).reshape(-1), minlength=2**10) + start
        np.testing.assert_array_equal(table, np.minimum(expected, UINT))


def test_an_episode_may_visit_a_state_more_often_than_an_int32_counts():
    table = jnp.full(4, INT - 10, jnp.int32)
    memory = EpisodicCountMemory(table, jnp.full(4, 5, jnp.int32), jnp.int32(5), jnp.int32(1))
    first, x = jnp.zeros(64, bool), jnp.full(64, 1)
    for _ in range(3):
        memory, n = jax.jit(visits)(memory, first, x, x)
        assert (np.asarray(n) > INT - 200).all()
    assert (np.asarray(memory.visits) > INT - 200).all()


def test_episodes_are_told_apart_when_their_number_turns_negative():
    empty = jnp.zeros(4, jnp.int32)
    memory = EpisodicCountMemory(empty, empty, jnp.int32(INT - 1), jnp.int32(0))
    first = jnp.array([True, False, True, False, True, False])
    x0, x = jnp.zeros(6, jnp.int32), jnp.array([1, 1, 1, 2, 1, 1])
    memory, n = jax.jit(visits)(memory, first, x0, x)
    assert n.tolist() == [1, 2, 1, 1, 1, 2] and int(memory.episode) == INT - 1 + 3 - 2**32


@pytest.mark.parametrize("rule", [nearest_of_episode(2, 5), history(2, 5, False)], ids=["nearest", "history"])
def test_the_ring_of_an_episode_goes_round_for_ever(rule):
    """After 13 rounds its size has been cut back many times: what it answers is what the last five rows say."""
    rng, memory = np.random.default_rng(0), rule.init(jnp.full(2, 1e3))
    xs = rng.normal(size=(67, 2)).astype(np.float32)
    step = jax.jit(rule.step)
    for i, x in enumerate(xs):
        memory, found = step(memory, x)
        assert int(memory.size) < 10
        past = ((xs[max(i - 4, 0) : i] - x) ** 2).sum(-1)
        nearest = np.sort(np.append(past, ((x - 1e3) ** 2).sum()))
        if np.ndim(found):
            np.testing.assert_allclose(found[: len(nearest)], nearest[:2][: len(found)], rtol=1e-4)
        else:
            np.testing.assert_allclose(found, np.sqrt(nearest[0]), rtol=1e-4)


@pytest.mark.parametrize("start", [2**24, 2**31, 2**40])
def test_the_mean_distance_of_ngu_moves_by_the_share_of_what_came(start):
    """`modulate=False` leaves the kernel alone; the running mean starts at 0, so that it is what came, over all."""
    reward = ngu(actions=ACTIONS, features="raw", modulate=False, k=2, remembered=8, family=1)
    state, memory = reward.init(jax.random.key(0), example(N))
    batch = fake_batch(jax.random.key(1), T, N)
    _, _, (few, mean, _) = reward.label(state, memory, batch)
    _, _, (seen, moved, _) = reward.label(state._replace(seen=counted(start)), memory, batch)
    came = exact(few)
    assert exact(seen) == start + came
    np.testing.assert_allclose(moved, float(mean) * (came / (start + came)), rtol=1e-5)


@pytest.mark.parametrize("start", STARTS)
def test_coverage_and_first_visits_go_on(start):
    before = no_visits(4)._replace(counts=jnp.array([UINT, UINT, 0, 0], jnp.uint32), steps=counted(start),
                                   first=jnp.array([0.0, 8.0, np.inf, np.inf]))  # fmt: skip
    after = jax.jit(visit)(before, jnp.array([[0, 1, 2], [2, 1, 0]]))
    assert after.counts.tolist() == [UINT, UINT, 2, 0] and exact(after.steps) == start + 6
    found = exploration(after)
    assert found["coverage"] == 0.75
    np.testing.assert_allclose(found["first_visit"], (0 + 8 + (start + 2) + (start + 6)) / 4, rtol=3e-7)
    paid = 1.0 / np.sqrt(np.array([[UINT, 1]], float) + 1)
    valid = jnp.ones((1, 2), bool)
    found = correlation_with_counts(jnp.asarray(paid, jnp.float32), after, jnp.array([[0, 3]]), valid)
    np.testing.assert_allclose(found, 1.0, rtol=1e-6)


def test_moments_of_nothing_are_those_of_their_first_batch():
    after = merge(empty_moments(), jnp.array([1e-6, 3e-6]))
    np.testing.assert_allclose([after.mean, variance(after)], [2e-6, 1e-12], rtol=1e-5)
