"""Exact planning in finite MDPs: values, occupancies, the optimal gain and regret, with no Monte-Carlo noise.

All functions are pure and take tables, so that ``jax.vmap`` solves thousands of MDPs at once. No linear solver is
called (batched LAPACK calls can deadlock the CPU backend): what has no last step is iterated to its fixed point.
Policies are action probabilities, ``[S, A]``, or ``[H, S, A]`` where they depend on time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UserError
from jaxrl.types import Array

_MOST_SWEEPS = 100_000  # of an iteration that has no last step


class TabularMDP(NamedTuple):
    """A finite MDP. Horizon or discount are arguments of the functions: the first is a scan's length, so not an array.

    Terminal states are absorbing and pay nothing.
    """

    P: Array  # [S, A, S] float32  P[s, a, s'] transition probabilities
    R: Array  # [S, A] float32  mean reward of action a in state s
    mu: Array  # [S] float32  distribution of the first state


def check(mdp: TabularMDP) -> None:
    """UserError unless the shapes agree and, where the tables are not traced, P and mu are probabilities."""
    S, A = np.shape(mdp.R) if np.ndim(mdp.R) == 2 else (-1, -1)
    if np.shape(mdp.P) != (S, A, S) or np.shape(mdp.mu) != (S,):
        raise UserError(
            f"an MDP needs P [S, A, S], R [S, A] and mu [S], not P {np.shape(mdp.P)}, R {np.shape(mdp.R)}, "
            f"mu {np.shape(mdp.mu)}"
        )
    for name, table in (("P", mdp.P), ("mu", mdp.mu)):
        if isinstance(table, jax.core.Tracer):
            continue
        entries = np.asarray(table)
        sums = entries.sum(-1)
        # The tolerance is that of float32 sums over thousands of states.
        if not (entries >= 0).all() or not np.allclose(sums, 1, atol=1e-4):
            raise UserError(
                f"{name} of an MDP must hold probabilities that sum to 1 over its last axis; the smallest entry is "
                f"{entries.min():g}, the sums lie between {sums.min():g} and {sums.max():g}"
            )


def optimal(mdp: TabularMDP, horizon: int) -> tuple[Array, Array]:
    """(V* ``[H + 1, S]``, Q* ``[H, S, A]``) with ``horizon`` steps to go at index 0; undiscounted."""

    def backward(value, _):
        Q = _backup(mdp, value)
        return Q.max(-1), (Q.max(-1), Q)

    last = jnp.zeros(mdp.R.shape[0])
    _, (values, Q) = jax.lax.scan(backward, last, None, horizon, reverse=True)
    return jnp.concatenate([values, last[None]]), Q


def evaluate(mdp: TabularMDP, policy: Array, horizon: int) -> tuple[Array, Array]:
    """(V ``[H + 1, S]``, Q ``[H, S, A]``) of ``policy`` over ``horizon`` steps; undiscounted."""

    def backward(value, probabilities):
        Q = _backup(mdp, value)
        value = (probabilities * Q).sum(-1)
        return value, (value, Q)

    last = jnp.zeros(mdp.R.shape[0])
    _, (values, Q) = jax.lax.scan(backward, last, _over_time(mdp, policy, horizon), reverse=True)
    return jnp.concatenate([values, last[None]]), Q


def optimal_discounted(mdp: TabularMDP, discount) -> tuple[Array, Array]:
    """(V* ``[S]``, Q* ``[S, A]``) for ``discount`` in [0, 1), which may be traced.

    Value iteration in float32 until it stands still, so exact to about 1e-7 / (1 - discount) of the largest value.
    """
    start = _lowest(mdp, discount)
    value = _fixed_point(lambda value: _backup(mdp, value, discount).max(-1), start)
    return value, _backup(mdp, value, discount)


def evaluate_discounted(mdp: TabularMDP, policy: Array, discount) -> tuple[Array, Array]:
    """(V ``[S]``, Q ``[S, A]``) of a stationary ``policy`` ``[S, A]``; exact as ``optimal_discounted`` is."""
    start = _lowest(mdp, discount)
    value = _fixed_point(lambda value: (policy * _backup(mdp, value, discount)).sum(-1), start)
    return value, _backup(mdp, value, discount)


def occupancy(mdp: TabularMDP, policy: Array, horizon: int) -> Array:
    """``[H, S, A]``: the probability to be in s and take a at each step; each step sums to 1, all to ``horizon``."""

    def forward(state, probabilities):
        pairs = state[:, None] * probabilities
        return jnp.einsum("sa,sat->t", pairs, mdp.P, precision="highest"), pairs

    return jax.lax.scan(forward, mdp.mu, _over_time(mdp, policy, horizon))[1]


def optimal_gain(mdp: TabularMDP, tolerance: float = 1e-6) -> Array:
    """The largest mean reward per step in the long run, ``[]``, of an MDP in which it is the same from every state.

    That is so where each state can be reached from each other (weakly communicating). Relative value iteration on the
    chain that stands still every second step on average, which has the same gain and no period (Puterman 1994,
    sections 8.5.4 and 8.5.5); it stops when the bounds on the gain are ``tolerance`` apart, or after 100,000 sweeps.
    """

    def sweep(carry):
        value, _, _, sweeps = carry
        after = (_backup(mdp, value).max(-1) + value) / 2
        change = 2 * (after - value)
        return after - after[0], change.min(), change.max(), sweeps + 1

    def unsettled(carry):
        _, low, high, sweeps = carry
        return (high - low > tolerance) & (sweeps < _MOST_SWEEPS)

    start = jnp.zeros(mdp.R.shape[0]), -jnp.float32(jnp.inf), jnp.float32(jnp.inf), 0
    _, low, high, _ = jax.lax.while_loop(unsettled, sweep, start)
    return (low + high) / 2


def greedy(Q: Array) -> Array:
    """The policy ``[..., S, A]`` that takes the best action of Q ``[..., S, A]``, the first of equals.

    Q of one step, kept for all, may be no good: with ample time left, waiting is as good as going.
    """
    return jax.nn.one_hot(Q.argmax(-1), Q.shape[-1])


def uniform(mdp: TabularMDP) -> Array:
    """The policy ``[S, A]`` that takes every action alike."""
    return jnp.full(mdp.R.shape, 1 / mdp.R.shape[1])


def at_start(mdp: TabularMDP, value: Array) -> Array:
    """Expected value of an episode, ``[]``, from V ``[S]``, or ``[H + 1, S]`` as ``optimal`` and ``evaluate`` give."""
    return mdp.mu @ (value[0] if value.ndim == 2 else value)


def regret(mdp: TabularMDP, policies: Array, horizon: int) -> Array:
    """Cumulative regret ``[K]`` after each of K episodes played with ``policies`` ``[K, S, A]`` or ``[K, H, S, A]``.

    Of the expected values, so without the noise of returns.
    """
    one = lambda policy: at_start(mdp, evaluate(mdp, policy, horizon)[0])
    return return_regret(mdp, jax.lax.map(one, policies), horizon)


def return_regret(mdp: TabularMDP, returns: Array, horizon: int) -> Array:
    """Cumulative regret ``[K]`` of the returns ``[K]`` of K episodes; noisy, so it may be negative."""
    best = at_start(mdp, optimal(mdp, horizon)[0])
    return jnp.cumsum(best - returns)


def _backup(mdp: TabularMDP, value: Array, discount=1.0) -> Array:
    return mdp.R + discount * jnp.einsum("sat,t->sa", mdp.P, value, precision="highest")


def _over_time(mdp: TabularMDP, policy: Array, horizon: int) -> Array:
    shape = (horizon, *mdp.R.shape)
    if policy.shape not in (shape, mdp.R.shape):
        raise UserError(f"a policy must be {mdp.R.shape} [S, A] or {shape} [H, S, A], not {policy.shape}")
    return jnp.broadcast_to(policy, shape)


def _lowest(mdp: TabularMDP, discount) -> Array:
    """A value below every policy's. From there iteration only rises, also in float32, so it comes to rest."""
    return jnp.full(mdp.R.shape[0], jnp.minimum(mdp.R.min(), 0.0) / (1 - discount))


def _fixed_point(update, start: Array) -> Array:
    def sweep(carry):
        _, value, sweeps = carry
        return value, update(value), sweeps + 1

    def moving(carry):
        before, value, sweeps = carry
        return (before != value).any() & (sweeps < _MOST_SWEEPS)

    return jax.lax.while_loop(moving, sweep, (start, update(start), 0))[1]
