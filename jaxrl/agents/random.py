"""Uniformly random actions: the control of every agent, and the policy that warms up normalisers."""

import jax

from jaxrl.types import Agent, Box, Discrete


def random(*, actions: Discrete | Box) -> Agent:
    """Uniform over `actions`. No state, no memory, learns nothing."""

    def act(key, state, memory, obs, first):
        num_envs = first.shape[0]
        if isinstance(actions, Discrete):
            return (), jax.random.randint(key, (num_envs,), 0, actions.n), ()
        return (), jax.random.uniform(key, (num_envs, *actions.shape), minval=actions.low, maxval=actions.high), ()

    return Agent(lambda key, example: ((), ()), act, lambda key, state, rollout, rewards: (state, {}))
