"""One tiny program for all tests of lanes: four iterations of PPO with a count bonus that can be told to break."""

import jax.numpy as jnp
import pytest

from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.program import build
from jaxrl.types import IntrinsicReward

ITERATIONS = 4
TINY = {
    "env": "probe/chain",
    "num_envs": 4,
    "num_steps": 8,
    "steps": ITERATIONS * 4 * 8,
    "hidden": (8,),
    "epochs": 1,
    "minibatches": 2,
    "evals": 2,
    "eval_episodes": 2,
    "lr": 0.01,
}


def breaking(at=1e9) -> IntrinsicReward:
    """1 / sqrt(visits + 1) of the chain's position; NaN from iteration `at` on, counted from 1."""

    def init(key, example):
        return (jnp.float32(1), jnp.zeros(example.obs.shape[-1])), ()

    def label(state, memory, batch):
        iteration, visits = state
        bonus = 1 / jnp.sqrt(batch.next_obs @ visits + 1)
        return (), jnp.where(iteration >= at, jnp.nan, bonus), ()

    def update(key, state, memory, batch, trace):
        iteration, visits = state
        return (iteration + 1, visits + batch.next_obs.sum((0, 1))), {}

    return IntrinsicReward(init, label, update)


def tiny(**fields):
    """The spec of the tiny program, with `fields` on top."""
    return spec(**{**TINY, "bonus": breaking, **fields})


@pytest.fixture(scope="session")
def tiny_spec():
    return tiny


@pytest.fixture(scope="session")
def tiny_lanes():
    """Four lanes of one program, two values times two seeds."""
    return lanes(tiny(seeds=2, grid={"coef": (0.1, 1.0)}))


@pytest.fixture(scope="session")
def tiny_program(tiny_lanes):
    return build(tiny_lanes[0].program, tiny(seeds=1).objects)
