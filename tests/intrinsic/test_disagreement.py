"""An ensemble's disagreement against NumPy networks, what each model learns from, and noise, which it outgrows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import ACTIONS, circling, example, fake_batch, world
from references import mlp, roll
from transitions import one_hot, scaled, whitened
from worlds import Corridor

from jaxrl.errors import UserError
from jaxrl.intrinsic.disagreement import disagreement
from jaxrl.intrinsic.icm import icm
from jaxrl.sweep import sweep

T, N, K = 8, 3, 3
BARE = {"whiten": False, "scale": False}
SMALL = {"actions": ACTIONS, "members": K, "dim": 4, "hidden": (8,), "width": 16, "minibatches": 2}


def two_rollouts(observations=None):
    return [fake_batch(jax.random.key(i), T, N, observations, opens=i == 0) for i in range(2)]


def guesses(state, obs, action, features="random"):
    phi = mlp(state.embedding, obs) if features == "random" else np.asarray(obs)
    members = [jax.tree.map(lambda x, k=k: x[k], state.models) for k in range(K)]
    return np.stack([mlp(member, np.concatenate([phi, one_hot(action)], -1)) for member in members])


def test_bonus_is_the_mean_variance_of_the_predictions_over_its_scale():
    """With every ingredient: input by the moments of earlier rollouts, bonus by the deviation of its running sum."""
    batches = two_rollouts(3.0 + 2.0 * world())
    bonuses, states, metrics = roll(disagreement(1e-2, 0.8, 0.9, 1.0, **SMALL), batches, example(N))
    raws = [
        guesses(state.inner.inner, obs, batch.action).var(0).mean(-1)
        for state, batch, (obs, _) in zip(states[:-1], batches, whitened(batches, 1.0), strict=True)
    ]
    for bonus, expected in zip(bonuses, scaled(raws, 0.9), strict=True):
        np.testing.assert_allclose(bonus, expected, rtol=2e-3, atol=1e-5)
    first, last = (state.inner.inner.embedding for state in (states[0], states[2]))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, last))


@jax.jit
def gradient(member, phi, code, target, weights):
    """Of the weighted squared error, mean over features and rows, of one model with one hidden layer."""

    def loss(member):
        first, last = member["params"]["Dense_0"], member["params"]["Dense_1"]
        hidden = jnp.maximum(jnp.concatenate([phi, code], -1) @ first["kernel"].T + first["bias"], 0.0)
        return (weights * ((hidden @ last["kernel"].T + last["bias"] - target) ** 2).mean(-1)).mean()

    return jax.grad(loss)(member)


def test_each_model_takes_the_adam_step_it_would_take_alone_towards_next_obs():
    batch = two_rollouts()[0]
    reward = disagreement(1e-2, 1.0, **BARE, features="raw", **{**SMALL, "minibatches": 1})
    (bonus,), (before, after), (metrics,) = roll(reward, [batch], example(N))
    expected = guesses(before, batch.obs, batch.action, "raw").var(0).mean(-1)
    np.testing.assert_allclose(bonus, expected, rtol=1e-3, atol=1e-6)
    adam = optax.adam(1e-2)
    code = jax.nn.one_hot(batch.action, ACTIONS.n)
    for k in range(K):
        member, moved = (jax.tree.map(lambda x, k=k: x[k], state.models) for state in (before, after))
        grads = gradient(member, batch.obs, code, batch.next_obs, jnp.ones((T, N)))
        steps, _ = jax.jit(adam.update)(grads, adam.init(member))
        for got, wanted in zip(*map(jax.tree.leaves, (moved, optax.apply_updates(member, steps))), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-4)
    errors = (guesses(before, batch.obs, batch.action, "raw") - np.asarray(batch.next_obs)) ** 2
    np.testing.assert_allclose(metrics["disagreement/loss"], errors.mean(), rtol=1e-4)


def test_each_model_leaves_out_its_own_samples():
    """Of four samples each model learns from a subset of its own, weighted by 1 / keep; each is kept 4 times in 5."""
    batch = fake_batch(jax.random.key(0), 4, 1)
    reward = disagreement(0.0, 0.8, **BARE, features="raw", **{**SMALL, "minibatches": 1})
    state, memory = jax.jit(reward.init)(jax.random.key(0), example(1))
    _, _, trace = jax.jit(reward.label)(state, memory, batch)

    def first_moment(key):  # a tenth of the gradient, after one step of Adam
        learned, _ = reward.update(key, state, memory, batch, trace)
        return optax.tree_utils.tree_get(learned.adam, "mu")["params"]["Dense_1"]["bias"]

    found = np.asarray(jax.jit(jax.vmap(first_moment))(jax.random.split(jax.random.key(1), 200))) / 0.1  # [200, K, D]
    code = jax.nn.one_hot(batch.action, ACTIONS.n)
    subsets = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    chosen = []
    for k in range(K):
        member = jax.tree.map(lambda x, k=k: x[k], state.models)
        of_subset = [
            gradient(member, batch.obs, code, batch.next_obs, weights[:, None] / 0.8)["params"]["Dense_1"]["bias"]
            for weights in jnp.asarray(subsets)
        ]
        distance = np.abs(found[:, k, None] - np.asarray(of_subset)).max(-1)
        np.testing.assert_allclose(distance.min(1), 0.0, atol=1e-5)
        chosen.append(subsets[distance.argmin(1)])
    assert abs(np.mean(chosen) - 0.8) < 0.04  # 2,400 draws: five standard errors
    assert (np.asarray(chosen[0]) != chosen[1]).any(1).mean() > 0.5


def toy(key, rows):
    """The paper's figure: A leads to one observation always, B to one of eight evenly, C is never met.

    Returns the transitions met and, with an A, a B and a C in one row of environments, those asked about.
    """
    observations = world(states=3 + 1 + 8)
    here = np.arange(rows) % 2
    there = np.where(here == 0, 3, 4 + np.asarray(jax.random.randint(key, (rows,), 0, 8)))
    never = jnp.zeros((1, rows), bool)
    met = fake_batch(key, 1, rows)._replace(
        obs=jnp.asarray(observations[here])[None],
        next_obs=jnp.asarray(observations[there])[None],
        action=jnp.zeros((1, rows), jnp.int32), terminated=never, truncated=never, first=~never,
    )  # fmt: skip
    asked = jax.tree.map(lambda x: x[:, :3], met)
    return met, asked._replace(
        obs=jnp.asarray(observations[:3])[None], next_obs=jnp.asarray(observations[[3, 4, 3]])[None]
    )


def test_disagreement_falls_on_noise_where_prediction_error_stays():
    met, asked = toy(jax.random.key(0), 256)
    settings = {"scale": False, "actions": ACTIONS, "dim": 8, "hidden": (16,)}

    def paid(reward):
        """Bonuses [A, B, C] before and after learning."""
        label = lambda state: reward.label(state, (), asked)[1][0]

        @jax.jit
        def train(k_init, k_learn):
            state, _ = reward.init(k_init, example(256))
            _, _, trace = reward.label(state, (), met)  # for good: the features never learn
            learn = lambda state, key: (reward.update(key, state, (), met, trace)[0], None)
            return label(state), label(jax.lax.scan(learn, state, jax.random.split(k_learn, 500))[0])

        return map(np.asarray, train(*jax.random.split(jax.random.key(1))))

    before, after = paid(disagreement(1e-3, whiten=False, members=5, width=64, **settings))
    assert after[0] < 0.02 * before[0] and after[1] < 0.02 * before[1]
    assert after[2] > 10 * after[:2].max()

    error, learned_error = paid(icm(1e-3, features="random", **settings))
    assert learned_error[0] < 0.02 * error[0]
    assert learned_error[1] > 0.3 * error[1]


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_a_state_never_seen_is_paid_more_than_those_learned(magnitude):
    observations = world(states=7, scale=magnitude)
    rng = np.random.default_rng(0)
    batches = [circling(rng, 16, 4, observations) for _ in range(160)]
    last = circling(rng, 16, 4, observations)
    strange = np.arange(16) % 8 == 3
    test = last._replace(obs=jnp.where(strange[:, None, None], observations[-1], last.obs))
    bonuses, _, _ = roll(
        disagreement(3e-3, actions=ACTIONS, dim=8, hidden=(32,), width=32), [*batches, test], example(4)
    )
    assert bonuses[-1][strange].min() > 3 * bonuses[-1][~strange].max()


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"disagreement.members = 1: at least two"):
        disagreement(members=1, actions=ACTIONS)
    with pytest.raises(UserError, match="unknown features 'rnd'.*allowed: random, raw"):
        disagreement(features="rnd", actions=ACTIONS)


@pytest.mark.slow
def test_disagreement_leaves_the_television_that_prediction_error_watches(tmp_path):
    """The corridor with a third action, which shows one of 256 random pictures. Chosen on seeds 100 and 101.

    With lr=1e-3 the ensemble covers the corridor as soon, but what its steps leave of variance on the pictures is then
    the largest bonus there is, and the agent stays with them.
    """
    bonuses = ["disagreement(lr=0.0003)", "icm(features=random, lr=0.0003, whiten=True)"]
    curves = sweep(
        tmp_path, env=Corridor, wrap=["noisy_tv(levels=2, size=8)"],
        grid={"bonus": bonuses}, seeds="0:8", steps=204_800, lr=1e-3, num_steps=64,
    )  # fmt: skip
    solved, watching = (int(curves["solved"].isel(iteration=-1).sel(bonus=bonus).sum()) for bonus in bonuses)
    assert solved >= 6 and watching <= 2, (solved, watching)
