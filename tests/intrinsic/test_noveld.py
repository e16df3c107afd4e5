"""NovelD against NumPy networks and visit tables, its switches, and what it makes of PPO."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import example, fake_batch, world
from references import episodic as episodes_of
from references import mlp, roll
from transitions import scaled, whitened
from worlds import Corridor

from jaxrl.intrinsic.noveld import noveld
from jaxrl.sweep import sweep

T, N = 8, 3
SMALL = {"dim": 4, "hidden": (8,), "minibatches": 2, "buckets": 2**10}


def two_rollouts(observations=None):
    return [fake_batch(jax.random.key(i), T, N, observations, opens=i == 0) for i in range(2)]


def novelty(state, obs):
    """Norm of the error over the root of its width."""
    return np.sqrt(((mlp(state.predictor, obs) - mlp(state.target, obs)) ** 2).mean(-1))


def first_visit(past, x):
    return float(not any((x == y).all() for y in past))


@pytest.mark.parametrize("switches", [True, False])
def test_bonus_is_the_rise_of_novelty_at_the_first_visit_of_the_episode(switches):
    """With every ingredient, and with none: no gate, squared errors, observations as they are, no scale."""
    batches = two_rollouts(3.0 + 2.0 * world())
    alpha, gates = (0.5 if switches else 1.0), episodes_of(batches, first_visit)
    assert all(0 < gate.mean() < 1 for gate in gates)
    reward = noveld(
        alpha, 1e-2, 0.9, 1.0, gate=switches, root=switches, whiten=switches, scale=switches, **SMALL
    )  # fmt: skip
    bonuses, states, _ = roll(reward, batches, example(N))
    raws, clipped = [], 0
    for i, batch in enumerate(batches):
        networks = states[i].inner[0].inner if switches else states[i]  # inside the scale, the product, the whitening
        obs, next_obs = whitened(batches, 1.0)[i] if switches else (batch.obs, batch.next_obs)
        there, here = (novelty(networks, x) ** (1 if switches else 2) for x in (next_obs, obs))
        raws.append(np.maximum(there - alpha * here, 0.0) * (gates[i] if switches else 1.0))
        clipped += (there < alpha * here).sum()
    for bonus, expected in zip(bonuses, scaled(raws, 0.9) if switches else raws, strict=True):
        np.testing.assert_allclose(bonus, expected, rtol=2e-3, atol=1e-5)
    assert switches or clipped > 0


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_the_frontier_pays_once_and_in_one_direction(magnitude):
    # The last state is in no rollout that was learned from, but well inside the box of those that were.
    observations = world(states=7, scale=magnitude)
    observations[-1] = 0.1 * magnitude
    batches = [fake_batch(jax.random.key(i), 16, 4, observations[:-1]) for i in range(80)]
    path = np.array([0, 1, 6, 2, 6, 3])  # the frontier is crossed at steps 1 and 3, and left at 2 and 4
    test = jax.tree.map(lambda x: x[:5], batches[0])._replace(
        obs=jnp.broadcast_to(observations[path[:-1], None], (5, 4, 6)),
        next_obs=jnp.broadcast_to(observations[path[1:], None], (5, 4, 6)),
        first=jnp.broadcast_to(jnp.arange(5)[:, None] == 0, (5, 4)),
    )
    settings = {"dim": 16, "hidden": (32,), "minibatches": 2, "scale": False}
    reward = noveld(0.5, 3e-3, **settings)
    _, states, _ = roll(reward, batches, example(4))
    _, memory = jax.jit(reward.init)(jax.random.key(0), example(4))
    paid = np.asarray(jax.jit(reward.label)(states[-1], memory, test)[1])
    assert paid[1].min() > 3 * paid[[0, 2, 4]].max() and (paid[[2, 3, 4]] == 0).all()
    ungated = noveld(0.5, 3e-3, gate=False, **settings)
    again = np.asarray(jax.jit(ungated.label)(states[-1][0], (), test)[1])
    np.testing.assert_allclose(again[1], paid[1], rtol=1e-5)
    assert (again[3] > 0.8 * again[1]).all() and (again[[2, 4]] == 0).all()


@pytest.mark.slow
def test_noveld_solves_the_corridor_and_its_gate_hastens_it(tmp_path):
    """Chosen on seeds 100 to 103; PPO alone solves it never (tests/test_learning.py)."""
    bonuses = ["noveld(lr=0.001)", "noveld(gate=False, lr=0.001)"]
    curves = sweep(tmp_path, env=Corridor, grid={"bonus": bonuses}, seeds="0:8", steps=204_800, lr=1e-3, num_steps=64)
    final = curves.isel(iteration=-1)
    assert int(final["solved"].sel(bonus=bonuses[0]).sum()) >= 6, final["solved"].sum("seed")
    gated, ungated = (float(final["first_visit"].sel(bonus=bonus).mean()) for bonus in bonuses)
    assert gated < 0.7 * ungated, (gated, ungated)  # environment steps until a cell was first acted in, mean over cells
