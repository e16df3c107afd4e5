"""NovelD: a simple yet effective exploration criterion (Zhang et al. 2021; BeBold, arXiv:2012.08621).

    b = max(e(s') - alpha * e(s), 0) * [N_e(s') = 1]      e: novelty, |f - g|_2 of RND; N_e: visits in this episode
    bonus   b / std(F),  F_t = discount * F_{t-1} + b_t per environment, never reset

Pays for crossing from the familiar into the novel, once an episode. A composition of `difference`, `rnd` without its
scale, and `episodic_count(first_visit=True)`; alpha = 0 is gated RND.

Departures: e is the root of the mean, not of the sum, over outputs, a constant factor; the predictor learns by the
squared error (as in DEIR's port; released code: the norm itself); `whiten` replaces the encoder that the released code
copies from the policy's initial weights, and `whiten=False` shows the networks the observation as it is; counts are of
the agent's own observation, by a hash (released code: the full grid, which the agent does not see); the opening state
counts, unpaid (released code: it pays when it is met again); the true last observation of an episode is scored;
`scale` divides the product by its deviation, `scale=False` leaves the paper's.

Kind: composed.
Memory: 131,084 bytes, the tables of `episodic_count` and the running return.
Knows: the episode so far, networks and observation moments as of before the batch; the
scale includes the batch.
"""

import jax.numpy as jnp

from jaxrl.intrinsic.combine import difference, map_bonus, product
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.intrinsic.normalize import normalize_return
from jaxrl.intrinsic.rnd import rnd
from jaxrl.types import IntrinsicReward


def noveld(
    alpha=0.5,  # share of the novelty left behind that is subtracted
    lr=1e-4,  # Adam step size of the predictor
    discount=0.99,  # of the running return whose deviation scales the bonus
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    gate=True,  # pay a state at its first visit of the episode only
    root=True,  # novelty is the norm of the error, as in the released code; False: its square
    whiten=True,  # whiten observations
    scale=True,  # divide by the deviation of the running discounted bonus
    buckets=2**14,  # of the episodic count, a power of two
    dim=64,  # outputs of RND's networks
    hidden=(64, 64),  # hidden widths of both
    deeper=(),  # further hidden widths of the predictor
    activation="relu",
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes over a rollout
    minibatches=4,  # gradient steps per pass
) -> IntrinsicReward:
    """Positive part of the rise of RND's novelty from obs to next_obs, at first visits, ``[T, N]`` float32.

    State: RND's. Memory: `episodic_count`'s and the running return of each environment, which never resets. Metric:
    `rnd/loss`, with "0/" in front under the gate.
    """
    novelty = rnd(
        lr, clip=clip, whiten=whiten, scale=False, dim=dim, hidden=hidden, deeper=deeper, activation=activation,
        torso=torso, epochs=epochs, minibatches=minibatches,
    )  # fmt: skip
    novelty = map_bonus(novelty, jnp.sqrt) if root else novelty
    reward = difference(novelty, alpha)
    reward = product(reward, episodic_count(first_visit=True, buckets=buckets)) if gate else reward
    return normalize_return(reward, discount) if scale else reward
