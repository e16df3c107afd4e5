"""Episodic counts against a list of what the episode saw."""

import jax
import numpy as np
import pytest
from batches import example, fake_batch, world
from references import episodic, roll

from jaxrl.intrinsic.episodic_count import BLOCK, episodic_count
from jaxrl.intrinsic.hashing import bucket

T, N = 10, 3


def visits(past, x):
    return 1 + sum((y == x).all() for y in past)


@pytest.mark.parametrize("first_visit", [False, True])
def test_bonus_is_the_inverse_root_of_visits_in_this_episode(first_visit):
    observations = world(states=4)  # few states: revisits, of the opening one too
    batches = [fake_batch(jax.random.key(i), T, N, observations, opens=i == 0, longest=8) for i in range(3)]
    bonuses, states, _ = roll(episodic_count(first_visit=first_visit), batches, example(N))
    counted = episodic(batches, visits)
    assert max(c.max() for c in counted) >= 4 and any(batch.first[1:].any() for batch in batches)
    for n, bonus in zip(counted, bonuses, strict=True):
        np.testing.assert_allclose(bonus, n == 1 if first_visit else n**-0.5, rtol=1e-6)
    assert jax.tree.leaves(states) == []


def test_counts_go_on_from_rollout_to_rollout():
    observations = world(states=2)
    batches = [fake_batch(jax.random.key(i), 4, N, observations, opens=i == 0, longest=1000) for i in range(5)]
    assert not any(batch.terminated.any() | batch.truncated.any() for batch in batches)
    bonuses, _, _ = roll(episodic_count(), batches, example(N))
    for n, bonus in zip(episodic(batches, visits), bonuses, strict=True):
        np.testing.assert_allclose(bonus, n**-0.5, rtol=1e-6)
    assert bonuses[-1].max() < 0.5  # some 20 visits of 2 states


def step_by_step(tables, batch, name):
    """What the rule pays for one step after the other, int ``[T, N]``; `tables` are changed in place."""
    visits, stamp, episode, opening = tables
    paid = np.zeros(batch.first.shape, int)
    for (t, n), first in np.ndenumerate(np.asarray(batch.first)):
        if first:
            episode[n], opening[n] = episode[n] + 1, name(batch.obs[t, n])
        x = name(batch.next_obs[t, n])
        visits[n, x] = visits[n, x] + 1 if stamp[n, x] == episode[n] else 1
        stamp[n, x] = episode[n]
        paid[t, n] = visits[n, x] + (x == opening[n])
    return paid


@pytest.mark.parametrize("longest", [3, BLOCK, 10 * BLOCK])
def test_blocks_of_steps_leave_and_pay_what_single_steps_do_to_the_last_integer(longest):
    """Over 2.3 blocks, several times, with buckets so few that states share them and old episodes' entries are met."""
    steps, buckets = 2 * BLOCK + BLOCK // 3, 8
    observations = world(states=12)
    named = {row.tobytes(): int(bucket(row, buckets)) for row in observations}
    name = lambda obs: named[np.asarray(obs).tobytes()]
    reward = episodic_count(buckets=buckets)
    _, memory = reward.init(jax.random.key(0), example(N))
    tables = [np.array(leaf) for leaf in memory]
    label = jax.jit(reward.label)
    for i in range(3):
        batch = fake_batch(jax.random.key(i), steps, N, observations, opens=i == 0, longest=longest)
        batch = jax.tree.map(np.asarray, batch)
        memory, bonus, _ = label((), memory, batch)
        np.testing.assert_allclose(bonus, step_by_step(tables, batch, name) ** -0.5, rtol=1e-6)
        for found, expected in zip(memory, tables, strict=True):
            assert found.dtype == np.int32 and (found == expected).all()


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_the_first_visit_pays_more_than_any_later_one(magnitude):
    batch = fake_batch(jax.random.key(3), T, N, world(states=4, scale=magnitude), longest=8)
    (bonus,), _, _ = roll(episodic_count(), [batch], example(N))
    (n,) = episodic([batch], visits)
    assert (n > 1).any() and bonus[n == 1].min() == 1.0 and bonus[n > 1].max() < 0.75
