"""The elliptical bonus against direct inversion, its laws on one-hot features, and what its embedding learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch
from references import elliptical as reference
from references import episodic as episodes_of
from references import layer_norm, mlp, roll

from jaxrl.errors import UserError
from jaxrl.intrinsic.base import episodic
from jaxrl.intrinsic.e3b import diagonal, e3b, elliptical, projected
from jaxrl.intrinsic.features import identity

T, N = 8, 3
SMALL = {"dim": 8, "hidden": (16,), "minibatches": 2, "actions": ACTIONS}


def two_rollouts():
    return [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(2)]


def test_bonus_is_the_squared_norm_under_the_inverse_covariance_of_the_episode():
    batches = two_rollouts()
    assert all(batch.terminated.any() and batch.truncated.any() and batch.first[1:].any() for batch in batches)
    bonuses, _, _ = roll(episodic(identity(), elliptical(0.1)), batches, example(N))
    for bonus, expected in zip(bonuses, episodes_of(batches, lambda past, x: reference(past, x, 0.1)), strict=True):
        np.testing.assert_allclose(bonus, expected, rtol=1e-3)


def test_features_are_the_layer_normalised_embedding():
    batches = two_rollouts()
    bonuses, states, _ = roll(e3b(0.5, normalize=False, **SMALL), batches, example(N), learn=False)
    embedding = states[0].params["embedding"]
    embed = lambda obs: layer_norm(mlp(embedding, obs))
    for bonus, expected in zip(
        bonuses, episodes_of(batches, lambda past, x: reference(past, x, 0.5, embed)), strict=True
    ):
        np.testing.assert_allclose(bonus, expected, rtol=1e-3)


def test_normalize_divides_by_the_running_deviation_and_does_not_centre():
    batches = two_rollouts()
    raw, _, _ = roll(e3b(normalize=False, **SMALL), batches, example(N), learn=False)
    normalized, _, metrics = roll(e3b(lr=0.0, **SMALL), batches, example(N))
    for i, bonus in enumerate(normalized):
        std = np.concatenate(raw[: i + 1]).std()
        np.testing.assert_allclose(bonus, raw[i] / std, rtol=1e-3)
        np.testing.assert_allclose(metrics[i]["bonus_std"], std, rtol=1e-3)


@pytest.mark.parametrize("ridge", [0.01, 0.1, 1.0])
def test_one_hot_law(ridge):
    """A one-hot feature met n times in the episode earns 1 / (ridge + n), whatever else was met."""
    rule, hot = elliptical(ridge), jnp.eye(4)
    memory = rule.init(hot[3])
    for n in range(10):
        memory, bonus = rule.step(memory, hot[1])
        np.testing.assert_allclose(bonus, 1 / (ridge + n), rtol=1e-4)
        memory, other = rule.step(memory, hot[2])
        np.testing.assert_allclose(other, 1 / (ridge + n), rtol=1e-4)
    np.testing.assert_allclose(rule.step(memory, hot[3])[1], 1 / (ridge + 1), rtol=1e-4)  # the opening one counts
    memory = rule.reset(memory, hot[0])
    np.testing.assert_allclose([rule.step(memory, x)[1] for x in hot], [1 / (ridge + 1), *[1 / ridge] * 3], rtol=1e-5)


def test_the_root_stays_that_of_the_inverse_for_500_steps():
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(501, 16)).astype(np.float32)
    rule = elliptical(0.1)
    memory, _ = jax.jit(lambda xs: jax.lax.scan(rule.step, rule.init(xs[0]), xs[1:]))(xs)
    exact = np.linalg.inv(0.1 * np.eye(16) + xs.T.astype(np.float64) @ xs)
    assert np.abs(memory.root @ memory.root.T - exact).max() < 1e-4 * np.abs(exact).max()
    np.testing.assert_allclose(diagonal(memory), np.diag(exact), rtol=1e-4)


def long_episode(kind, dim, steps=10_001):
    """Features ``[steps, dim]`` float32 on which errors of the inverse can pile up."""
    rng = np.random.default_rng(0)
    if kind == "few states":  # again and again, with the direction that layer normalisation leaves out
        return layer_norm(rng.normal(size=(20, dim)))[rng.integers(20, size=steps)].astype(np.float32)
    if kind == "few directions":
        return layer_norm(rng.normal(size=(steps, 4)) @ rng.normal(size=(4, dim))).astype(np.float32)
    return (100.0 * rng.normal(size=(steps, dim))).astype(np.float32)  # a ridge that is next to nothing


@pytest.mark.parametrize("kind", ["few states", "few directions", "large"])
def test_float32_does_not_drift_in_an_episode_of_10_000_steps(kind):
    xs = long_episode(kind, 32)
    rule = elliptical(0.1)
    _, bonus = jax.jit(lambda xs: jax.lax.scan(rule.step, rule.init(xs[0]), xs[1:]))(xs)

    def inverse_update(inverse, x):  # as released, in the dtype of `inverse`
        u = inverse @ x
        return inverse - np.outer(u, u) / (1 + x @ u), x @ u

    exact, released, covariance = [], [], 0.1 * np.eye(32)
    drifting = (np.eye(32) / 0.1).astype(np.float32)
    for i, x in enumerate(xs):
        if i % 100 == 0:  # float64 is started anew from the covariance, so that it cannot drift
            inverse = np.linalg.inv(covariance)
        inverse, paid = inverse_update(inverse, x.astype(np.float64))
        drifting, paid_32 = inverse_update(drifting, x)
        covariance += np.outer(x, x.astype(np.float64))
        exact.append(paid)
        released.append(paid_32)
    error = lambda found: np.abs(np.asarray(found) / exact[1:] - 1).max()
    assert np.min(bonus) > 0 and error(bonus) < 0.05
    assert error(released[1:]) > 10 * error(bonus)  # why it is not done that way


def test_the_embedding_learns_and_the_bonus_follows():
    batches = [fake_batch(jax.random.key(0), T, N)] * 2
    (before, after), states, metrics = roll(e3b(lr=1e-2, normalize=False, **SMALL), batches, example(N))
    kernels = [state.params["embedding"]["params"]["Dense_0"]["kernel"] for state in (states[0], states[2])]
    assert np.abs(kernels[1] - kernels[0]).max() > 1e-3
    assert np.abs(before - after).max() > 1e-3
    assert metrics[1]["inverse_dynamics/loss"] < metrics[0]["inverse_dynamics/loss"]


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_a_feature_new_to_the_episode_pays_more_than_a_seen_one(magnitude):
    # The ridge is in units of squared features, so it scales with them; then the bonuses do not.
    rng = np.random.default_rng(1)
    directions = magnitude * np.linalg.qr(rng.normal(size=(6, 6)))[0]
    seen = directions[rng.integers(3, size=40)] + 0.01 * magnitude * rng.normal(size=(40, 6))
    rule = elliptical(0.1 * magnitude**2)
    memory, paid = jax.jit(lambda xs: jax.lax.scan(rule.step, rule.init(xs[0]), xs[1:]))(seen.astype(np.float32))
    familiar = [float(rule.step(memory, jnp.float32(x))[1]) for x in directions[:3]]
    novel = [float(rule.step(memory, jnp.float32(x))[1]) for x in directions[3:]]
    assert min(novel) > 5 * max(familiar) > 0
    assert paid[-10:].max() < 0.5 * paid.max()


def test_a_fixed_projection_takes_the_place_of_what_is_learned():
    batches = two_rollouts()
    reward = e3b(0.5, features="projection", normalize=False, dim=8, actions=ACTIONS)
    bonuses, states, metrics = roll(reward, batches, example(N))
    assert jax.tree.leaves(states) == [] and metrics == [{}, {}]
    embed = lambda obs: np.asarray(projected(jnp.asarray(obs), 8), np.float64)
    for bonus, expected in zip(
        bonuses, episodes_of(batches, lambda past, x: reference(past, x, 0.5, embed)), strict=True
    ):
        np.testing.assert_allclose(bonus, expected, rtol=1e-3)
    phi = embed(batches[0].obs[0, 0])
    np.testing.assert_allclose([phi.mean(), phi.std()], [0, 1], atol=1e-4)
    with pytest.raises(UserError, match="unknown features 'projected': did you mean 'projection'"):
        e3b(features="projected", actions=ACTIONS)
