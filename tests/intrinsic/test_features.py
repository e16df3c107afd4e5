"""Embeddings: what they compute for a batch of observations, and what inverse dynamics learns."""

import jax
import jax.numpy as jnp
import numpy as np
from batches import ACTIONS, example, fake_batch
from references import layer_norm, mlp

from jaxrl.intrinsic.features import frozen, identity, inverse_dynamics, random_network
from jaxrl.types import Box

T, N = 8, 3
SMALL = {"dim": 4, "hidden": (8,), "minibatches": 1}


def test_identity_flattens_to_float32():
    obs = jnp.arange(24, dtype=jnp.uint8).reshape(2, 3, 4)
    embedded = identity().embed((), obs)
    assert embedded.dtype == jnp.float32 and embedded.shape == (2, 12)
    assert (embedded == jnp.arange(24).reshape(2, 12)).all()


def test_frozen_features_have_no_state_and_learn_nothing():
    features = frozen(lambda obs: 2 * obs[:3])  # of one observation
    batch = fake_batch(jax.random.key(0), T, N)
    assert features.init(jax.random.key(0), example(N)) == ()
    assert features.update(jax.random.key(0), (), batch) == ((), {})
    embedded = features.embed((), batch.obs[0])
    assert embedded.shape == (N, 3) and (embedded == 2 * batch.obs[0, :, :3]).all()


def test_a_random_network_differs_by_key_and_never_learns():
    features = random_network(dim=4, hidden=(8, 7))
    params = features.init(jax.random.key(0), example(N))
    batch = fake_batch(jax.random.key(0), T, N)
    obs = batch.next_obs[0]
    assert features.update(jax.random.key(1), params, batch)[0] is params
    np.testing.assert_allclose(features.embed(params, obs), mlp(params, obs), rtol=1e-4, atol=1e-5)
    assert not np.allclose(features.embed(features.init(jax.random.key(1), example(N)), obs), mlp(params, obs))


def head_input(state, batch):
    """Layer-normalised features of obs and next_obs side by side, [T, N, 2 D]."""
    embedding = state.params["embedding"]
    return np.concatenate([layer_norm(mlp(embedding, x)) for x in (batch.obs, batch.next_obs)], -1)


def test_inverse_dynamics_is_cross_entropy_of_the_action():
    batch = fake_batch(jax.random.key(0), T, N)
    features = inverse_dynamics(actions=ACTIONS, **SMALL)
    state = features.init(jax.random.key(1), example(N))
    _, metrics = jax.jit(features.update)(jax.random.key(2), state, batch)
    logits = mlp(state.params["head"], head_input(state, batch))
    chosen = np.take_along_axis(logits, np.asarray(batch.action)[..., None], -1)[..., 0]
    np.testing.assert_allclose(
        metrics["inverse_dynamics/loss"], (np.log(np.exp(logits).sum(-1)) - chosen).mean(), rtol=1e-4
    )
    assert state.params["head"]["params"]["Dense_0"]["kernel"].shape == (256, 8)


def test_inverse_dynamics_is_the_squared_error_of_a_continuous_action():
    action = jax.random.normal(jax.random.key(5), (T, N, 2))
    batch = fake_batch(jax.random.key(0), T, N)._replace(action=action)
    features = inverse_dynamics(actions=Box(-1.0, 1.0, (2,)), **SMALL)
    state = features.init(jax.random.key(1), example(N))
    _, metrics = jax.jit(features.update)(jax.random.key(2), state, batch)
    guess = mlp(state.params["head"], head_input(state, batch))
    np.testing.assert_allclose(metrics["inverse_dynamics/loss"], ((guess - action) ** 2).mean(), rtol=1e-4)


def test_inverse_dynamics_keeps_what_actions_move_and_forgets_noise():
    """Coordinates 0-2 move by the action, 3-5 are fresh noise: training turns phi from the latter to the former."""
    k_obs, k_action, k_noise, k_init, k_learn = jax.random.split(jax.random.key(0), 5)
    action = jax.random.randint(k_action, (64, 8), 0, ACTIONS.n)
    obs = jax.random.normal(k_obs, (64, 8, 6))
    moved = obs[..., :3] + jax.nn.one_hot(action, 3)
    next_obs = jnp.concatenate([moved, jax.random.normal(k_noise, (64, 8, 3))], -1)
    batch = fake_batch(jax.random.key(0), 64, 8)._replace(obs=obs, next_obs=next_obs, action=action)
    features = inverse_dynamics(3e-3, actions=ACTIONS, dim=8, hidden=(32,), minibatches=4)

    def ratio(state):
        embed = lambda x: features.embed(state, x[None])[0]
        jacobian = jax.vmap(jax.jacobian(embed))(obs.reshape(-1, 6))
        sensitivity = (jacobian**2).sum((0, 1))
        return sensitivity[:3].sum() / sensitivity[3:].sum()

    @jax.jit
    def train(state, keys):
        trained, metrics = jax.lax.scan(lambda state, key: features.update(key, state, batch), state, keys)
        return ratio(state), ratio(trained), metrics["inverse_dynamics/loss"]

    state = features.init(k_init, example(8))
    before, after, loss = train(state, jax.random.split(k_learn, 60))
    assert loss[0] > 0.9 and loss[-1] < 0.3  # log 3 = 1.1 by chance
    assert after > 2 * before
