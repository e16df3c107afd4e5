"""The two policy distributions against distrax, and where distrax is no judge, against the closed form."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.distributions import Categorical, DiagonalNormal

LOGITS = {
    "ordinary": [[0.3, -1.2, 2.0], [0.0, 0.0, 0.0]],
    "extreme": [[1e4, 0.0, -1e4], [-1e4, -1e4, 1e4]],
    "masked": [[0.0, 1.0, -np.inf], [-np.inf, 2.0, -np.inf]],
}


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_categorical_is_that_of_distrax(logits):
    logits = jnp.array(logits)
    ours, theirs = Categorical(logits), distrax.Categorical(logits=logits)
    for action in range(3):
        actions = jnp.full(2, action)
        np.testing.assert_allclose(ours.log_prob(actions), theirs.log_prob(actions), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours.mode(), theirs.mode())
    assert ours.mode().dtype == jnp.int32


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_categorical_gradients_are_finite_and_those_of_the_definition(logits):
    """d log p(a) / d logits = onehot(a) - p;  d entropy / d logits = -p (log p + entropy)."""
    logits = np.array(logits, np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    best = p.argmax(-1)
    gradient = jax.grad(lambda x: Categorical(x).log_prob(jnp.asarray(best)).sum())(jnp.array(logits, jnp.float32))
    np.testing.assert_allclose(gradient, np.eye(3)[best] - p, atol=1e-6)
    log_p = np.log(np.where(p > 0, p, 1.0))
    entropy = -(p * log_p).sum(-1, keepdims=True)
    gradient = jax.grad(lambda x: Categorical(x).entropy().sum())(jnp.array(logits, jnp.float32))
    np.testing.assert_allclose(gradient, -p * (log_p + entropy), atol=1e-6)


def test_categorical_entropy_is_log_n_when_uniform_and_zero_when_certain():
    np.testing.assert_allclose(Categorical(jnp.full(7, 3.0)).entropy(), np.log(7), rtol=1e-6)
    assert float(Categorical(jnp.array([1e6, 0.0])).entropy()) == 0.0


def test_categorical_samples_as_often_as_their_probability_says():
    logits = jnp.log(jnp.array([0.6, 0.3, 0.1]))
    draws = 20_000
    samples = Categorical(jnp.broadcast_to(logits, (draws, 3))).sample(jax.random.key(0))
    assert samples.dtype == jnp.int32 and samples.shape == (draws,)
    frequency = np.bincount(samples, minlength=3) / draws
    np.testing.assert_allclose(frequency, [0.6, 0.3, 0.1], atol=5 * np.sqrt(0.25 / draws))


@pytest.mark.parametrize("log_std", [-8.0, 0.0, 5.0])
def test_diagonal_normal_is_that_of_distrax(log_std):
    rng = np.random.default_rng(0)
    mean, spread = rng.normal(size=(4, 3)), log_std + rng.normal(size=3)
    ours = DiagonalNormal(jnp.array(mean), jnp.array(spread))
    theirs = distrax.MultivariateNormalDiag(jnp.array(mean), jnp.broadcast_to(jnp.exp(jnp.array(spread)), (4, 3)))
    actions = jnp.array(mean + np.exp(spread) * rng.normal(size=(4, 3)))
    np.testing.assert_allclose(ours.log_prob(actions), theirs.log_prob(actions), rtol=2e-3)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-5)
    np.testing.assert_array_equal(ours.mode(), jnp.array(mean))
    assert ours.log_prob(actions).shape == ours.entropy().shape == (4,)


def test_diagonal_normal_samples_have_its_mean_and_deviation():
    draws = 20_000
    mean, log_std = jnp.array([1.0, -2.0]), jnp.array([0.5, -1.0])
    samples = DiagonalNormal(jnp.broadcast_to(mean, (draws, 2)), log_std).sample(jax.random.key(1))
    deviation = np.exp(log_std)
    np.testing.assert_allclose(samples.mean(0), mean, atol=5 * deviation.max() / np.sqrt(draws))
    np.testing.assert_allclose(samples.std(0), deviation, rtol=0.03)
    assert abs(np.corrcoef(samples.T)[0, 1]) < 0.04  # coordinates are independent
