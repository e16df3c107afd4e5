"""State entropy in a learned space against NumPy, its switch, and what it makes PPO cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch, world
from references import layer_norm, mlp, roll
from worlds import Corridor

from jaxrl.errors import UserError
from jaxrl.intrinsic.apt import apt
from jaxrl.intrinsic.combine import map_bonus
from jaxrl.sweep import sweep

T, N = 8, 3
SMALL = {"dim": 4, "hidden": (8,), "minibatches": 2, "actions": ACTIONS}
OBSERVATIONS = world(states=40)


def two_rollouts():
    return [fake_batch(jax.random.key(i), T, N, OBSERVATIONS, opens=i == 0) for i in range(2)]


def bonus_of(batch, embedding, k, include_self):
    """log(1 + the mean distance to the k nearest points of the batch)."""
    points = layer_norm(mlp(embedding, batch.next_obs)).reshape(T * N, -1)
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    near = np.sort(distance, -1)[:, :k] if include_self else np.sort(distance, -1)[:, 1 : k + 1]
    return np.log1p(near.mean(-1)).reshape(T, N)


@pytest.mark.parametrize("include_self", [True, False])
def test_bonus_is_the_log_of_one_plus_the_mean_distance_to_k_neighbours(include_self):
    batches = two_rollouts()
    assert any(batch.first[1:].any() for batch in batches)
    bonuses, states, metrics = roll(apt(1e-2, k=3, include_self=include_self, **SMALL), batches, example(N))
    for i, batch in enumerate(batches):
        wanted = bonus_of(batch, states[i].params["embedding"], 3, include_self)
        np.testing.assert_allclose(bonuses[i], wanted, rtol=2e-3, atol=1e-4)
    assert metrics[1]["inverse_dynamics/loss"] < metrics[0]["inverse_dynamics/loss"]


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e1, 1e2])
def test_a_rare_observation_earns_more_than_common_ones(scale):
    """Common: over twenty visits to each of three states, a hundredth of their norm apart; rare: two to a fourth."""
    rng = np.random.default_rng(0)
    states = scale * rng.normal(size=(4, 6))
    visited = rng.integers(3, size=(T * 3, N))
    visited[[3, 17], [0, 2]] = 3
    seen = (states[visited] + 0.01 * scale * rng.normal(size=(T * 3, N, 6))).astype(np.float32)
    batch = fake_batch(jax.random.key(0), T * 3, N)._replace(next_obs=jnp.asarray(seen))
    (bonus,), _, _ = roll(apt(actions=ACTIONS, dim=16, hidden=(32,)), [batch], example(N))
    assert bonus[visited == 3].min() > 2 * bonus[visited < 3].max() > 0


def test_more_neighbours_than_points_is_refused():
    batch = fake_batch(jax.random.key(0), 2, N)
    state, memory = jax.eval_shape(apt(**SMALL).init, jax.random.key(0), example(N))
    for include_self, k in ((True, 6), (False, 5)):
        jax.eval_shape(apt(k=k, include_self=include_self, **SMALL).label, state, memory, batch)
    for include_self, k in ((True, 7), (False, 6)):
        with pytest.raises(UserError, match=rf"apt\.k = {k}.*num_steps \* num_envs = 6"):
            jax.eval_shape(apt(k=k, include_self=include_self, **SMALL).label, state, memory, batch)


TRAINED = {"lr": 1e-3, "dim": 16}


def paid_to_another(*, actions):
    """The ablation: the very same numbers, each environment's paid to the next one."""
    return map_bonus(apt(actions=actions, **TRAINED), lambda bonus: jnp.roll(bonus, 1, 1))


@pytest.mark.slow
def test_without_any_reward_ppo_covers_the_corridor_with_it_and_not_with_numbers_of_others(tmp_path):
    """Pre-training, as in the paper: the bonus is all that the agent sees. Chosen on seeds 100 to 105.

    Coverage counts the 35 cells that can be acted in, of 36. The greedy policy need not reach the end: where no state
    is rarer than the next, nothing is paid for a decision.
    """
    bonuses = ["none", "apt(lr=1e-3, dim=16)", paid_to_another]
    settings = {"steps": 102_400, "lr": 1e-3, "num_steps": 64, "streams": "only"}
    curves = sweep(tmp_path, env=Corridor, grid={"bonus": bonuses}, seeds="0:8", **settings)
    final = curves["coverage"].isel(iteration=-1) > 0.97
    covered = {str(name).partition("(")[0]: int(final.sel(bonus=name).sum()) for name in curves["bonus"].values}
    assert covered["apt"] >= 6 and covered["none"] == covered[f"{__name__}:paid_to_another"] == 0, covered
