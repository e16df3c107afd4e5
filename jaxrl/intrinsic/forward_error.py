"""forward_error: squashed error of a forward model, SelMo's curiosity (Groth et al. 2021, arXiv:2109.08603).

    bonus = tanh(eta * mean_j (f(s, a) - s')_j^2)        f a forward model of the whitened observation itself

Bounded, so that no transition outweighs all others; choose eta such that early in training the median bonus is about
0.3 (`forward_error/saturated` is the share above 0.95, where more error pays no more). Every coordinate of the
observation is whitened first: otherwise the one of the largest scale would be all of the curiosity.

The paper's agent is the trainer `selmo` with this bonus. Being positive it also pays for staying alive, where episodes
end early: compare with an environment, or a `bonus_episodic=False`, that does not let it.

Departures: the mean over coordinates where the paper has the sum, so that eta does not depend on how many there are
(eta = D times the paper's); f has one hidden layer and learns from the rollout that was just labelled, where the paper
samples a short replay of new trajectories; bonuses are therefore never stale. Sizes and rates are ours: the paper's
were not available to us.

Kind: lifelong.
Memory: none.
Knows: the forward model and the observation moments as of before the batch.
"""

import jax.numpy as jnp

from jaxrl.intrinsic.disagreement import forward_models
from jaxrl.intrinsic.features import identity
from jaxrl.intrinsic.normalize import normalize_obs
from jaxrl.types import Box, Discrete, IntrinsicReward

SATURATED = 0.95


def forward_error(
    eta=0.2,  # scale of the squared error inside tanh
    lr=3e-4,  # Adam step size of the forward model
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    actions: Discrete | Box,
    width=256,  # hidden units of the forward model
    epochs=4,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Squashed error of a model's prediction of next_obs from obs and action, ``[T, N]`` float32 in [0, 1).

    State: the model, Adam, moments. No memory. Metrics: `forward_error/loss`, the mean squared error over coordinates,
    and `forward_error/saturated`.
    """

    def squashed(guesses, there):  # [1, B, D], [B, D]
        return jnp.tanh(eta * ((guesses[0] - there) ** 2).mean(-1))

    reward = forward_models(
        "forward_error", identity(), squashed, lr, 1.0,
        actions=actions, members=1, width=width, epochs=epochs, minibatches=minibatches,
    )  # fmt: skip
    return normalize_obs(_with_saturation(reward), clip)


def _with_saturation(reward: IntrinsicReward) -> IntrinsicReward:
    def label(state, memory, batch):
        memory, bonus, trace = reward.label(state, memory, batch)
        return memory, bonus, ((bonus > SATURATED).mean(), trace)

    def update(key, state, memory, batch, trace):
        saturated, trace = trace
        state, metrics = reward.update(key, state, memory, batch, trace)
        return state, {**metrics, "forward_error/saturated": saturated}

    return IntrinsicReward(reward.init, label, update)
