"""The ring of visits against a list, and what is drawn from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import UserError
from jaxrl.intrinsic.replay import draw, empty_replay, equal_weights, store


def test_the_ring_holds_the_latest_visits_in_their_own_dtype():
    capacity, history = 7, []
    ring = empty_replay({"obs": jnp.zeros((2,), jnp.uint8), "number": jnp.int32(0)}, capacity)
    put = jax.jit(store)
    for rows in (3, 3, 3, 7, 2, 5):
        numbers = np.arange(len(history), len(history) + rows)
        history.extend(numbers)
        obs = np.stack([numbers, 2 * numbers], 1).astype(np.uint8)
        ring = put(ring, {"obs": jnp.asarray(obs), "number": jnp.asarray(numbers, jnp.int32)})
        held = np.asarray(ring.visits["number"])[: int(ring.stored)]
        assert sorted(held) == history[-capacity:]
        assert np.array_equal(ring.visits["obs"][: int(ring.stored), 1], (2 * held).astype(np.uint8))
        np.testing.assert_array_equal(equal_weights(ring), np.arange(capacity) < min(len(history), capacity))
    assert ring.visits["obs"].dtype == jnp.uint8


def test_a_ring_smaller_than_one_batch_is_refused():
    with pytest.raises(UserError, match="capacity=4 must be at least num_steps \\* num_envs = 5"):
        store(empty_replay(jnp.float32(0.0), 4), jnp.zeros(5))


def test_rows_are_drawn_in_proportion_to_their_weight():
    weights = np.array([0.0, 3.0, 0.0, 1.0, 0.5, 0.0, 5.5, 0.0], np.float32)
    chosen = np.asarray(draw(jax.random.key(0), jnp.asarray(weights), (100, 400)))
    share = np.bincount(chosen.reshape(-1), minlength=8) / chosen.size
    assert share.shape == (8,) and (share[weights == 0] == 0).all()
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.012)  # 5 standard errors
