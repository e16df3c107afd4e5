"""The random agent is uniform and learns nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.agents.random import random
from jaxrl.types import Box, Discrete


def test_discrete_actions_are_uniform():
    _, action, _ = random(actions=Discrete(4)).act(jax.random.key(0), (), (), None, jnp.zeros(8000, bool))
    assert action.dtype == jnp.int32 and action.shape == (8000,)
    np.testing.assert_allclose(np.bincount(action, minlength=4) / 8000, 0.25, atol=0.025)


def test_box_actions_fill_the_box():
    _, action, _ = random(actions=Box(-2.0, 3.0, (2,))).act(jax.random.key(0), (), (), None, jnp.zeros(4000, bool))
    assert action.shape == (4000, 2) and action.dtype == jnp.float32
    assert action.min() >= -2 and action.max() <= 3
    np.testing.assert_allclose(
        np.quantile(action, [0.1, 0.5, 0.9], axis=0), np.array([[-1.5], [0.5], [2.5]]).repeat(2, 1), atol=0.15
    )


def test_it_learns_nothing():
    agent = random(actions=Discrete(2))
    assert agent.init(jax.random.key(0), None) == ((), ())
    assert agent.update(jax.random.key(0), (), None, None) == ((), {})
