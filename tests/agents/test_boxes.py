"""An agent learns in any box what it learns in [-1, 1]: the bounds are the environment's business."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.agents.ppo import ppo
from jaxrl.agents.ppo_rnn import ppo_rnn
from jaxrl.envs.contract import AutoReset
from jaxrl.intrinsic.none import none
from jaxrl.spaces import bounds
from jaxrl.trainers.on_policy import on_policy, summed_stream
from jaxrl.types import Box

STEPS, ENVS, ROLLOUT = 16_384, 32, 16
BOXES = [Box(10.0, 20.0, (1,)), Box(0.0, 255.0, (1,)), Box(-0.01, 0.01, (1,))]
PLANE = Box((10.0, -0.01), (20.0, 0.01), (2,))


class Target(AutoReset):
    """Pays 1 - |a - target| / (high - low), the mean over coordinates; the target lies at 7/10 of each side; one step.

    In Box(10, 20) that is 1 - |a - 17| / 10.
    """

    max_steps = 1

    def __init__(self, box):
        self.actions = box
        self.low, self.high = bounds(box)

    def reset_env(self, key, params):
        return jnp.ones(1), ()

    def step_env(self, key, state, action, params):
        side = self.high - self.low
        return jnp.ones(1), state, 1.0 - jnp.abs((action - self.low) / side - 0.7).mean(), True, False, {}


@functools.cache
def returns(box, agent=ppo):
    """Return of each iteration, ``[32]``."""
    task = envs.make(Target(box))
    streams, combine = summed_stream(0.0, 0.99)
    iterations = STEPS // (ENVS * ROLLOUT)
    learner = agent(streams, 3e-3, entropy=0.0, actions=task.actions, iterations=iterations, explore=True, hidden=(16,))
    trainer = on_policy(task, learner, none(), combine, num_envs=ENVS, num_steps=ROLLOUT)
    train = lambda key: jax.lax.scan(lambda state, _: trainer.step(state), trainer.init(key), None, iterations)
    return np.asarray(jax.jit(train)(jax.random.key(0))[1]["return"])


@pytest.mark.parametrize("agent", [ppo, ppo_rnn])
def test_one_coordinate(agent):
    expected = returns(Box(-1.0, 1.0, (1,)), agent)
    assert expected[0] < 0.65 and expected[-1] > 0.8
    for box in BOXES[:1] if agent is ppo_rnn else BOXES:
        np.testing.assert_allclose(returns(box, agent), expected, atol=0.01)


def test_bounds_that_differ_between_coordinates():
    expected = returns(Box(-1.0, 1.0, (2,)))
    assert expected[-1] > expected[0] + 0.15
    np.testing.assert_allclose(returns(PLANE), expected, atol=0.01)
