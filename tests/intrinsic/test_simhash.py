"""Counts of hashed observations against sign vectors in a dictionary, and the autoencoder whose code may be hashed."""

from collections import Counter

import jax
import numpy as np
import optax
import pytest
from batches import example, fake_batch, world
from references import mlp, roll
from worlds import Corridor

from jaxrl.intrinsic import simhash as module
from jaxrl.intrinsic.simhash import simhash
from jaxrl.sweep import sweep

T, N = 8, 3
SMALL = {"bits": 16, "dim": 8, "hidden": (8,), "minibatches": 2}


def rollouts(count=3, observations=None):
    return [fake_batch(jax.random.key(i), T, N, observations, opens=i == 0) for i in range(count)]


def signs(projection, x):
    """One tuple of bits for each row of x: [T][N]."""
    return [[tuple(row) for row in rows] for rows in (x @ np.asarray(projection, np.float64).T > 0)]


def counted(visits, codes):
    """What the rows of a batch pay, by the visits before it; then they are visits too."""
    bonus = [[(visits[code] + 1) ** -0.5 for code in row] for row in codes]
    visits.update(code for row in codes for code in row)
    return bonus


def test_bonus_is_the_inverse_root_of_the_visits_to_the_signs_of_a_random_projection():
    batches = rollouts()
    bonuses, states, metrics = roll(simhash(bits=6), batches, example(N))
    assert states[0].projection.shape == (6, 6)
    visits = Counter()
    for batch, bonus, measured in zip(batches, bonuses, metrics, strict=True):
        codes = signs(states[0].projection, np.asarray(batch.next_obs, np.float64))
        np.testing.assert_allclose(bonus, counted(visits, codes), rtol=1e-6)
        assert measured["simhash/codes"] == len(visits)
    assert (bonuses[0] == 1.0).all() and max(visits.values()) > 5
    np.testing.assert_array_equal(states[0].projection, states[-1].projection)


def test_learned_codes_are_the_signs_of_the_projected_binary_code():
    """Codes of the encoder as of before the batch, of observations whitened by the earlier rollouts alone."""
    batches = rollouts(3, 3.0 + 2.0 * world())
    bonuses, states, _ = roll(simhash(1e-2, learned=True, **SMALL), batches, example(N))
    visits, seen = Counter(), []
    for bonus, state, batch in zip(bonuses, states, batches, strict=False):
        obs = np.asarray(batch.next_obs, np.float64)
        x = np.clip((obs - np.mean(seen, (0, 1))) / np.std(seen, (0, 1)) if seen else obs, -5.0, 5.0)
        unit = np.where(mlp(state.inner.params["encoder"], x) > 0, 1.0, -1.0)
        assert state.inner.projection.shape == (16, 8)
        np.testing.assert_allclose(bonus, counted(visits, signs(state.inner.projection, unit)), rtol=1e-6)
        seen.extend(obs)
    assert bonuses[-1].min() < 0.5


def test_the_autoencoder_reconstructs_and_pushes_its_units_to_0_and_1(monkeypatch):
    monkeypatch.setattr(module, "NOISE", 0.0)
    monkeypatch.setattr(module, "PUSH", 3.0)
    (batch,) = rollouts(1)
    reward = simhash(1e-2, learned=True, **{**SMALL, "hidden": (8, 5), "minibatches": 1})
    _, (before, after), (metrics,) = roll(reward, [batch], example(N))
    params, x = before.inner.params, np.asarray(batch.next_obs, np.float64)
    unit = 1.0 / (1.0 + np.exp(-mlp(params["encoder"], x)))
    error = ((mlp(params["decoder"], unit) - x) ** 2).mean()
    push = (np.minimum(unit, 1.0 - unit) ** 2).mean()
    np.testing.assert_allclose(metrics["simhash/loss"], error + 3.0 * push, rtol=1e-4)
    widths = {part: [net["params"][f"Dense_{i}"]["kernel"].shape[0] for i in range(3)] for part, net in params.items()}
    assert widths == {"encoder": [8, 5, 8], "decoder": [5, 8, 6]}  # hidden layers in reverse
    assert int(optax.tree_utils.tree_get(after.inner.adam, "count")) == 1


def test_noise_drives_the_units_to_0_and_1(monkeypatch):
    """Without the push, only noise does it: a decoder cannot read the middle of a unit that is disturbed."""
    monkeypatch.setattr(module, "PUSH", 0.0)
    batches = rollouts() * 60
    binary = {}
    for noise in (0.0, 1.0):
        monkeypatch.setattr(module, "NOISE", noise)
        _, states, metrics = roll(simhash(1e-2, learned=True, **{**SMALL, "minibatches": 1}), batches, example(N))
        white = (world() - world().mean(0)) / world().std(0)
        unit = 1.0 / (1.0 + np.exp(-mlp(states[-1].inner.params["encoder"], white)))
        binary[noise] = np.minimum(unit, 1.0 - unit).mean()
        assert metrics[-1]["simhash/loss"] < 0.5 * metrics[0]["simhash/loss"]
    assert binary[1.0] < 0.5 * binary[0.0]


def test_each_bit_more_tells_more_states_apart():
    observations = world(states=32)
    batches = rollouts(3, observations)
    met = len({x.tobytes() for batch in batches for x in np.asarray(batch.next_obs).reshape(-1, 6)})
    codes = []
    for bits in (1, 3, 64):
        _, _, metrics = roll(simhash(bits=bits), batches, example(N, observations))
        codes.append(float(metrics[-1]["simhash/codes"]))
    assert codes[0] <= 2 and codes[1] <= 8 and codes[0] < codes[1] < codes[2] == met


def test_learned_codes_see_what_a_large_constant_part_hides_from_static_ones():
    observations = world() + 1e4
    batches = rollouts(3, observations) * 10
    static, _, _ = roll(simhash(bits=16), batches, example(N))
    learned, states, _ = roll(simhash(3e-3, learned=True, **SMALL), batches, example(N))
    assert len(np.unique(static[-1])) == 1
    assert len(np.unique(learned[-1])) >= 5


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_a_novel_state_is_paid_more_than_seen_ones(magnitude, learned):
    observations = world(states=7, scale=magnitude)
    batches = [fake_batch(jax.random.key(i), T, N, observations[:-1]) for i in range(40)]
    test = fake_batch(jax.random.key(99), 16, N, observations)
    reward = simhash(3e-3, learned=learned, bits=32, dim=32, hidden=(16,), epochs=4, minibatches=2)
    bonuses, _, _ = roll(reward, [*batches, test], example(N))
    novel = np.asarray((test.next_obs == observations[-1]).all(-1))
    assert 0 < novel.sum() < 20
    assert bonuses[-1][novel].min() > 2 * bonuses[-1][~novel].mean()


def test_scaling_an_observation_changes_no_code():
    small, large = (rollouts(2, scale * world()) for scale in (1e-2, 1e2))
    a, b = (roll(simhash(), batches, example(N))[0] for batches in (small, large))
    np.testing.assert_array_equal(a, b)


def test_images_are_flattened_and_learned_codes_may_be_convolutional():
    pixels = np.random.default_rng(0).integers(0, 255, (7, 4, 4, 1), dtype=np.uint8)
    bonuses, states, metrics = roll(simhash(**SMALL), rollouts(2, pixels), example(N, pixels))
    assert states[-1].projection.shape == (16, 16) and bonuses[1].min() < 1.0 and set(metrics[0]) == {"simhash/codes"}
    reward = simhash(learned=True, torso="conv", **SMALL)
    state, memory = jax.eval_shape(reward.init, jax.random.key(0), example(N, pixels))
    batch = rollouts(1, pixels)[0]
    _, bonus, index = jax.eval_shape(reward.label, state, memory, batch)
    learned, _ = jax.eval_shape(reward.update, jax.random.key(0), state, memory, batch, index)
    assert bonus.shape == (T, N) and learned.inner.projection.shape == (16, 8)
    assert jax.tree.structure(learned) == jax.tree.structure(state)


@pytest.mark.slow
def test_it_solves_a_corridor_that_no_bonus_does_not_solve(tmp_path):
    """Static codes, and none; chosen on seeds 100 to 105, the seeds here are others."""
    curves = sweep(tmp_path, env=Corridor, grid={"bonus": ["none", "simhash"]}, seeds="0:8", steps=204_800, lr=1e-3)
    solved = curves["solved"].isel(iteration=-1).sum("seed")
    assert int(solved.sel(bonus="none")) == 0
    assert int(solved.sel(bonus="simhash")) >= 6
