"""Disagreement: exploration via disagreement (Pathak, Gandhi and Gupta 2019, arXiv:1906.04161).

    b(s, a) = mean over features of Var_k [f_k(phi(s), a)]        population variance over K forward models
    loss    = sum over k of mean |f_k(phi(s), a) - phi(s')|^2     phi never learns

What cannot be predicted is not paid for ever: on noise the models agree on the mean, where the error of one model
stays (see `icm`). They differ by their initial values and by the samples that each leaves out (`keep`).

The bonus is a function of (s, a) alone: it may be asked of actions that nobody took. With `members=10` and the
bonus as the only reward (`streams="only"`) it is the intrinsic reward of Plan2Explore (Sekar et al. 2020,
arXiv:2005.05960), an ensemble of one-step heads, used without planning: there the policy learns in the imagination of
a recurrent world model, here from what happened.

Departures: models are MLPs of one hidden layer that take the action once (released code: four residual blocks, the
action at every layer); `whiten` takes the moments of each coordinate, updated with every rollout (released code: one
scalar deviation, of 10,000 random steps); the ensemble takes its own Adam steps instead of sharing the policy's; the
transition that ends an episode has its true successor (released code: the reset observation). Without reset
observations there is no reason to mask.

Kind: lifelong.
Memory: 4 bytes, the running return.
Knows: forward models and observation moments as of before the batch; the scale includes
the batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from jaxrl.errors import UserError
from jaxrl.intrinsic.features import unlearned, with_action
from jaxrl.intrinsic.normalize import normalize_obs, normalize_return
from jaxrl.networks import mean_gradient, network, over
from jaxrl.shuffle import passes
from jaxrl.types import Box, Discrete, Features, IntrinsicReward, PyTree


def disagreement(
    lr=1e-4,  # Adam step size of the forward models
    keep=0.8,  # chance that a model learns from a sample
    discount=0.99,  # of the running return whose deviation scales the bonus
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    actions: Discrete | Box,
    members=5,  # forward models; Plan2Explore takes 10
    features="random",  # what they predict: a random network's outputs, or the raw observation
    whiten=True,  # whiten observations
    scale=True,  # divide by the deviation of the running discounted bonus
    dim=64,  # outputs of the random network
    hidden=(64,),  # hidden widths of the random network
    width=256,  # hidden units of each forward model
    torso="mlp",  # of the random network: mlp, or conv for [H, W, C] observations
    epochs=1,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Variance of `members` predictions of the features of next_obs, ``[T, N]`` float32, which reads obs and action.

    State: models, Adam, moments. Memory: the running return of each environment, which never resets. Metric:
    `disagreement/loss`, the models' mean squared error. Raises UserError if there are fewer than two members.
    """
    if members < 2:
        raise UserError(f"disagreement.members = {members}: at least two models are needed to disagree")

    def variance(guesses, there):
        return guesses.var(0).mean(-1)

    embedding = unlearned(features, dim=dim, hidden=hidden, torso=torso)
    reward = forward_models(
        "disagreement", embedding, variance, lr, keep,
        actions=actions, members=members, width=width, epochs=epochs, minibatches=minibatches,
    )  # fmt: skip
    reward = normalize_obs(reward, clip) if whiten else reward
    return normalize_return(reward, discount) if scale else reward


class ForwardModelsState(NamedTuple):
    embedding: PyTree  # never learns
    models: PyTree  # [K, ...]
    adam: PyTree  # optax state


def forward_models(
    name: str,
    features: Features,
    pays: Callable,
    lr,
    keep,
    *,
    actions: Discrete | Box,
    members: int,
    width: int,
    epochs: int,
    minibatches: int,
) -> IntrinsicReward:
    """What K = `members` models of the next features are worth: `pays(guesses[K, B, D], phi(next_obs)[B, D])`, ``[B]``.

    No memory. Metric: `NAME/loss`, the mean squared error over models, rows and features.
    """
    adam = optax.adam(lr)

    def model(phi):
        return network("mlp", (width,), phi.shape[-1], 1.0, "relu")

    def guess(models, phi, action):  # [K, B, D]
        given = with_action(actions, phi, action)
        return jax.vmap(model(phi).apply, (0, None))(models, given)

    def init(key, example):
        k_embedding, k_models = jax.random.split(key)
        embedding = features.init(k_embedding, example)
        phi = features.embed(embedding, example.obs[:1])
        given = with_action(actions, phi, example.action[:1])
        models = jax.vmap(model(phi).init, (0, None))(jax.random.split(k_models, members), given)
        return ForwardModelsState(embedding, models, adam.init(models)), ()

    def label(state, memory, batch):
        def judge(state, rows):
            obs, action, next_obs = rows
            here, there = features.embed(state.embedding, obs), features.embed(state.embedding, next_obs)
            return pays(guess(state.models, here, action), there), (here, there)

        bonus, pair = over(judge, 2)(state, (batch.obs, batch.action, batch.next_obs))
        return (), bonus, pair

    def loss(models, rows):
        here, there, action, share = rows  # [B, D], [B, D], [B, *A], [B, K]
        errors = ((guess(models, here, action) - there) ** 2).mean(-1)  # [K, B]
        # A sum over models, so that each takes the step it would take alone.
        return (share.T * errors).mean(1).sum(), errors.mean()

    def update(key, state, memory, batch, pair):
        def gradient_step(carry, rows):
            models, adam_state, key = carry
            key, k_kept = jax.random.split(key)
            kept = jax.random.bernoulli(k_kept, keep, (rows[0].shape[0], members))
            grads, value = mean_gradient(loss, models, (*rows, kept / keep))
            steps, adam_state = adam.update(grads, adam_state)
            return (optax.apply_updates(models, steps), adam_state, key), value

        k_passes, k_kept = jax.random.split(key)
        start = state.models, state.adam, k_kept
        (models, adam_state, _), values = passes(
            k_passes, gradient_step, start, (*pair, batch.action), epochs=epochs, minibatches=minibatches
        )
        return ForwardModelsState(state.embedding, models, adam_state), {f"{name}/loss": values.mean()}

    return IntrinsicReward(init, label, update)
