"""What somebody's own environment, bonus or agent gets wrong is a sentence before anything is compiled."""

import jax.numpy as jnp
import pytest

from jaxrl.agents.random import random
from jaxrl.envs import AutoReset
from jaxrl.envs.wrappers import Wrapper
from jaxrl.errors import UserError
from jaxrl.intrinsic.base import stateless
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes, programs
from jaxrl.sweep.program import build
from jaxrl.sweep.run import run
from jaxrl.types import Agent, Discrete, IntrinsicReward


class Strict(AutoReset):
    actions, max_steps = Discrete(2), 4

    def reset_env(self, key, params):
        return jnp.zeros(3), 0

    def step_env(self, key, state, action, params):
        reward = 1.0 if action == 1 else 0.0
        return jnp.zeros(3), state + 1, reward, False, state >= 3, {}


class Doubled(Wrapper):
    remembers = False

    def step_env(self, key, state, action, params):
        obs, state, reward, *rest = self.env.step_env(key, state, action, params)
        return obs, state, jnp.zeros(2), *rest


def doubled(env):
    return Doubled(env)


def three(scale=1.0):
    return stateless(lambda batch: scale * jnp.ones(3))


def forgetful(rate=0.1):
    def init(key, example):
        return jnp.zeros(4), ()

    return IntrinsicReward(init, lambda s, m, b: (m, b.reward, ()), lambda k, s, m, b, t: (s[:3], {}))


def missing(scale=1.0):
    stateless(lambda batch: scale * batch.reward)


def counted(scale=1.0):
    """Its metric is a Python number, which is a scalar too."""
    update = lambda key, state, memory, batch, trace: ((), {"counted/one": 1.0})
    return stateless(lambda batch: scale * batch.reward)._replace(update=update)


def still(lr=0.1, *, actions):
    return Agent(
        lambda key, example: ((), ()), lambda key, s, m, obs, first: (m, jnp.int32(0), ()), lambda k, s, r, w: (s, {})
    )


def blind(lr=0.1, *, actions):
    return random(actions=actions)._replace(update=lambda key, state, rollout, rewards: state["seen"])


FAULTS = {
    "environment": ({"env": Strict}, "environment 'Strict' breaks the contract: step_env failed in .*`reward = 1.0 if"),
    "wrapper": ({"wrap": (doubled,)}, r"environment 'probe/chain' .*: step_env: reward is float32\[2\], it must be a"),
    "bonus": ({"bonus": three}, r"bonus 'three': the bonus from label is float32\[3\], it must be float32\[8, 4\]"),
    "bonus in a product": (
        {"bonus": "count * three", "own": [three]}, r"bonus 'three': the bonus from label is float32\[3\]"),
    "state": (
        {"bonus": forgetful}, r"bonus 'forgetful': the state is float32\[4\] from init and float32\[3\] from update"),
    "factory": ({"bonus": missing}, "bonus 'missing' must return a jaxrl.types.IntrinsicReward, and returned None"),
    "agent": ({"agent": still}, r"agent 'still': the action from act is int32\[\], it must be int32\[4\]"),
    "update of the agent": ({"agent": blind}, "agent 'blind': update failed in .*test_user_code.py, line .*TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_sweep_refuses_it_before_anything_is_compiled(tmp_path, monkeypatch, what):
    fields, sentence = FAULTS[what]
    small = {"env": "probe/chain", "num_envs": 4, "num_steps": 8, "steps": 32}
    made = spec(**{**small, **fields})
    monkeypatch.setattr("jaxrl.sweep.run.compile_chunk", lambda *arguments: pytest.fail("compiled"))
    with pytest.raises(UserError, match=f"^{sentence}"):
        run(made, tmp_path)


def test_a_metric_may_be_a_number_of_python(tiny_spec, tmp_path):
    done = run(tiny_spec(bonus=counted, evals=0), tmp_path)
    assert done.chunks and not done.diverged


def test_every_trainer_and_agent_of_ours_passes(tiny_spec):
    for fields in (
        {"bonus": "rnd"},
        {"bonus": "rnd", "streams": "only", "agent": "ppo_rnn", "epochs": 1},
        {"bonus": "forward_error", "trainer": "selmo", "selmo.snapshots": 2},
        {"bonus": "count", "wrap": ["noisy_tv"], "params.channels": 2},
    ):
        ((static, group),) = programs(lanes(tiny_spec(**{"bonus": "none", **fields})))
        build(static).check(group[0].values)
