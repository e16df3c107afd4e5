"""Normalisers against NumPy loops over time; what a warm-up may leave behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import example, fake_batch, world
from references import roll

from jaxrl.counters import number
from jaxrl.intrinsic.base import stateless
from jaxrl.intrinsic.combine import product
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.normalize import is_warmable, keep_warmed, normalize_obs, normalize_return, standardize
from jaxrl.intrinsic.rnd import rnd

T, N = 8, 3


def of_reward(batch):
    """A bonus whose values the test chooses."""
    return batch.reward


def two_rollouts(observations=None):
    return [fake_batch(jax.random.key(i), T, N, observations, opens=i == 0) for i in range(2)]


def discounted_sums(bonuses, discount):
    """F of each rollout, [T, N]: forward in time in each environment, on and on."""
    running, out = np.zeros(N), []
    for bonus in bonuses:
        sums = []
        for row in bonus:
            running = discount * running + row
            sums.append(running)
        out.append(np.array(sums))
    return out


def test_return_scale_is_the_deviation_of_a_sum_over_time_that_never_resets():
    batches = two_rollouts()
    assert all(batch.terminated.any() and batch.truncated.any() for batch in batches)
    raw = [np.asarray(batch.reward, np.float64) for batch in batches]
    bonuses, _, metrics = roll(normalize_return(stateless(of_reward), 0.9), batches, example(N))
    sums = discounted_sums(raw, 0.9)
    for i in range(2):
        deviation = np.concatenate(sums[: i + 1]).std()
        assert abs(deviation - deviation**2) > 0.1  # a variance would show
        np.testing.assert_allclose(bonuses[i], raw[i] / deviation, rtol=1e-4)
        np.testing.assert_allclose(metrics[i]["bonus_return_std"], deviation, rtol=1e-4)


def test_return_scale_runs_over_time_not_over_environments():
    # Environment n always earns n: over time its sum settles, over environments it would mix 0, 1 and 2.
    (batch, _) = two_rollouts()
    batch = batch._replace(reward=jnp.broadcast_to(jnp.arange(3.0), (T, N)))
    _, _, (metrics,) = roll(normalize_return(stateless(of_reward), 0.5), [batch], example(N))
    settled = np.arange(3) * (1 - 0.5 ** np.arange(1, T + 1)[:, None]) / 0.5
    np.testing.assert_allclose(metrics["bonus_return_std"], settled.std(), rtol=1e-5)


@pytest.mark.parametrize("center", [False, True])
def test_standardize_uses_the_moments_of_every_bonus_so_far_this_batch_included(center):
    batches = two_rollouts()
    batches[1] = batches[1]._replace(reward=5.0 + 3.0 * batches[1].reward)
    raw = [np.asarray(batch.reward, np.float64) for batch in batches]
    bonuses, _, metrics = roll(standardize(stateless(of_reward), center=center), batches, example(N))
    for i in range(2):
        seen = np.concatenate(raw[: i + 1])
        np.testing.assert_allclose(bonuses[i], (raw[i] - center * seen.mean()) / seen.std(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(metrics[i]["bonus_std"], seen.std(), rtol=1e-4)


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_observations_are_whitened_by_the_moments_of_earlier_batches(magnitude):
    """Moments of next_obs alone, per coordinate, and of nothing in the batch that is being paid."""
    observations = magnitude * (2.0 + world())
    batches = [*two_rollouts(observations), fake_batch(jax.random.key(2), T, N, observations)]
    first = normalize_obs(stateless(lambda batch: batch.next_obs[..., 1] - 10 * batch.obs[..., 2]), 1.5)
    bonuses, _, _ = roll(first, batches, example(N))
    for i, (batch, bonus) in enumerate(zip(batches, bonuses, strict=True)):
        seen = np.concatenate([np.asarray(b.next_obs, np.float64).reshape(-1, 6) for b in batches[:i]] or [[[]]])
        mean, std = (seen.mean(0), seen.std(0)) if i else (np.zeros(6), np.ones(6))
        white = [np.clip((np.asarray(x, np.float64) - mean) / std, -1.5, 1.5) for x in (batch.next_obs, batch.obs)]
        np.testing.assert_allclose(bonus, white[0][..., 1] - 10 * white[1][..., 2], rtol=2e-3, atol=1e-3)
        assert i == 0 or 0.05 < (np.abs(white[0]) == 1.5).mean() < 0.5  # some are clipped, most are not


def test_a_constant_coordinate_stays_finite():
    observations = world().copy()
    observations[:, 3] = 7.0
    whitened = normalize_obs(stateless(lambda batch: batch.next_obs.sum(-1)), 5.0)
    bonuses, _, _ = roll(whitened, two_rollouts(observations), example(N))
    assert np.isfinite(bonuses).all() and np.abs(bonuses[1]).max() < 30


def test_a_warm_up_keeps_the_observation_moments_and_nothing_else():
    reward = product(count(buckets=64), rnd(dim=4, hidden=(8,), minibatches=2))
    _, states, _ = roll(reward, two_rollouts(), example(N))
    initial, warmed = states[0], states[-1]
    kept = jax.jit(keep_warmed)(initial, warmed)  # as in the compiled trainer
    observed = warmed[1].inner.moments  # product, return scale, whitening
    assert number(observed.rows) == 2 * T * N and observed.mean.shape == (6,)
    expected = (initial[0], initial[1]._replace(inner=initial[1].inner._replace(moments=observed)))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), kept, expected)
    assert jax.tree.structure(kept) == jax.tree.structure(initial) and all(jax.tree.leaves(same))
    learned = jax.tree.map(lambda a, b: bool((a == b).all()), initial, warmed)
    assert not (learned[0] or all(learned[1].moments.rows) or all(jax.tree.leaves(learned[1].inner.inner.predictor)))


def test_what_can_be_warmed():
    def state(reward):
        return jax.eval_shape(reward.init, jax.random.key(0), example(N))[0]

    assert is_warmable(state(rnd())) and is_warmable(state(product(count(), rnd())))
    assert not any(is_warmable(state(r)) for r in (rnd(whiten=False), count(), standardize(count())))
