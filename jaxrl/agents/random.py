"""Uniformly random actions: the control of every agent, and the policy that warms up normalisers."""

import jax

from jaxrl.types import Agent, Box, Discrete


def random(*, actions: Discrete | Box) -> Agent:
    """Uniform over `actions`, standard normal where a Box is unbounded. No state, no memory, learns nothing."""

    def act(key, state, memory, obs, first):
        num_envs = first.shape[0]
        if isinstance(actions, Discrete):
            return (), jax.random.randint(key, (num_envs,), 0, actions.n), ()
        shape = (num_envs, *actions.shape)
        if abs(actions.low) == float("inf") or abs(actions.high) == float("inf"):
            return (), jax.random.normal(key, shape), ()
        return (), jax.random.uniform(key, shape, minval=actions.low, maxval=actions.high), ()

    return Agent(lambda key, example: ((), ()), act, lambda key, state, rollout, rewards: (state, {}))
