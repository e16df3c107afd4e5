"""Uniformly random actions: the control of every agent, and the policy that warms up normalisers."""

from jaxrl.spaces import sample
from jaxrl.types import Agent, Box, Discrete


def random(*, actions: Discrete | Box) -> Agent:
    """Uniform over `actions`. No state, no memory, learns nothing."""

    def act(key, state, memory, obs, first):
        return (), sample(actions, key, first.shape), ()

    return Agent(lambda key, example: ((), ()), act, lambda key, state, rollout, rewards: (state, {}))
