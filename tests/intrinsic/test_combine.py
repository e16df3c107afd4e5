"""Combinators against values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import example, fake_batch
from references import roll

from jaxrl.errors import UserError
from jaxrl.intrinsic.base import stateless
from jaxrl.intrinsic.combine import add, anneal, difference, map_bonus, map_obs, product, scale
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.types import IntrinsicReward

T, N = 8, 3


def learner(size):
    """Pays `size` + how often it learned + how many steps its environment has taken; its trace is its size."""

    def label(state, memory, batch):
        ages = memory + jnp.arange(1.0, len(batch.reward) + 1)[:, None]
        return ages[-1], size + 100.0 * state + ages, jnp.float32(size)

    def update(key, state, memory, batch, trace):
        return state + 1, {"trace": trace, "age": memory.mean()}

    return IntrinsicReward(lambda key, example: (jnp.float32(0), jnp.zeros(example.reward.shape)), label, update)


def batches(count=3):
    return [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(count)]


def paid(size, rollout):
    """What `learner` pays, [T, 1]."""
    return size + 100.0 * rollout + (T * rollout + np.arange(1, T + 1))[:, None]


@pytest.mark.parametrize(("combine", "together"), [(add, np.add), (product, np.multiply)])
def test_children_are_kept_apart_and_their_bonuses_joined(combine, together):
    bonuses, states, metrics = roll(combine(learner(1.0), learner(2.0)), batches(), example(N))
    for i, bonus in enumerate(bonuses):
        np.testing.assert_allclose(bonus, together(paid(1.0, i), paid(2.0, i)) * np.ones(N), rtol=1e-6)
    assert states[-1] == (3.0, 3.0)
    assert metrics[1] == {"0/trace": 1.0, "0/age": T, "1/trace": 2.0, "1/age": T}  # memory as before the batch


def test_children_draw_different_keys():
    draw = IntrinsicReward(lambda key, example: (jax.random.normal(key), ()), lambda *a: ((), a[2].reward, ()), None)
    draw = draw._replace(update=lambda key, *_: (jax.random.normal(key), {}))
    _, states, _ = roll(add(draw, draw), batches(1), example(N))
    assert len({float(x) for state in states for x in state}) == 4


def test_one_child_is_itself_and_none_is_refused():
    (bonus, *_), _, _ = roll(add(learner(1.0)), batches(), example(N))
    np.testing.assert_allclose(bonus, paid(1.0, 0) * np.ones(N))
    for combine in (add, product):
        with pytest.raises(ValueError, match="at least one bonus"):
            combine()


def test_scale_and_map_bonus_change_what_is_paid_and_nothing_else():
    for reward, function in (
        (scale(learner(1.0), -0.5), lambda b: -0.5 * b),
        (map_bonus(learner(1.0), jnp.log), np.log),
    ):
        bonuses, states, metrics = roll(reward, batches(), example(N))
        for i, bonus in enumerate(bonuses):
            np.testing.assert_allclose(bonus, function(paid(1.0, i)) * np.ones(N), rtol=1e-6)
        assert states[-1] == 3.0 and metrics[2] == {"trace": 1.0, "age": 2 * T}


def test_anneal_follows_the_number_of_updates():
    bonuses, _, _ = roll(anneal(learner(1.0), lambda updates: 1.0 / (1 + updates)), batches(), example(N))
    for i, bonus in enumerate(bonuses):
        np.testing.assert_allclose(bonus, paid(1.0, i) / (1 + i) * np.ones(N), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_difference_is_the_positive_part_of_the_rise_in_novelty(alpha):
    """NovelD with counts for novelty: pays for going from a familiar state to a less familiar one."""
    bonuses, _, _ = roll(difference(count(), alpha), batches(), example(N))
    visits: dict = {}
    clipped = 0
    for batch, bonus in zip(batches(), bonuses, strict=True):
        novelty = lambda x: (visits.get(x.tobytes(), 0) + 1) ** -0.5
        there, here = (np.apply_along_axis(novelty, -1, np.asarray(x)) for x in (batch.next_obs, batch.obs))
        np.testing.assert_allclose(bonus, np.maximum(there - alpha * here, 0), rtol=1e-5, atol=1e-6)
        clipped += (there < alpha * here).sum()
        for x in np.asarray(batch.next_obs).reshape(-1, 6):
            visits[x.tobytes()] = visits.get(x.tobytes(), 0) + 1
    assert alpha == 0.5 or 0 < clipped < 3 * T * N


def test_difference_of_a_bonus_with_a_state_trains_it_once_on_the_batch():
    _, states, metrics = roll(difference(learner(1.0)), batches(), example(N))
    assert states[-1] == 3.0 and metrics[1] == {"trace": 1.0, "age": T}  # one pass of memory, not two


def test_map_obs_changes_what_is_seen_everywhere_and_nothing_else():
    cut = map_obs(count(buckets=2**10), lambda obs: jnp.round(obs[..., :1]))
    bonuses, states, _ = roll(cut, batches(), example(N))
    rounded = [b._replace(obs=jnp.round(b.obs[..., :1]), next_obs=jnp.round(b.next_obs[..., :1])) for b in batches()]
    expected, same, _ = roll(count(buckets=2**10), rounded, rounded[0])
    np.testing.assert_array_equal(bonuses, expected)
    np.testing.assert_array_equal(states[-1], same[-1])
    whole, _, _ = roll(count(buckets=2**10), batches(), example(N))
    assert (np.asarray(bonuses[1]) < whole[1]).any()  # fewer states, more visits of each

    init = lambda key, example: (example.obs, ())
    seen, _ = map_obs(learner(1.0)._replace(init=init), lambda obs: obs[..., :2]).init(None, example(N))
    assert seen.shape == (N, 2)


def test_global_times_episodic_pays_where_both_do():
    parts = [stateless(lambda batch: batch.reward), episodic_count()]
    together, _, _ = roll(product(*parts), batches(), example(N))
    apart = [roll(part, batches(), example(N))[0] for part in parts]
    np.testing.assert_allclose(together, np.multiply(*apart), rtol=1e-6)


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
def test_a_factor_that_is_not_finite_is_refused(factor):
    with pytest.raises(UserError, match=f"factor = {factor}: a bonus can only be scaled by a finite number"):
        scale(count(), factor)
