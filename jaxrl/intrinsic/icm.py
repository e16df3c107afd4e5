"""ICM: curiosity by self-supervised prediction (Pathak, Agrawal, Efros and Darrell 2017, arXiv:1705.05363).

    e = 1/2 mean_j (f(phi(s), a) - phi(s'))_j^2        f a forward model in the space of phi          (eqs. 4 to 6)
    loss = inverse L_I + forward mean e                L_I: error of the action told from phi, phi'   (eqs. 2 and 7)
    bonus   e / std(F),  F_t = discount * F_{t-1} + e_t per environment, never reset

Both terms of the loss reach phi, so that phi keeps what tells actions apart and drops what cannot be predicted.
`features="random"` and "raw" are the baselines of Burda et al. 2018 (arXiv:1808.04355, with `whiten=True`): phi is a
frozen random network, or the observation itself, and only f learns, by the mean of e. Their error stays where the
world is random; that of learned features goes with the noise, unless actions can be told from it: an agent with a
remote control watches television.

Departures: squared errors are averaged over features where the paper sums them (its released code multiplies the
mean by 288): features here are layer-normalised, so their norm is sqrt(dim) and a sum would outweigh L_I; the scale of
the bonus is Burda's, `scale=False` leaves the paper's; Adam steps of its own at the end of each rollout, where the
paper shares the policy's; an episode's last transition counts, with its true successor; actions that are not discrete
are told by squared error.

Kind: lifelong.
Memory: 4 bytes, the running return.
Knows: networks and observation moments as of before the batch; the scale includes the
batch.
"""

from jaxrl.errors import unknown
from jaxrl.intrinsic.disagreement import forward_models
from jaxrl.intrinsic.features import HEAD, UNLEARNED, Dynamics, dynamics, unlearned
from jaxrl.intrinsic.normalize import normalize_obs, normalize_return
from jaxrl.networks import over
from jaxrl.types import Array, Box, Discrete, IntrinsicReward


def icm(
    lr=1e-4,  # Adam step size
    inverse=0.8,  # weight of the inverse loss, 1 - beta of the paper; features that learn only
    forward=0.2,  # weight of the forward loss, beta of the paper; features that learn only
    discount=0.99,  # of the running return whose deviation scales the bonus
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    actions: Discrete | Box,
    features="inverse",  # learned by inverse dynamics, or random or raw: not learned
    whiten=False,  # whiten observations
    scale=True,  # divide by the deviation of the running discounted bonus
    dim=64,  # features, unless raw
    hidden=(64,),  # hidden widths of the embedding
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Error of a forward model's prediction of phi(next_obs), ``[T, N]`` float32, scaled as above.

    State: networks, Adam, moments. Memory: the running return of each environment, which never resets. Metrics:
    `dynamics/inverse dynamics/forward icm/feature_variance` (over the batch, mean of the features; 0 when phi has
    collapsed), or `icm/loss` (twice the mean of e) where features are not learned.
    """
    if features not in (known := ("inverse", *UNLEARNED)):
        raise unknown("icm.features", features, known)
    if features == "inverse":
        reward = _with_learned_features(
            dynamics(
                lr, inverse, forward, half_squared,
                actions=actions, dim=dim, hidden=hidden, torso=torso, epochs=epochs, minibatches=minibatches,
            )
        )  # fmt: skip
    else:
        reward = forward_models(
            "icm", unlearned(features, dim=dim, hidden=hidden, torso=torso),
            lambda guesses, there: half_squared(guesses[0], there), lr, 1.0,
            actions=actions, members=1, width=HEAD, epochs=epochs, minibatches=minibatches,
        )  # fmt: skip
    reward = normalize_obs(reward, clip) if whiten else reward
    return normalize_return(reward, discount) if scale else reward


def half_squared(guess: Array, phi: Array) -> Array:
    """e of ``[B, D]`` and ``[B, D]``: ``[B]``."""
    return 0.5 * ((guess - phi) ** 2).mean(-1)


def _with_learned_features(model: Dynamics) -> IntrinsicReward:
    def init(key, example):
        return model.features.init(key, example), ()

    def label(state, memory, batch):
        def judge(state, rows):
            obs, action, next_obs = rows
            here, there = model.features.embed(state, obs), model.features.embed(state, next_obs)
            return half_squared(model.predict(state, here, action), there), there

        error, there = over(judge, 2)(state, (batch.obs, batch.action, batch.next_obs))
        return (), error, there.var((0, 1)).mean()

    def update(key, state, memory, batch, variance):
        state, metrics = model.features.update(key, state, batch)
        return state, {**metrics, "icm/feature_variance": variance}

    return IntrinsicReward(init, label, update)
