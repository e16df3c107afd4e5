"""Transitions for tests: a random walk over a few states, in episodes of several lengths that end in both ways."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Discrete, Transition

ACTIONS = Discrete(3)
STATES, OBS_SHAPE = 7, (6,)


def world(seed=0, *, states=STATES, shape=OBS_SHAPE, scale=1.0):
    """The observation of each state, ``[states, *O]`` float32."""
    return (scale * np.random.default_rng(seed).normal(size=(states, *shape))).astype(np.float32)


def example(num_envs, observations=None) -> Transition:
    """A Transition ``[N, ...]`` of zeros, in the shapes and dtypes of `fake_batch`."""
    observations = world() if observations is None else observations
    obs = jnp.zeros((num_envs, *observations.shape[1:]), observations.dtype)
    flags = jnp.zeros(num_envs, bool)
    return Transition(obs, jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs), obs, flags, flags, flags, ())


def fake_batch(key, num_steps, num_envs, observations=None, *, opens=True, longest=5) -> Transition:
    """A Transition ``[T, N, ...]`` that walks at random over the rows of `observations` (default: `world()`).

    Episodes last 2 to `longest` steps; in each environment they end in turn by termination and by truncation. Inside
    one, obs[t + 1] is next_obs[t]; after its end, obs[t + 1] is a reset observation, never next_obs[t]. `opens` says
    whether the batch starts with an episode or in the middle of one.
    """
    observations = world() if observations is None else observations
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    shape = (num_steps, num_envs)
    here, there, action = (np.zeros(shape, np.int32) for _ in range(3))
    terminated, truncated, first = (np.zeros(shape, bool) for _ in range(3))
    for n in range(num_envs):
        state, left, ends, opening = rng.integers(len(observations)), rng.integers(2, longest + 1), n, opens
        for t in range(num_steps):
            here[t, n], there[t, n], action[t, n] = state, rng.integers(len(observations)), rng.integers(ACTIONS.n)
            first[t, n], left = opening, left - 1
            opening = left == 0
            state = there[t, n]
            if opening:
                (terminated if ends % 2 else truncated)[t, n] = True
                ends += 1
                left = rng.integers(2, longest + 1)
                state = (state + rng.integers(1, len(observations))) % len(observations)
    reward = rng.normal(size=shape).astype(np.float32)
    fields = (observations[here], action, reward, observations[there], terminated, truncated, first)
    return Transition(*map(jnp.asarray, fields), ())


def circling(rng, num_steps, num_envs, observations, *, surprise=False) -> Transition:
    """A Transition ``[T, N, ...]`` in a world that can be predicted: six states in a circle, action a goes a on.

    Episodes of 8 steps open in random states; with `surprise` they end in a seventh.
    """
    shape = (num_steps, num_envs)
    time = np.broadcast_to(np.arange(num_steps)[:, None] % 8, shape)
    first, last = time == 0, time == 7
    opening, action, here = rng.integers(6, size=shape), rng.integers(ACTIONS.n, size=shape), np.zeros(shape, np.int32)
    for t in range(num_steps):
        here[t] = np.where(first[t], opening[t], (here[t - 1] + action[t - 1]) % 6)
    there = np.where(last & surprise, 6, (here + action) % 6)
    fields = (observations[here], action.astype(np.int32), np.zeros(shape, np.float32), observations[there])
    return Transition(*map(jnp.asarray, (*fields, last, np.zeros(shape, bool), first)), ())
