"""RIDE against NumPy features and counts, its loss against one written out, its gate, and what it makes of PPO."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import ACTIONS, circling, example, fake_batch, world
from references import episodic as episodes_of
from references import layer_norm, mlp, roll
from transitions import scaled
from worlds import Corridor

from jaxrl.intrinsic.ride import ride
from jaxrl.sweep import sweep

T, N = 8, 3
SMALL = {"actions": ACTIONS, "dim": 4, "hidden": (8,), "minibatches": 2, "buckets": 2**10}


def two_rollouts():
    return [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(2)]


def change(params, batch):
    here, there = (layer_norm(mlp(params["embedding"], x)) for x in (batch.obs, batch.next_obs))
    return np.sqrt(((there - here) ** 2).sum(-1))


def visits(past, x):
    return 1 + sum((x == y).all() for y in past)


def test_bonus_is_the_change_of_features_over_the_root_of_the_episodic_count_over_its_scale():
    batches = two_rollouts()
    counts = episodes_of(batches, visits)
    assert max(count.max() for count in counts) > 1
    bonuses, states, metrics = roll(ride(1e-2, discount=0.9, **SMALL), batches, example(N))
    raws = []
    for state, batch, count, measured in zip(states[:-1], batches, counts, metrics, strict=True):
        params = state.inner[0].params  # inside the scale, the first factor
        raws.append(change(params, batch) / np.sqrt(count))
        phi = layer_norm(mlp(params["embedding"], batch.next_obs))
        np.testing.assert_allclose(measured["0/ride/feature_variance"], phi.var((0, 1)).mean(), rtol=1e-3)
    for bonus, expected in zip(bonuses, scaled(raws, 0.9), strict=True):
        np.testing.assert_allclose(bonus, expected, rtol=1e-3, atol=1e-5)


def test_one_update_is_one_adam_step_down_the_norm_and_the_cross_entropy():
    batch = two_rollouts()[0]
    reward = ride(1e-2, 0.6, 0.3, gate=False, scale=False, **{**SMALL, "minibatches": 1})
    (bonus,), (before, after), (metrics,) = roll(reward, [batch], example(N))
    np.testing.assert_allclose(bonus, change(before.params, batch), rtol=1e-3, atol=1e-5)

    def network(params, x):
        layers = params["params"]
        for i in range(len(layers)):
            x = x @ layers[f"Dense_{i}"]["kernel"].T + layers[f"Dense_{i}"]["bias"]
            x = jnp.maximum(x, 0.0) if i < len(layers) - 1 else x
        return x

    def phi(params, x):
        x = network(params["embedding"], x)
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)

    def losses(params):
        here, there = phi(params, batch.obs), phi(params, batch.next_obs)
        code = jax.nn.one_hot(batch.action, ACTIONS.n)
        guess = network(params["forward"], jnp.concatenate([here, code], -1))
        logits = network(params["inverse"], jnp.concatenate([here, there], -1))
        return -(jax.nn.log_softmax(logits) * code).sum(-1).mean(), jnp.linalg.norm(
            guess - there, axis=-1
        ).mean() / 2.0  # root of dim = 4

    @jax.jit
    def step(params):
        grads = jax.grad(lambda params: 0.6 * losses(params)[0] + 0.3 * losses(params)[1])(params)
        adam = optax.adam(1e-2)
        return optax.apply_updates(params, adam.update(grads, adam.init(params))[0]), losses(params)

    expected, (inverse, forward) = step(before.params)
    for got, wanted in zip(*map(jax.tree.leaves, (after.params, expected)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-4)
    np.testing.assert_allclose(
        [metrics["dynamics/inverse"], metrics["dynamics/forward"]], [inverse, forward], rtol=1e-5
    )


def test_impact_stays_while_the_error_of_the_forward_model_falls():
    """In a world that is learned through and through."""
    rng = np.random.default_rng(0)
    batches = [circling(rng, 16, 4, world()) for _ in range(100)]
    reward = ride(3e-3, gate=False, scale=False, actions=ACTIONS, dim=8, hidden=(32,))
    impact, _, metrics = roll(reward, batches, example(4))
    errors = [m["dynamics/forward"] for m in metrics]
    assert errors[-1] < 0.3 * errors[0]
    assert impact[-1].mean() > 0.5 * impact[0].mean()
    assert metrics[-1]["ride/feature_variance"] > 0.2


def test_impact_of_what_actions_move_grows_over_that_of_noise():
    """Coordinates 0 to 2 move by the action, 3 to 5 are drawn afresh: learning turns impact from these to those."""
    k_obs, k_action, k_noise, k_init, k_learn = jax.random.split(jax.random.key(0), 5)
    action = jax.random.randint(k_action, (64, 8), 0, ACTIONS.n)
    obs = jax.random.normal(k_obs, (64, 8, 6))
    moved = obs[..., :3] + jax.nn.one_hot(action, 3)
    noise = jax.random.normal(k_noise, (64, 8, 3))
    batch = fake_batch(jax.random.key(0), 64, 8)._replace(
        obs=obs, next_obs=jnp.concatenate([moved, noise], -1), action=action
    )
    reward = ride(3e-3, gate=False, scale=False, actions=ACTIONS, dim=8, hidden=(32,))

    def ratio(state):
        paid = [
            reward.label(state, (), batch._replace(next_obs=jnp.concatenate(parts, -1)))[1].mean()
            for parts in ((moved, obs[..., 3:]), (obs[..., :3], noise))
        ]
        return paid[0] / paid[1]

    @jax.jit
    def train(state, keys):
        learn = lambda state, key: (reward.update(key, state, (), batch, jnp.float32(0))[0], None)
        return ratio(state), ratio(jax.lax.scan(learn, state, keys)[0])

    before, after = train(jax.jit(reward.init)(k_init, example(8))[0], jax.random.split(k_learn, 60))
    assert after > 2 * before


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_new_states_pay_more_than_old_ones_and_standing_still_pays_nothing(magnitude):
    observations = world(states=6, scale=magnitude)
    path = np.array([0, 0, 1, 2, 1, 3, 1, 4, 1, 5])  # from 0: stands still, then comes back to 1 between new states
    batch = fake_batch(jax.random.key(0), 9, 1)._replace(
        obs=jnp.asarray(observations[path[:-1]])[:, None],
        next_obs=jnp.asarray(observations[path[1:]])[:, None],
        first=jnp.arange(9)[:, None] == 0,
    )
    settings = {"scale": False, "actions": ACTIONS, "dim": 16, "hidden": (32,)}
    (gated,), (state, _), _ = roll(ride(**settings), [batch], example(1), learn=False)
    _, ungated, _ = jax.jit(ride(gate=False, **settings).label)(state[0], (), batch)
    gated, ungated = gated[:, 0], np.asarray(ungated)[:, 0]
    assert max(gated[0], ungated[0]) < 1e-3 * ungated[1]
    returns = [3, 5, 7]
    np.testing.assert_allclose(gated[returns], ungated[returns] / np.sqrt([2, 3, 4]), rtol=1e-5)
    # There and back is the same change: it is the gate that tells the new state from the old one.
    np.testing.assert_allclose(ungated[[2, 4, 6]], ungated[returns], rtol=1e-4)
    np.testing.assert_allclose(gated[[2, 4, 6, 8]], ungated[[2, 4, 6, 8]], rtol=1e-6)


@pytest.mark.slow
def test_ride_solves_the_corridor_by_its_gate(tmp_path):
    """Chosen on seeds 100 to 103; PPO alone solves it never (tests/test_learning.py)."""
    bonuses = ["ride(lr=0.001)", "ride(gate=False, lr=0.001)"]
    curves = sweep(tmp_path, env=Corridor, grid={"bonus": bonuses}, seeds="0:8", steps=204_800, lr=1e-3, num_steps=64)
    solved, ungated = (int(curves["solved"].isel(iteration=-1).sel(bonus=bonus).sum()) for bonus in bonuses)
    assert solved >= 6 and ungated <= 2, (solved, ungated)
