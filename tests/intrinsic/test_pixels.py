"""Bonuses on pictures: convolutions learn from MinAtar's planes and from 64 x 64 colours, and vectors are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch, world

from jaxrl.errors import UserError
from jaxrl.intrinsic import CATALOGUE
from jaxrl.intrinsic.expression import build, parse
from jaxrl.signatures import signature
from jaxrl.sweep import sweep

T, N = 4, 2
NAMES = ("rnd", "icm", "e3b", "ngu", "ride")
SMALL = {"torso": "conv", "dim": 4, "hidden": (8,), "minibatches": 1, "lr": 1e-2}


@pytest.fixture(autouse=True)
def quick_initialisers(monkeypatch):
    # Compiling the orthogonal ones, which other tests cover, took two thirds of the time.
    monkeypatch.setattr("jaxrl.networks.orthogonal", lambda scale=1.0: jax.nn.initializers.he_normal())


def pictures(kind):
    """Six observations: MinAtar's are float32 zeros and ones, colours are uint8."""
    rng = np.random.default_rng(0)
    if kind == "minatar":
        return rng.integers(0, 2, (6, 10, 10, 4)).astype(np.float32)
    return rng.integers(0, 256, (6, 64, 64, 3)).astype(np.uint8)


def bonus_of(name):
    return build(parse(name), {f"{name}.{key}": value for key, value in SMALL.items()}, actions=ACTIONS)


def kernels(state):
    """Kernels of convolutions, ``[height, width, in, out]``."""
    return [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 4]


@pytest.mark.parametrize("kind", ["minatar", "colours"])
@pytest.mark.parametrize("name", NAMES)
def test_convolutions_see_the_picture_and_learn(name, kind):
    observations = pictures(kind)
    batch = fake_batch(jax.random.key(0), T, N, observations)
    other = batch._replace(next_obs=batch.next_obs.at[-1, 0, :3, :3].set(1))  # one corner of one picture
    reward = bonus_of(name)

    label = jax.jit(lambda state, memory, batch: reward.label(state, memory, batch)[1:])
    state, memory = jax.jit(reward.init)(jax.random.key(0), example(N, observations))
    bonus, trace = label(state, memory, batch)
    learned, _ = jax.jit(reward.update)(jax.random.key(1), state, memory, batch, trace)
    same, changed = label(learned, memory, batch)[0], label(learned, memory, other)[0]
    assert bonus.shape == (T, N) and bonus.dtype == jnp.float32
    assert np.isfinite(bonus).all() and np.isfinite(same).all() and (np.asarray(same) != bonus).any()
    assert same[-1, 0] != changed[-1, 0]
    before, after = kernels(state), kernels(learned)
    first = (3, 3, 4, 32) if kind == "minatar" else (8, 8, 3, 32)
    assert sum(kernel.shape == first for kernel in before) >= 1
    moved = [float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True)]
    # Adam's moments have the shape of a kernel, too; weights start beyond 0 and take a step of about lr.
    weights = [change for change, kernel in zip(moved, before, strict=True) if np.abs(kernel).max() > 0]
    assert any(1e-3 < change < 0.1 for change in weights)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_torso_refuses_a_vector(name):
    assert signature(CATALOGUE[name]).static["torso"] == "mlp"
    with pytest.raises(UserError, match=r"torso 'conv' needs observations \[H, W, C\], not shape \(6,\)"):
        jax.eval_shape(bonus_of(name).init, jax.random.key(0), example(N, world()))


def test_a_run_with_a_picture_torso_on_a_vector_ends_before_it_begins(tmp_path):
    fields = {"env": "probe/chain", "bonus": "rnd(torso=conv)", "steps": 64, "num_envs": 4, "num_steps": 8}
    with pytest.raises(UserError, match="torso 'conv' needs observations"):
        sweep(tmp_path, **fields)
    assert not list(tmp_path.rglob("*.parquet"))
