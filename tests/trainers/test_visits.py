"""Exact counts, first visits and correlations, against plain loops."""

import jax.numpy as jnp
import numpy as np

from jaxrl.trainers.visits import NEVER, correlation_with_counts, exploration, no_visits, visit

T, N, STATES = 6, 3, 9


def two_batches():
    rng = np.random.default_rng(0)
    return [rng.integers(0, limit, (T, N)) for limit in (4, STATES - 1)]  # the last state is never visited


def test_counts_and_first_steps_are_those_of_a_loop():
    counts, first, step, visits = np.zeros(STATES, int), {}, 0, no_visits(STATES)
    for states in two_batches():
        visits = visit(visits, jnp.asarray(states, jnp.int32))
        for state in states.reshape(-1):  # time first, then environments
            counts[state] += 1
            first.setdefault(state, step)
            step += 1
        np.testing.assert_array_equal(visits.counts, counts)
        np.testing.assert_array_equal(visits.first, [first.get(state, NEVER) for state in range(STATES)])
        found = exploration(visits)
        assert np.isclose(found["coverage"], len(first) / STATES)
        assert np.isclose(found["first_visit"], np.mean([first.get(state, step) for state in range(STATES)]))


def test_correlation_is_pearsons_with_the_counts_before_the_batch():
    before, arrived = two_batches()
    visits = visit(no_visits(STATES), jnp.asarray(before, jnp.int32))
    rng = np.random.default_rng(1)
    bonus, valid = rng.random((T, N)).astype(np.float32), rng.random((T, N)) < 0.7
    truth = 1 / np.sqrt(np.bincount(before.reshape(-1), minlength=STATES)[arrived] + 1)
    expected = np.corrcoef(bonus[valid], truth[valid])[0, 1]
    found = correlation_with_counts(jnp.asarray(bonus), visits, jnp.asarray(arrived), jnp.asarray(valid))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    perfect = correlation_with_counts(jnp.asarray(truth, jnp.float32), visits, jnp.asarray(arrived), jnp.asarray(valid))
    np.testing.assert_allclose(perfect, 1.0, rtol=1e-5)


def test_correlation_of_a_constant_is_nan():
    visits = visit(no_visits(STATES), jnp.asarray(two_batches()[0], jnp.int32))
    arrived, valid = jnp.asarray(two_batches()[1]), jnp.ones((T, N), bool)
    assert np.isnan(correlation_with_counts(jnp.full((T, N), 0.3), visits, arrived, valid))
    assert np.isnan(correlation_with_counts(jnp.ones((T, N)), visits, arrived, jnp.zeros((T, N), bool)))
