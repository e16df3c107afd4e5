"""Exported policies act as stored ones do, without jaxrl, and hold nothing that optimises them."""

import ast
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxrl.envs import AutoReset, Box, Discrete
from jaxrl.errors import UserError
from jaxrl.moments import merge
from jaxrl.spec.settings import settings
from jaxrl.spec.spec import spec
from jaxrl.sweep import exported
from jaxrl.sweep.policy import Policy
from jaxrl.sweep.program import build
from jaxrl.trainers.rollout import example_of

N = 5


class Vector(AutoReset):
    actions, max_steps = Discrete(3), 4
    shape, dtype, top = (2, 3), jnp.float32, 3.0

    def reset_env(self, key, params):
        return jnp.zeros(self.shape, self.dtype), 0

    def step_env(self, key, state, action, params):
        return jnp.zeros(self.shape, self.dtype), state + 1, 0.0, False, state >= 3, {}


class Arm(Vector):
    actions = Box((-2.0, 10.0), (2.0, 20.0), (2,))


class Picture(Vector):
    shape, dtype, top = (7, 6, 2), jnp.uint8, 255


class Grid(Vector):
    shape, dtype, top = (4, 4, 3), jnp.uint8, 11


CASES = {
    "mlp": dict(env=Vector, normalize_obs=True),
    "relu, a box": dict(env=Arm, activation="relu", hidden=(8,)),
    "conv": dict(env=Picture, torso="conv"),
    "symbolic": dict(env=Grid, torso="symbolic"),
    "recurrent": dict(env=Vector, agent="ppo_rnn", width=5, normalize_obs=True),
    "recurrent, a box": dict(env=Arm, agent="ppo_rnn", width=5, hidden=(8, 4), activation="elu"),
    "recurrent without the action before": dict(env=Picture, agent="ppo_rnn", width=5, previous=False, torso="conv"),
}


def policy_of(fields, key):
    """A policy with random weights and moments, and the static fields of its program."""
    made = spec(**{"hidden": (8, 6), **fields})
    static, points = next(settings(made))
    task_class = fields["env"]
    one = build(static, made.objects).make({name: jnp.float32(value) for name, value in points[0].items()})
    state, _ = one.greedy.init(key, example_of(one.task, N))
    leaves, tree = jax.tree.flatten(state.params)
    keys = jax.random.split(key, len(leaves))
    state = state._replace(
        params=jax.tree.unflatten(tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]),
        moments=merge(state.moments, seen(task_class, key, 50)),
    )
    fresh = lambda num_envs: one.greedy.init(key, example_of(one.task, num_envs))[1]
    return Policy(one.task, one.greedy, state, fresh), static


def seen(environment, key, rows):
    drawn = jax.random.uniform(key, (rows, *environment.shape), maxval=environment.top)
    return drawn.astype(environment.dtype)


def actions_of(act, obs, first, reward):
    """What the exported lines do, step after step."""
    made = runpy.run_path(str(act))
    if "start" not in made:
        return [made["act"](one) for one in obs]
    memory, actions = made["start"](N), []
    for one, begins, earned in zip(obs, first, reward, strict=True):
        memory, action = made["act"](memory, one, begins)
        memory = (*memory[:2], earned)
        actions.append(action)
    return actions


@pytest.mark.parametrize("name", CASES)
def test_what_is_exported_acts_as_the_policy(tmp_path, key, name):
    fields = CASES[name]
    policy, static = policy_of(fields, key)
    act = exported.write(policy, static, tmp_path / "out", "A policy.")
    assert act == tmp_path / "out" / "act.py" and act.read_text().startswith('"""A policy.\n')
    steps = 3
    obs = np.stack([seen(fields["env"], jax.random.fold_in(key, t), N) for t in range(steps)])
    first = np.array([[True] * N, [False] * N, [True, False, False, True, False]])
    reward = np.linspace(-1, 1, steps * N, dtype=np.float32).reshape(steps, N)
    memory, expected = policy.memory(N), []
    for t in range(steps):
        memory, action, _ = policy.agent.act(key, policy.state, memory, obs[t], first[t])
        memory = policy.agent.observe(memory, reward[t])
        expected.append(action)
    found = np.stack(actions_of(act, obs, first, reward))
    assert len(np.unique(found)) > 1
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_lines_need_no_jaxrl(tmp_path, key):
    policy, static = policy_of(CASES["mlp"], key)
    exported.write(policy, static, tmp_path / "out", "A policy.")
    script = (
        "import runpy, sys, numpy; print(runpy.run_path('out/act.py')['act'](numpy.zeros((2, 2, 3))).shape); "
        "assert not {name.partition('.')[0] for name in sys.modules} & {'jaxrl', 'flax', 'optax'}"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "(2,)\n", done.stderr


def test_a_title_stays_words(tmp_path, key):
    policy, static = policy_of(CASES["mlp"], key)
    act = exported.write(policy, static, tmp_path / "out", 'An """\nimport this_is_run\n""" \\')
    tree = ast.parse(act.read_text())
    assert ast.get_docstring(tree).startswith("An ????import this_is_run????")
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import) and "this_is_run" in ast.unparse(node)]


def test_weights_without_the_optimiser_and_nothing_is_overwritten(tmp_path, key):
    policy, static = policy_of(CASES["mlp"], key)
    exported.write(policy, static, tmp_path / "out", "A policy.")
    names = set(safetensors.numpy.load_file(tmp_path / "out" / "weights.safetensors"))
    dense = {f"{net}/Dense_{i}/{part}" for net in ("actor", "critic") for i in range(3) for part in ("kernel", "bias")}
    assert names == dense | {"obs/mean", "obs/deviation"}
    lines = (tmp_path / "out" / "act.py").read_text().partition("def act")[2].splitlines()
    assert len(lines) <= 10
    with pytest.raises(UserError, match="weights.safetensors is there already"):
        exported.write(policy, static, tmp_path / "out", "A policy.")
