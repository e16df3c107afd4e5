"""Embeddings of observations: fixed functions, a frozen random network, or learned by inverse dynamics."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl.networks import network
from jaxrl.shuffle import passes
from jaxrl.types import Box, Discrete, Features, Key, PyTree


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
    discrete = isinstance(actions, Discrete)
    embedding = network(torso, hidden, dim, 1.0, activation)
    outputs = actions.n if isinstance(actions, Discrete) else actions.shape[0]
    head = network("mlp", (256,), outputs, 1.0, "relu")
    norm = nn.LayerNorm(use_bias=False, use_scale=False)
    adam = optax.adam(lr)

    def embed_with(params, obs):
        return norm.apply({}, embedding.apply(params, obs))

    def init(key: Key, example):
        k_embedding, k_head = jax.random.split(key)
        params = {
            "embedding": embedding.init(k_embedding, example.obs[:1]),
            "head": head.init(k_head, jnp.zeros((1, 2 * dim))),
        }
        return InverseDynamicsState(params, adam.init(params))

    def embed(state, obs):
        return embed_with(state.params["embedding"], obs)

    def loss(params, data):
        obs, next_obs, action = data  # [B, ...]
        pair = [embed_with(params["embedding"], x) for x in (obs, next_obs)]
        guess = head.apply(params["head"], jnp.concatenate(pair, -1))
        if discrete:
            return optax.softmax_cross_entropy(guess, jax.nn.one_hot(action, guess.shape[-1])).mean()
        return ((guess - action) ** 2).mean()

    def update(key: Key, state, batch):
        data = (batch.obs, batch.next_obs, batch.action)

        def gradient_step(state, minibatch):
            value, grads = jax.value_and_grad(loss)(state.params, minibatch)
            steps, adam_state = adam.update(grads, state.adam)
            return InverseDynamicsState(optax.apply_updates(state.params, steps), adam_state), value

        state, values = passes(key, gradient_step, state, data, epochs=epochs, minibatches=minibatches)
        return state, {"inverse_dynamics/loss": values.mean()}

    return Features(init, embed, update)
