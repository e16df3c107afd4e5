"""SOFE: the counts behind a bonus, shown to the policy (Creus Castanyer, Romoff and Berseth 2024, arXiv:2310.18144).

A count or elliptical bonus pays by a history that the policy cannot see: to the policy its reward is not stationary.
It is once the observation holds what the bonus is computed from. Shown are, of the episode so far,

    counts      visits n of each named state (`num_states`)
    hashed      visits n of each bucket: the table of the bonus episodic_count(buckets=B)
    ellipsoid   n_i = 1 / (C^-1)_ii - ridge: of the covariance that e3b(features=projection, dim=D, ridge=...) pays by

each as log(1 + n) / log(1 + limit) and as 1 - 1 / sqrt(n + 1), then t / limit, so that what is left of a finite
horizon is known too. All count the observation they are shown with: an episode opens with one visit of its first state.

Departures: of C^-1 the diagonal only, in units of visits, because D^2 numbers are many; the encodings are those that
reproductions use, the paper's own are not known to us (from 1 - ..., what was never visited is 0); nothing is shared
between environments or kept over episodes, which the paper also does. The learned features of `e3b` are the bonus's
own and cannot be shown.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import step_limit
from jaxrl.envs.params import Around
from jaxrl.envs.wrappers import CHOICES
from jaxrl.envs.wrappers.observations import flatten
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.errors import UserError, unknown
from jaxrl.intrinsic.e3b import diagonal, elliptical, projected
from jaxrl.intrinsic.hashing import bucket
from jaxrl.keys import key_of
from jaxrl.types import Array, Episodic, PyTree


def augment_obs(
    env,
    ridge=0.1,  # of ellipsoid: its lambda
    *,
    statistic="counts",  # counts of the named states, hashed counts of observations, or ellipsoid
    buckets=256,  # of hashed: a power of two
    dim=32,  # of ellipsoid: features
    time=True,  # show the share of the step limit that has passed, too
) -> Wrapper:
    """Observations become float32 ``[D + 2 n (+ 1)]``: the environment's, flattened, then what is counted, then time.

    Bonuses see the environment's own observation, in its shape and dtype (`unaugmented`): a count of augmented ones
    would find everything new. So this wrapper must be the last one.
    """
    return AugmentObs(env, Ridge(ridge) if statistic == "ellipsoid" else None, statistic, buckets, dim, time)


@flax.struct.dataclass
class Ridge:
    ridge: Array | float


class Shown(NamedTuple):
    seen: PyTree  # [n] int32 visits, or the ellipsoid
    time: Array  # [] int32  steps since the reset


def visits(size: int) -> Episodic:
    """Visits ``[size]`` int32 of what int32 ``[]`` names; pays nothing."""
    met = lambda seen, x: seen.at[x].add(1, mode="drop")
    init = lambda x0: met(jnp.zeros(size, jnp.int32), x0)
    return Episodic(init, lambda seen, x: (met(seen, x), jnp.zeros(())), reset=lambda seen, x0: init(x0))


class AugmentObs(Wrapper):
    """The memory is `Shown`."""

    def __init__(self, env: Any, own: Any, statistic: str, buckets: int, dim: int, time: bool):
        super().__init__(env, own)
        if statistic not in CHOICES["statistic"]:
            raise unknown("augment_obs statistic", statistic, CHOICES["statistic"])
        if statistic == "counts" and self.num_states is None:
            raise UserError(
                f"augment_obs(statistic=counts) needs named states, which environment {type(env).__name__!r} has not: "
                "use augment_obs(statistic=hashed)"
            )
        self.statistic, self.dim, self.time = statistic, dim, time
        self.size = buckets if statistic == "hashed" else self.num_states or 0
        inner = self.inner_params(self.default_params)
        example = jax.eval_shape(lambda key: flatten(env.reset_env(key, inner)[0]), key_of(0))
        self.shape, self.dtype = example.shape, example.dtype

    def unaugmented(self, obs: Array) -> Array:
        """The environment's own observation in an augmented one, for any leading axes: what bonuses see."""
        size = int(np.prod(self.shape))
        return obs[..., :size].reshape(*obs.shape[:-1], *self.shape).astype(self.dtype)

    def reset_env(self, key, params):
        obs, inner = self.env.reset_env(key, self.inner_params(params))
        shown = Shown(self.rule(params).init(self.named(obs, inner, params)), jnp.int32(0))
        return self.augmented(obs, shown, params), Around(shown, inner)

    def step_env(self, key, state, action, params):
        obs, inner, *rest = self.env.step_env(key, state.inner, action, self.inner_params(params))
        seen, _ = self.rule(params).step(state.own.seen, self.named(obs, inner, params))
        shown = Shown(seen, state.own.time + 1)
        return self.augmented(obs, shown, params), Around(shown, inner), *rest

    def rule(self, params: Any) -> Episodic:
        if self.statistic == "ellipsoid":
            return elliptical(params.own.ridge)
        return visits(self.size)

    def named(self, obs: PyTree, inner: PyTree, params: Any) -> Array:
        """What is counted: a state's or a bucket's number, or features ``[dim]``."""
        if self.statistic == "counts":
            return self.env.state_id(inner, self.inner_params(params))
        obs = jnp.asarray(flatten(obs))
        return bucket(obs, self.size) if self.statistic == "hashed" else projected(obs, self.dim)

    def augmented(self, obs: PyTree, shown: Shown, params: Any) -> Array:
        n, limit = shown.seen, step_limit(self.env, self.inner_params(params))
        if self.statistic == "ellipsoid":
            n = jnp.maximum(1.0 / diagonal(shown.seen) - params.own.ridge, 0.0)
        parts = [jnp.asarray(flatten(obs)).reshape(-1).astype(jnp.float32), jnp.log1p(n) / jnp.log1p(limit)]
        parts += [1.0 - 1.0 / jnp.sqrt(n + 1.0), *([shown.time[None] / limit] if self.time else [])]
        return jnp.concatenate(parts)
