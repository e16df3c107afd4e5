"""Lifelong counts against a dictionary, and what is easily counted wrongly."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import example, fake_batch, world
from references import roll

from jaxrl.intrinsic.count import count

T, N = 8, 3


def keys_of(batch, with_action):
    """What is counted, [T][N]."""
    obs, there, action = map(np.asarray, (batch.obs, batch.next_obs, batch.action))
    return [
        [(obs[t, n].tobytes(), int(action[t, n])) if with_action else there[t, n].tobytes() for n in range(N)]
        for t in range(T)
    ]


@pytest.mark.parametrize("with_action", [False, True])
def test_bonus_is_the_inverse_root_of_visits_committed_before_plus_this_one(with_action):
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(3)]
    bonuses, _, metrics = roll(count(with_action=with_action), batches, example(N))
    visits = Counter()  # one table for all environments
    for batch, bonus, measured in zip(batches, bonuses, metrics, strict=True):
        keys = keys_of(batch, with_action)
        expected = [[(visits[key] + 1) ** -0.5 for key in row] for row in keys]
        np.testing.assert_allclose(bonus, expected, rtol=1e-6)
        visits.update(key for row in keys for key in row)
        assert measured["count/states"] == len(visits)
    assert bonuses[0].min() == 1.0 and max(visits.values()) > 5


def only(batch, observation):
    return batch._replace(next_obs=jnp.broadcast_to(observation, batch.next_obs.shape))


def test_repeats_within_a_batch_earn_the_same_and_environments_share_one_table():
    batch, state = fake_batch(jax.random.key(0), T, N), world()[0]
    (first, second), _, _ = roll(count(), [only(batch, state)] * 2, example(N))
    assert (first == 1.0).all()
    np.testing.assert_allclose(second, (T * N + 1) ** -0.5, rtol=1e-6)


def test_reset_observations_are_not_counted():
    # The opening state is met at every reset and never arrived at: it stays new.
    batch, opening, arrived = fake_batch(jax.random.key(0), T, N), world()[0], world()[1]
    batch = batch._replace(obs=jnp.where(batch.first[..., None], opening, batch.obs))
    bonuses, _, _ = roll(count(), [only(batch, arrived), only(batch, opening)], example(N))
    assert (bonuses[1] == 1.0).all()


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_a_novel_state_is_paid_more_than_a_seen_one(magnitude):
    observations = world(scale=magnitude)
    batch = fake_batch(jax.random.key(0), T, N, observations[:-1])
    test = only(batch, observations[-1])
    test = test._replace(next_obs=test.next_obs.at[:, 0].set(batch.next_obs[:, 0]))
    bonuses, _, _ = roll(count(), [batch, test], example(N))
    assert (bonuses[1][:, 1:] == 1.0).all() and (bonuses[1][:, 0] < 0.8).all()
