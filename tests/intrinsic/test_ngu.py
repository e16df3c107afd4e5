"""Never Give Up against NumPy: its episodic kernel, its life-long factor, its switches, and what it makes PPO solve."""

import re

import jax
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch, world
from references import layer_norm, mlp, roll
from worlds import Corridor

from jaxrl.errors import UserError
from jaxrl.intrinsic.ngu import ngu
from jaxrl.intrinsic.normalize import is_warmable
from jaxrl.sweep import sweep

T, N = 8, 3
SMALL = {"dim": 4, "hidden": (8,), "minibatches": 2, "actions": ACTIONS}
EPISODIC = {"modulate": False, **SMALL}
RAW = {"features": "raw", "modulate": False, "actions": ACTIONS}


def episodic(
    batches, embed, *, k, remembered=1000, epsilon=1e-4, cluster_distance=0.008, pseudo_count=0.001, max_similarity=8.0
):
    """The inverse root of the kernel's sum over the k nearest of this episode, one environment and step at a time.

    d_m^2 is the mean of every squared neighbour distance so far, those of this step, in all environments, included.
    """
    rows: dict = {}  # of each environment's episode, the opening one first
    total = count = 0.0
    out = []
    for batch in batches:
        bonus = np.zeros(batch.first.shape)
        for t in range(len(bonus)):
            near = []
            for n in range(bonus.shape[1]):
                if batch.first[t, n]:
                    rows[n] = [embed(batch.obs[t, n])]
                x = embed(batch.next_obs[t, n])
                opening, *others = rows[n]
                there = [opening, *others[max(0, len(others) - remembered + 1) :]]  # no more than `remembered` are kept
                near.append(np.sort([((x - y) ** 2).sum() for y in there])[:k])
                rows[n].append(x)
            total, count = total + sum(map(np.sum, near)), count + sum(map(len, near))
            for n, squared in enumerate(near):
                apart = np.maximum(squared / (total / count) - cluster_distance, 0.0)
                similarity = np.sqrt((epsilon / (apart + epsilon)).sum()) + pseudo_count
                bonus[t, n] = 0.0 if similarity > max_similarity else 1.0 / similarity
        out.append(bonus)
    return out


def raw(obs):
    return np.asarray(obs, np.float64)


@pytest.mark.parametrize("k, remembered", [(3, 1000), (3, 3), (1, 1)])
def test_episodic_term_is_the_inverse_root_of_the_kernels_sum(k, remembered):
    """Episodes, of up to 6 steps, overflow the smaller rings and go on from rollout to rollout, and so does d_m^2."""
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 0, longest=6) for i in range(3)]
    assert all(batch.first[1:].any() for batch in batches) and not batches[1].first[0].any()
    bonuses, states, metrics = roll(ngu(epsilon=1e-2, k=k, remembered=remembered, **RAW), batches, example(N))
    for bonus, wanted in zip(bonuses, episodic(batches, raw, k=k, remembered=remembered, epsilon=1e-2), strict=True):
        np.testing.assert_allclose(bonus, wanted, rtol=2e-3)
    assert [float(state.mean) for state in states[1:]] == [float(m["ngu/neighbour_distance"]) for m in metrics]


def test_every_constant_of_the_kernel_is_the_papers():
    batch = fake_batch(jax.random.key(0), T, N, world(states=4), longest=8)
    constants = {"cluster_distance": 0.3, "pseudo_count": 0.2, "max_similarity": 1.1}
    (bonus,), _, _ = roll(ngu(0.0, 0.1, **constants, k=3, **RAW), [batch], example(N))
    (wanted,) = episodic([batch], raw, k=3, epsilon=0.1, **constants)
    assert (wanted == 0).any() and (wanted > 0).any()  # too similar to what the episode has seen: nothing
    np.testing.assert_allclose(bonus, wanted, rtol=2e-3)


def test_learned_features_times_the_standardised_error_clipped_to_one_and_the_ceiling():
    batches = [fake_batch(jax.random.key(i), T, N, world(states=40), opens=i == 0, longest=6) for i in range(2)]
    reward = ngu(1e-2, 1e-2, max_scale=1.5, k=3, whiten=False, **SMALL)
    bonuses, states, metrics = roll(reward, batches, example(N))
    seen, factors = [], []
    for (_, novelty), batch in zip(states, batches, strict=False):
        target, predictor = (mlp(net, batch.next_obs) for net in (novelty.inner.target, novelty.inner.predictor))
        error = ((predictor - target) ** 2).mean(-1)
        seen.extend(error.ravel())
        factors.append(np.clip(1 + (error - np.mean(seen)) / np.std(seen), 1.0, 1.5))
    assert {1.0, 1.5} < set(np.round(factors[0], 6).ravel())
    params = [state[0].inner.params["embedding"] for state in states]
    (wanted,) = episodic(batches[:1], lambda obs: layer_norm(mlp(params[0], obs)), k=3, epsilon=1e-2)
    np.testing.assert_allclose(bonuses[0], wanted * factors[0], rtol=2e-3)
    np.testing.assert_allclose(metrics[1]["1/bonus_std"], np.std(seen), rtol=1e-3)
    kernels = [np.asarray(p["params"]["Dense_0"]["kernel"]) for p in params]
    assert np.abs(kernels[1] - kernels[0]).max() > 1e-3


def test_features_and_whitening_are_switches():
    batch = fake_batch(jax.random.key(0), T, N, longest=6)
    (bonus,), states, _ = roll(ngu(features="random", **EPISODIC), [batch], example(N), learn=False)
    (wanted,) = episodic([batch], lambda obs: mlp(states[0].inner, obs), k=10)
    np.testing.assert_allclose(bonus, wanted, rtol=2e-3)
    with pytest.raises(UserError, match=r"ngu\.features 'radnom'.*did you mean 'random'"):
        ngu(features="radnom", **EPISODIC)
    for whiten in (True, False):
        state, _ = jax.eval_shape(ngu(whiten=whiten, **SMALL).init, jax.random.key(0), example(N))
        assert is_warmable(state) == whiten


def test_family_weighs_environment_i_by_the_coefficient_i_modulo_its_size():
    batches = [fake_batch(jax.random.key(i), T, 7, opens=i == 0) for i in range(2)]
    alone, _, _ = roll(ngu(k=3, **RAW), batches, example(7))
    family, _, _ = roll(ngu(k=3, family=5, **RAW), batches, example(7))
    inner = 1 / (1 + np.exp(-10 * (2 * np.arange(1, 4) - 3) / 3))
    weight = np.array([0.0, *inner, 1.0, 0.0, inner[0]])
    for one, other in zip(alone, family, strict=True):
        np.testing.assert_allclose(other, weight * one, rtol=1e-4)
    with pytest.raises(UserError, match=r"ngu\.family = 8.*num_envs = 7"):
        jax.eval_shape(ngu(family=8, **SMALL).init, jax.random.key(0), example(7))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e1, 1e2])
def test_a_state_new_to_the_episode_earns_more_than_any_return(scale):
    """Raw features' distances follow the scale, and the bonus does not: in rlax, which adds 1e-3 to them, it does."""
    batch = fake_batch(jax.random.key(3), 16, 4, world(scale=scale), longest=12)
    (bonus,), _, _ = roll(ngu(k=5, **RAW), [batch], example(4))
    known: dict = {}
    new = np.zeros((16, 4), bool)
    for (t, n), first in np.ndenumerate(np.asarray(batch.first)):
        if first:
            known[n] = {bytes(np.asarray(batch.obs[t, n]))}
        new[t, n] = bytes(np.asarray(batch.next_obs[t, n])) not in known[n]
        known[n].add(bytes(np.asarray(batch.next_obs[t, n])))
    assert 5 < new.sum() < 55
    assert bonus[new].min() > 5 * bonus[~new].max() > 0
    (wanted,) = episodic([batch], lambda obs: raw(obs) / scale, k=5)
    np.testing.assert_allclose(bonus, wanted, rtol=2e-3)


def test_more_neighbours_than_rows_are_refused():
    with pytest.raises(UserError, match=r"ngu\.k = 6.*ngu\.remembered = 5"):
        ngu(k=6, remembered=5, **SMALL)


def test_5000_rows_of_64_environments_fit_in_a_gigabyte_and_no_step_copies_them():
    observations = np.zeros((1, 64), np.float32)
    reward = ngu(remembered=5000, dim=64, hidden=(256,), actions=ACTIONS)
    state, memory = jax.eval_shape(reward.init, jax.random.key(0), example(64, observations))
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((128, *x.shape), x.dtype), jax.eval_shape(lambda: example(64, observations))
    )
    compiled = jax.jit(reward.label, donate_argnums=1).lower(state, memory, batch).compile()
    used = compiled.memory_analysis()
    assert used.temp_size_in_bytes + used.argument_size_in_bytes + used.output_size_in_bytes < 1e9
    # A loop that has to copy its ring does so at every step.
    assert len(re.findall(r"= f32\[64,5000,64\]\S* copy\(", compiled.as_text())) <= 1


@pytest.mark.slow
def test_learned_features_cover_a_corridor_in_noise_and_random_ones_do_not(tmp_path):
    """The paper's claim, small: what the agent cannot control, six coins tossed at each step, is no novelty to explore.

    Chosen on seeds 100 to 105. Coverage counts the 35 cells that can be acted in, of 36: past the last one is the goal.
    """
    bonuses = ["none", *(f"ngu(lr=1e-3, remembered=48, dim=16, features={f})" for f in ("inverse", "random"))]
    settings = {"steps": 204_800, "lr": 1e-3, "num_steps": 64, "wrap": ("noisy_tv(when=always, size=6, levels=2)",)}
    curves = sweep(tmp_path, env=Corridor, grid={"bonus": bonuses}, seeds="0:8", **settings)
    coverage = curves["coverage"].isel(iteration=-1)
    inverse, random, none = (
        next(coverage.sel(bonus=name).values for name in curves["bonus"].values if part in str(name))
        for part in ("inverse", "random", "none")
    )
    covered = [(arm > 0.97).sum() for arm in (inverse, random, none)]
    assert covered[0] >= 6 and covered[1:] == [0, 0], (inverse, random, none)
