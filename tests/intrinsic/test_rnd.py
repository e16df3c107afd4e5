"""Random network distillation against NumPy networks, and each of its switches."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import example, fake_batch, world
from references import mlp, roll

from jaxrl.intrinsic.rnd import rnd

T, N = 8, 3
SMALL = {"dim": 4, "hidden": (8,), "minibatches": 2}
BARE = {"whiten": False, "scale": False}


def two_rollouts(observations=None):
    return [fake_batch(jax.random.key(i), T, N, observations, opens=i == 0) for i in range(2)]


def error(target, predictor, obs):
    """Mean over the outputs, not their sum, of the squared difference."""
    return ((mlp(predictor, obs) - mlp(target, obs)) ** 2).mean(-1)


def equal(a, b):
    return all(bool((x == y).all()) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_bonus_is_the_mean_squared_error_on_next_obs():
    batches = two_rollouts()
    bonuses, states, metrics = roll(rnd(1e-2, **BARE, **SMALL), batches, example(N))
    for i, batch in enumerate(batches):
        np.testing.assert_allclose(
            bonuses[i], error(states[i].target, states[i].predictor, batch.next_obs), rtol=1e-4, atol=1e-6
        )
    assert equal(states[0].target, states[2].target) and not equal(states[0].predictor, states[2].predictor)
    assert metrics[1]["rnd/loss"] < metrics[0]["rnd/loss"]


def test_whitened_clipped_and_scaled_over_time_as_a_whole():
    """All of section 2.4: input by the moments of earlier rollouts, bonus by the deviation of the running return."""
    batches = two_rollouts(3.0 + 2.0 * world())
    bonuses, states, _ = roll(rnd(1e-2, 0.9, 1.0, **SMALL), batches, example(N))
    running, sums, seen = np.zeros(N), [], []
    for i, batch in enumerate(batches):
        next_obs = np.asarray(batch.next_obs, np.float64)
        white = np.clip((next_obs - np.mean(seen, (0, 1))) / np.std(seen, (0, 1)) if i else next_obs, -1.0, 1.0)
        networks = states[i].inner.inner  # inside the return scale and the whitening
        raw = error(networks.target, networks.predictor, white)
        for row in raw:
            running = 0.9 * running + row
            sums.append(running)
        np.testing.assert_allclose(bonuses[i], raw / np.std(sums), rtol=2e-3, atol=1e-5)
        seen.extend(next_obs)


def test_one_update_is_one_adam_step_down_the_mean_error():
    (batch, _) = two_rollouts()
    reward = rnd(1e-2, **BARE, dim=4, hidden=(8,), minibatches=1)
    _, (before, after), (metrics,) = roll(reward, [batch], example(N))

    def loss(predictor):
        def apply(params):
            hidden, out = params["params"]["Dense_0"], params["params"]["Dense_1"]
            x = jnp.maximum(batch.next_obs @ hidden["kernel"].T + hidden["bias"], 0.0)
            return x @ out["kernel"].T + out["bias"]

        return ((apply(predictor) - apply(before.target)) ** 2).mean()

    value, grads = jax.value_and_grad(loss)(before.predictor)
    adam = optax.adam(1e-2)
    steps, _ = adam.update(grads, adam.init(before.predictor))
    for got, expected in zip(
        *map(jax.tree.leaves, (after.predictor, optax.apply_updates(before.predictor, steps))), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(metrics["rnd/loss"], value, rtol=1e-5)


def test_epochs_and_minibatches_are_adam_steps():
    _, states, _ = roll(rnd(**BARE, dim=4, hidden=(8,), epochs=3, minibatches=4), two_rollouts(), example(N))
    assert [int(optax.tree_utils.tree_get(state.adam, "count")) for state in states] == [0, 12, 24]


def test_proportion_is_the_share_of_transitions_learned_from():
    """Four transitions, one step: the loss is the mean error of those that were learned from."""
    batch = fake_batch(jax.random.key(0), 4, 1)

    def losses(proportion):
        reward = rnd(1e-2, proportion=proportion, **BARE, dim=4, hidden=(8,), minibatches=1)
        state, memory = reward.init(jax.random.key(0), example(1))
        _, bonus, trace = reward.label(state, memory, batch)
        learn = lambda key: reward.update(key, state, memory, batch, trace)[1]["rnd/loss"]
        return np.asarray(bonus)[:, 0], np.asarray(jax.vmap(learn)(jax.random.split(jax.random.key(1), 200)))

    for proportion, chosen in ((0.25, 1), (0.5, 2), (0.6, 3), (1.0, 4)):
        bonus, seen = losses(proportion)
        means = np.array([np.mean(rows) for rows in itertools.combinations(bonus, chosen)])
        distance = np.abs(seen[:, None] - means)
        np.testing.assert_allclose(distance.min(1), 0.0, atol=1e-6)
        assert set(distance.argmin(1)) == set(range(len(means)))  # every choice is made sometimes


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_terminal_observations_are_scored_or_left_out(end):
    (batch, _) = two_rollouts()
    ended = np.asarray(getattr(batch, end))
    done = np.asarray(batch.terminated | batch.truncated)
    elsewhere = batch._replace(next_obs=jnp.where(ended[..., None], 50.0, batch.next_obs))
    for terminal in (True, False):
        reward = rnd(1e-2, **BARE, dim=4, hidden=(8,), minibatches=1, terminal=terminal)
        (bonus,), (_, learned), (metrics,) = roll(reward, [batch], example(N))
        (other,), (_, learned_other), _ = roll(reward, [elsewhere], example(N))
        scored = np.ones_like(done) if terminal else ~done
        np.testing.assert_allclose(metrics["rnd/loss"], bonus[scored].mean(), rtol=1e-5)  # a mean of those scored alone
        assert (bonus[done] == 0).all() == (not terminal) and (bonus[~done] > 0).all()
        assert (other[ended] > 100 * bonus.mean()).all() == terminal
        assert equal(learned.predictor, learned_other.predictor) == (not terminal)


def test_deeper_lengthens_the_predictor_alone():
    reward = rnd(**BARE, dim=4, hidden=(8,), deeper=(5, 6))
    state, _ = jax.eval_shape(reward.init, jax.random.key(0), example(N))
    widths = [
        [net["params"][f"Dense_{i}"]["kernel"].shape[0] for i in range(len(net["params"]))]
        for net in (state.target, state.predictor)
    ]
    assert widths == [[8, 4], [8, 5, 6, 4]]


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_a_novel_observation_is_paid_more_than_seen_ones(magnitude):
    # The last state is in no rollout that was learned from, but well inside the box of those that were.
    observations = world(states=7, scale=magnitude)
    observations[-1] = 0.1 * magnitude
    batches = [fake_batch(jax.random.key(i), 16, 4, observations[:-1]) for i in range(80)]
    test = fake_batch(jax.random.key(99), 16, 4, observations)
    bonuses, _, _ = roll(rnd(3e-3, dim=16, hidden=(32,), minibatches=2), [*batches, test], example(4))
    novel = np.asarray((test.next_obs == observations[-1]).all(-1))
    assert 0 < novel.sum() < 20
    assert bonuses[-1][novel].min() > 3 * bonuses[-1][~novel].max()
