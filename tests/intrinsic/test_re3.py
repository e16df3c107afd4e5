"""State entropy in a random encoder's space against NumPy, each of its switches, and what it makes PPO cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import example, fake_batch, world
from references import mlp, roll
from worlds import Corridor

from jaxrl.errors import UserError
from jaxrl.intrinsic.combine import map_bonus
from jaxrl.intrinsic.re3 import re3
from jaxrl.sweep import sweep

T, N = 8, 3
SMALL = {"dim": 4, "hidden": (8,)}
OBSERVATIONS = world(states=40)  # more states than visits, so that most distances are not zero
BARE = {"normalize": False, "log": False}


def two_rollouts():
    return [fake_batch(jax.random.key(i), T, N, OBSERVATIONS, opens=i == 0) for i in range(2)]


def distances(points, others, k, average):
    """To the k-th nearest, or the mean to the k nearest, of the other points and of `others`."""
    out = []
    for i, y in enumerate(points):
        there = np.concatenate([np.delete(points, i, 0), others]) if len(others) else np.delete(points, i, 0)
        near = np.sort(np.sqrt(((there - y) ** 2).sum(-1)))[:k]
        out.append(near.mean() if average else near[-1])
    return np.array(out)


def raw_bonuses(batches, encoder, *, k=3, average=False, earlier=0):
    """Distances ``[T, N]`` of each batch; the FIFO holds the embeddings before it, oldest first."""
    kept: list = []
    for batch in batches:
        points = mlp(encoder, batch.next_obs).reshape(T * N, -1)
        yield distances(points, kept, k, average).reshape(T, N)
        kept = [*kept, *points][-earlier:] if earlier else []


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("earlier", [0, 30])
def test_raw_bonus_is_the_distance_to_the_kth_nearest_other_point(average, earlier):
    batches = [*two_rollouts(), fake_batch(jax.random.key(2), T, N, OBSERVATIONS, opens=False)]
    assert any(batch.first[1:].any() for batch in batches)
    reward = re3(k=2, average=average, earlier=earlier, **BARE, **SMALL)
    bonuses, states, metrics = roll(reward, batches, example(N))
    encoder = states[0].inner.encoder
    expected = raw_bonuses(batches, encoder, k=2, average=average, earlier=earlier)
    for bonus, wanted in zip(bonuses, expected, strict=True):
        np.testing.assert_allclose(bonus, wanted, rtol=1e-3, atol=1e-5)
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (encoder, states[3].inner.encoder)), strict=True))


def test_divided_by_the_running_deviation_then_logarithm_then_decayed():
    """All of it: log(1 + d / std(d)) (1 - decay)^u, the deviation over every distance so far, the batch's included."""
    batches = two_rollouts()
    bonuses, states, metrics = roll(re3(0.1, **SMALL), batches, example(N))
    seen: list = []
    for i, raw in enumerate(raw_bonuses(batches, states[0].inner.inner.encoder)):
        seen.extend(raw.ravel())
        np.testing.assert_allclose(bonuses[i], np.log1p(raw / np.std(seen)) * 0.9**i, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(metrics[i]["bonus_std"], np.std(seen), rtol=1e-3)


@pytest.mark.parametrize("normalize, log", [(True, False), (False, True)])
def test_deviation_and_logarithm_are_switches(normalize, log):
    (batch, _) = two_rollouts()
    (bonus,), states, _ = roll(re3(normalize=normalize, log=log, **SMALL), [batch], example(N))
    inner = states[0].inner.inner if normalize else states[0].inner
    (raw,) = raw_bonuses([batch], inner.encoder)
    np.testing.assert_allclose(bonus, raw / raw.std() if normalize else np.log1p(raw), rtol=1e-3, atol=1e-5)


def test_identical_observations_earn_nothing_once_there_are_more_than_k():
    batch = fake_batch(jax.random.key(0), T, N, world(states=2))
    (bonus,), _, _ = roll(re3(k=3, **SMALL), [batch], example(N))
    assert (bonus == 0.0).all()


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e1, 1e2])
def test_a_rare_observation_earns_more_than_common_ones(scale):
    """Common: twenty-odd visits to each of three states, a hundredth of their norm apart; rare: two to a fourth."""
    rng = np.random.default_rng(0)
    states = scale * rng.normal(size=(4, 6))
    visited = rng.integers(3, size=(T * 3, N))
    visited[[3, 17], [0, 2]] = 3
    seen = (states[visited] + 0.01 * scale * rng.normal(size=(T * 3, N, 6))).astype(np.float32)
    batch = fake_batch(jax.random.key(0), T * 3, N)._replace(next_obs=jnp.asarray(seen))
    (bonus,), _, _ = roll(re3(dim=16, hidden=(32,)), [batch], example(N))
    assert bonus[visited == 3].min() > 2 * bonus[visited < 3].max() > 0


def test_more_neighbours_than_points_is_refused():
    batch = fake_batch(jax.random.key(0), 2, N)
    state, memory = jax.eval_shape(re3(**SMALL).init, jax.random.key(0), example(N))
    jax.eval_shape(re3(k=5, **SMALL).label, state, memory, batch)
    with pytest.raises(UserError, match=r"re3\.k = 6.*num_steps \* num_envs = 6"):
        jax.eval_shape(re3(k=6, **SMALL).label, state, memory, batch)


def test_8192_points_with_10_000_earlier_ones_fit_in_a_gigabyte():
    observations = np.zeros((1, 64), np.float32)
    reward = re3(earlier=10_000, hidden=(256,))
    state, memory = jax.eval_shape(reward.init, jax.random.key(0), example(64, observations))
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((128, *x.shape), x.dtype), jax.eval_shape(lambda: example(64, observations))
    )
    used = jax.jit(reward.label).lower(state, memory, batch).compile().memory_analysis()
    assert used.temp_size_in_bytes + used.argument_size_in_bytes + used.output_size_in_bytes < 0.2e9


TRAINED = {"hidden": (64,), "dim": 16}


def paid_to_another():
    """The ablation: the very same numbers, each environment's paid to the next one."""
    return map_bonus(re3(**TRAINED), lambda bonus: jnp.roll(bonus, 1, 1))


@pytest.mark.slow
def test_ppo_solves_the_corridor_with_it_and_not_without(tmp_path):
    """Chosen on seeds 100 to 105. What pays is where one's own state lies among all, not that something is paid."""
    bonuses = ["none", "re3(hidden=(64,), dim=16)", paid_to_another]
    settings = {"steps": 102_400, "lr": 1e-3, "num_steps": 64}
    curves = sweep(tmp_path, env=Corridor, grid={"bonus": bonuses}, seeds="0:8", **settings)
    final = curves["solved"].isel(iteration=-1)
    solved = {str(name).partition("(")[0]: int(final.sel(bonus=name).sum()) for name in curves["bonus"].values}
    assert solved["re3"] >= 6 and solved["none"] == solved[f"{__name__}:paid_to_another"] == 0, solved
