"""Minibatches are a partition of the rows, at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.shuffle import passes, shuffle


def table(num_steps, num_envs):
    """Every row carries its own number in two leaves of different rank and type."""
    rows = jnp.arange(num_steps * num_envs).reshape(num_steps, num_envs)
    return {"number": rows, "vector": jnp.stack([rows, -rows], -1).astype(jnp.float32)}


def dealt_by(key, data, minibatches):
    """Every minibatch, stacked: ``[minibatches, T * N / minibatches, ...]``."""
    order, deal = shuffle(key, data, minibatches)
    return jax.vmap(deal)(order)


SHAPES = [(8, 4), (1, 12), (12, 1), (3, 10), (64, 4), (5, 7)]


@pytest.mark.parametrize(("num_steps", "num_envs"), SHAPES)
def test_every_row_is_dealt_once_and_stays_whole_for_every_divisor(num_steps, num_envs):
    total = num_steps * num_envs
    for minibatches in [m for m in range(1, total + 1) if total % m == 0]:
        dealt = dealt_by(jax.random.key(minibatches), table(num_steps, num_envs), minibatches)
        number, vector = np.asarray(dealt["number"]), np.asarray(dealt["vector"])
        assert number.shape == (minibatches, total // minibatches)
        assert vector.shape == (minibatches, total // minibatches, 2)
        np.testing.assert_array_equal(np.sort(number, axis=None), np.arange(total))
        np.testing.assert_array_equal(vector, np.stack([number, -number], -1))


@pytest.mark.parametrize(("num_steps", "num_envs", "minibatches"), [(3, 10, 4), (8, 4, 5), (5, 7, 2)])
def test_minibatches_that_do_not_divide_the_rows_are_refused(num_steps, num_envs, minibatches):
    with pytest.raises(ValueError, match=f"minibatches={minibatches} must divide .* {num_steps * num_envs}"):
        shuffle(jax.random.key(0), table(num_steps, num_envs), minibatches)


def test_each_row_falls_into_each_minibatch_equally_often_and_each_key_deals_anew():
    draws, minibatches = 2000, 4
    keys = jax.random.split(jax.random.key(0), draws)
    dealt = np.asarray(jax.vmap(lambda key: dealt_by(key, jnp.arange(32).reshape(8, 4), minibatches))(keys))
    where = np.argmax((dealt[..., None] == np.arange(32)).any(2), axis=1)  # [draws, 32] the minibatch of each row
    share = np.stack([(where == m).mean(0) for m in range(minibatches)])
    np.testing.assert_allclose(share, 1 / minibatches, atol=5 * np.sqrt(0.1875 / draws))
    assert len({tuple(row) for row in where[:50]}) > 40


def test_rows_of_one_minibatch_come_from_many_time_steps():
    """With T long a slice is one time step; with T short, slices are blocks of environments, down to single ones."""
    time = lambda t, n: jnp.repeat(jnp.arange(t)[:, None], n, 1)
    assert [len(set(m)) for m in np.asarray(dealt_by(jax.random.key(0), time(128, 4), 4))] == [32] * 4
    assert np.asarray(dealt_by(jax.random.key(0), time(2, 64), 4)).shape == (4, 32)
    assert [set(m) for m in np.asarray(dealt_by(jax.random.key(1), time(2, 64), 4)).tolist()] == [{0, 1}] * 4


def seen_by_passes(key, data, **choices):
    """The rows of every minibatch, ``[epochs, minibatches, rows]``, and how many steps the carry went through."""
    return passes(key, lambda n, minibatch: (n + 1, minibatch["number"]), 0, data, **choices)


def test_each_pass_shows_every_row_once_and_carries_on():
    steps, rows = seen_by_passes(jax.random.key(0), table(8, 4), epochs=3, minibatches=4)
    assert steps == 12 and rows.shape == (3, 4, 8)
    for one_pass in np.asarray(rows):
        assert sorted(one_pass.ravel()) == list(range(32))
    assert (rows[0] != rows[1]).any()


@pytest.mark.parametrize(("proportion", "shown"), [(1.0, 16), (0.5, 8), (0.26, 5), (0.01, 1)])
def test_a_proportion_shows_whole_slices_of_every_minibatch(proportion, shown):
    _, rows = seen_by_passes(jax.random.key(1), table(64, 2), epochs=1, minibatches=4, proportion=proportion)
    rows = np.asarray(rows)
    assert rows.shape == (1, 4, 2 * shown)  # 16 slices of two rows in a minibatch
    assert len(set(rows.ravel())) == rows.size
