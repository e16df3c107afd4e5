"""SelMo's curiosity against a NumPy network, and each of its parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import ACTIONS, example, fake_batch, world
from references import mlp, roll

from jaxrl.intrinsic.forward_error import forward_error

T, N = 8, 3
SMALL = {"actions": ACTIONS, "width": 8, "minibatches": 2, "epochs": 1}


def two_rollouts(observations=None):
    return [fake_batch(jax.random.key(i), T, N, observations, opens=i == 0) for i in range(2)]


def model_of(state):
    """The forward model's parameters, without the axis of its one member."""
    return jax.tree.map(lambda x: x[0], state.inner.models)


def test_bonus_is_the_squashed_error_of_the_whitened_next_observation():
    """Coordinates of several sizes, whitened by the moments of earlier rollouts alone, are one mean square."""
    sizes = np.array([0.1, 1.0, 10.0, 1.0, 1.0, 50.0], np.float32)
    batches = two_rollouts(3.0 + sizes * world())
    bonuses, states, metrics = roll(forward_error(0.3, 1e-2, 1.5, **SMALL), batches, example(N))
    seen = []
    for i, batch in enumerate(batches):
        obs, next_obs = np.asarray(batch.obs, np.float64), np.asarray(batch.next_obs, np.float64)
        if i:
            obs, next_obs = ((x - np.mean(seen, (0, 1))) / np.std(seen, (0, 1)) for x in (obs, next_obs))
        obs, next_obs = np.clip(obs, -1.5, 1.5), np.clip(next_obs, -1.5, 1.5)
        given = np.concatenate([obs, np.eye(ACTIONS.n)[np.asarray(batch.action)]], -1)
        squares = (mlp(model_of(states[i]), given) - next_obs) ** 2
        np.testing.assert_allclose(bonuses[i], np.tanh(0.3 * squares.mean(-1)), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(metrics[i]["forward_error/saturated"], (bonuses[i] > 0.95).mean(), rtol=1e-6)
        seen.extend(np.asarray(batch.next_obs, np.float64))
    assert bonuses[0].std() > 0.01 and min(map(np.min, bonuses)) >= 0 and max(map(np.max, bonuses)) <= 1


def test_eta_saturates_and_the_share_is_reported():
    batches = two_rollouts(10.0 * world())[:1]
    shares = [
        float(roll(forward_error(eta, 1e-3, 50.0, **SMALL), batches, example(N))[2][0]["forward_error/saturated"])
        for eta in (1e-4, 100.0)
    ]
    assert shares[0] == 0.0 and shares[1] == 1.0


def test_epochs_and_minibatches_are_adam_steps():
    reward = forward_error(actions=ACTIONS, width=8, epochs=3, minibatches=4)
    _, states, _ = roll(reward, two_rollouts(), example(N))
    assert [int(optax.tree_utils.tree_get(state.inner.adam, "count")) for state in states] == [0, 12, 24]


def step_around(key, observations, shift=1):
    """One-step episodes ``[T, N]`` in which action a leads from state s to s + a + `shift`, around."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    state, action = rng.integers(len(observations), size=(T, N)), rng.integers(ACTIONS.n, size=(T, N))
    batch = fake_batch(key, T, N, observations)
    every = jnp.ones((T, N), bool)
    there = (state + action + shift) % len(observations)
    return batch._replace(
        obs=jnp.asarray(observations[state]), action=jnp.asarray(action, jnp.int32),
        next_obs=jnp.asarray(observations[there]), first=every, terminated=every, truncated=~every,
    )  # fmt: skip


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_a_transition_that_breaks_the_rule_is_paid_more_than_those_that_keep_it(magnitude):
    observations = world(scale=magnitude)
    batches = [step_around(jax.random.key(i), observations) for i in range(60)]
    reward = forward_error(0.2, 1e-2, actions=ACTIONS, width=64, minibatches=2)
    kept, broken = step_around(jax.random.key(98), observations), step_around(jax.random.key(99), observations, 3)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a[: T // 2], b[: T // 2]]), kept, broken)
    bonus = roll(reward, [*batches, both], example(N))[0][-1]
    assert bonus[T // 2 :].min() > 3 * bonus[: T // 2].max()
