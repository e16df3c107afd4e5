"""The queue against `collections.deque`, and what is drawn from it."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.intrinsic.observation_queue import Queue, empty_queue, push, unlike


def test_first_in_first_out_also_of_more_rows_than_fit():
    rng, capacity = np.random.default_rng(0), 5
    queue, expected = empty_queue(capacity, jnp.zeros((1, 2), jnp.uint8)), deque(maxlen=capacity)
    pushed = jax.jit(push)
    for share in (0.0, 0.3, 0.3, 0.2, 1.0, 0.3, 0.9):
        obs, enters = rng.integers(255, size=(8, 2)).astype(np.uint8), rng.random(8) < share
        queue = pushed(queue, obs, enters)
        expected.extend(map(tuple, obs[enters]))
        held = np.roll(queue.rows, -int(queue.slot), 0)[capacity - int(queue.filled) :]
        assert [tuple(row) for row in held] == list(expected) and queue.rows.dtype == np.uint8
    assert len(expected) == capacity


def test_unlike_draws_members_that_differ_and_knows_when_there_is_none():
    rows = jnp.array([[1, 1], [1, 2], [9, 9]], jnp.int32)  # the third was never filled
    queue = Queue(rows, jnp.int32(2), jnp.int32(2))
    obs = jnp.tile(jnp.array([[1, 1], [7, 7]], jnp.int32), (500, 1))
    drawn, found = map(np.asarray, unlike(jax.random.key(0), queue, obs))
    same, other = found[::2], found[1::2]
    assert 0.68 < same.mean() < 0.82 and other.all()  # of two draws from two members one differs 3 times in 4
    assert (drawn[::2][same] == [1, 2]).all()
    first_of_either = (drawn[1::2] == [1, 1]).all(-1).mean()
    assert 0.42 < first_of_either < 0.58 and not (drawn == 9).any()
