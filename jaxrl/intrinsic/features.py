"""Embeddings of observations: fixed functions, a frozen random network, or learned from what actions do."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl.errors import unknown
from jaxrl.networks import Network, mean_gradient, network
from jaxrl.shuffle import passes
from jaxrl.spaces import code, width
from jaxrl.types import Array, Box, Discrete, Features, Key, PyTree

HEAD = 256  # hidden units of the models on top of phi, as in the code of ICM and E3B
UNLEARNED = ("random", "raw")


def frozen(function) -> Features:
    """A fixed `function` of one observation, ``[*O] -> [D]``; no state, nothing learned."""
    embed = lambda state, obs: jax.vmap(function)(obs)
    return Features(lambda key, example: (), embed, lambda key, state, batch: (state, {}))


def identity() -> Features:
    """The observation itself, flattened, float32 ``[D]``."""
    return frozen(lambda obs: obs.reshape(-1).astype(jnp.float32))


def random_network(*, dim=64, hidden=(64,), activation="relu", torso="mlp") -> Features:
    """A randomly initialised network that never learns (RE3, RND's target): state is its parameters."""
    net = network(torso, hidden, dim, 1.0, activation)
    init = lambda key, example: net.init(key, example.obs[:1])
    return Features(init, net.apply, lambda key, state, batch: (state, {}))


def unlearned(kind: str, *, dim: int, hidden: tuple[int, ...], torso: str) -> Features:
    """Features by the name that a bonus takes: "random", a `random_network`, or "raw", the `identity`.

    Raises UserError for another name.
    """
    if kind not in UNLEARNED:
        raise unknown("features", kind, UNLEARNED)
    return identity() if kind == "raw" else random_network(dim=dim, hidden=hidden, torso=torso)


class InverseDynamicsState(NamedTuple):
    params: PyTree  # {"embedding", "head"}
    adam: PyTree  # optax state


def inverse_dynamics(
    lr=1e-4,  # Adam step size
    *,
    actions: Discrete | Box,
    dim=64,  # features
    hidden=(64,),  # hidden widths of the embedding
    activation="relu",
    torso="mlp",
    epochs=1,  # passes over a batch
    minibatches=4,  # gradient steps per pass
) -> Features:
    """phi such that a_t can be told from phi(o_t), phi(o_{t+1}) (Pathak et al. 2017, arXiv:1705.05363, eq. 2).

    Cross-entropy for discrete actions, mean squared error for continuous ones. The head has one hidden layer of 256
    as in E3B's code. Features are layer-normalised, without learned gain (E3B's Sample-Factory port: a ridge or a
    distance means nothing when the scale of phi is free). next_obs is the true successor, so no step is masked.
    """
    embedding = _normalized(torso, hidden, dim, activation)
    head = network("mlp", (HEAD,), width(actions), 1.0, "relu")
    adam = optax.adam(lr)

    def init(key: Key, example):
        k_embedding, k_head = jax.random.split(key)
        params = {
            "embedding": embedding.init(k_embedding, example.obs[:1]),
            "head": head.init(k_head, jnp.zeros((1, 2 * dim))),
        }
        return InverseDynamicsState(params, adam.init(params))

    def embed(state, obs):
        return embedding.apply(state.params["embedding"], obs)

    def loss(params, data):
        obs, next_obs, action = data  # [B, ...]
        pair = [embedding.apply(params["embedding"], x) for x in (obs, next_obs)]
        return _action_error(actions, head.apply(params["head"], jnp.concatenate(pair, -1)), action)

    def update(key: Key, state, batch):
        data = (batch.obs, batch.next_obs, batch.action)

        def gradient_step(state, minibatch):
            value, grads = jax.value_and_grad(loss)(state.params, minibatch)
            steps, adam_state = adam.update(grads, state.adam)
            return InverseDynamicsState(optax.apply_updates(state.params, steps), adam_state), value

        state, values = passes(key, gradient_step, state, data, epochs=epochs, minibatches=minibatches)
        return state, {"inverse_dynamics/loss": values.mean()}

    return Features(init, embed, update)


class DynamicsState(NamedTuple):
    params: PyTree  # {"embedding", "inverse", "forward"}
    adam: PyTree  # optax state


class Dynamics(NamedTuple):
    """Features and the forward model that was learned with them."""

    features: Features
    predict: Callable  # (state, phi[B, D] of obs, action[B, *A]) -> [B, D], a guess at phi of next_obs


def dynamics(
    lr,
    inverse,
    forward,
    distance: Callable,
    *,
    actions: Discrete | Box,
    dim: int,
    hidden: tuple[int, ...],
    torso: str,
    epochs: int,
    minibatches: int,
) -> Dynamics:
    """phi learned with two models in its space, inverse and forward, as in ICM (Pathak et al. 2017, eq. 7) and RIDE.

        loss = inverse * (error of the action told from phi(o_t), phi(o_{t+1}))
             + forward * mean of distance(f(phi(o_t), a_t), phi(o_{t+1}))

    Both gradients reach phi, on both sides of `distance` (``[B, D], [B, D] -> [B]``); there is no target network.
    Features and the error of the action are those of `inverse_dynamics`; f has one hidden layer of 256 and takes
    discrete actions one-hot. Metrics: `dynamics/inverse dynamics/forward`, the two means unweighted.
    """
    embedding = _normalized(torso, hidden, dim, "relu")
    head = network("mlp", (HEAD,), width(actions), 1.0, "relu")
    model = network("mlp", (HEAD,), dim, 1.0, "relu")
    adam = optax.adam(lr)

    def init(key: Key, example):
        k_embedding, k_inverse, k_forward = jax.random.split(key, 3)
        params = {
            "embedding": embedding.init(k_embedding, example.obs[:1]),
            "inverse": head.init(k_inverse, jnp.zeros((1, 2 * dim))),
            "forward": model.init(k_forward, jnp.zeros((1, dim + width(actions)))),
        }
        return DynamicsState(params, adam.init(params))

    def embed(state, obs):
        return embedding.apply(state.params["embedding"], obs)

    def predict(state, phi, action):
        return model.apply(state.params["forward"], with_action(actions, phi, action))

    def loss(params, data):
        obs, next_obs, action = data  # [B, ...]
        state = DynamicsState(params, ())
        here, there = embed(state, obs), embed(state, next_obs)
        losses = {
            "dynamics/inverse": _action_error(
                actions, head.apply(params["inverse"], jnp.concatenate([here, there], -1)), action
            ),
            "dynamics/forward": distance(predict(state, here, action), there).mean(),
        }
        return inverse * losses["dynamics/inverse"] + forward * losses["dynamics/forward"], losses

    def update(key: Key, state, batch):
        def gradient_step(state, minibatch):
            grads, losses = mean_gradient(loss, state.params, minibatch)
            steps, adam_state = adam.update(grads, state.adam)
            return DynamicsState(optax.apply_updates(state.params, steps), adam_state), losses

        data = (batch.obs, batch.next_obs, batch.action)
        state, losses = passes(key, gradient_step, state, data, epochs=epochs, minibatches=minibatches)
        return state, jax.tree.map(jnp.mean, losses)

    return Dynamics(Features(init, embed, update), predict)


def with_action(actions: Discrete | Box, phi: Array, action: Array) -> Array:
    """``[B, D + A]``: features beside the action, one-hot or of the unit box; what a forward model takes."""
    return jnp.concatenate([phi, code(actions, action)], -1)


def _action_error(actions: Discrete | Box, guess: Array, action: Array) -> Array:
    if isinstance(actions, Discrete):
        return optax.softmax_cross_entropy(guess, code(actions, action)).mean()
    return ((guess - code(actions, action)) ** 2).mean()


def _normalized(torso: str, hidden: tuple[int, ...], dim: int, activation: str) -> Network:
    net, norm = network(torso, hidden, dim, 1.0, activation), nn.LayerNorm(use_bias=False, use_scale=False)
    return Network(net.init, lambda params, obs: norm.apply({}, net.apply(params, obs)))
