"""Nearest distances against NumPy's sort of float64 differences, near-duplicates far from the origin included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.intrinsic.nearest import nearest_of_all, nearest_of_episode

D = 16


def reference(queries, points, k):
    queries, points = (np.asarray(x, np.float64) for x in (queries, points))
    return np.sort(((queries[:, None] - points) ** 2).sum(-1), -1)[:, :k]


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e1, 1e2])
def test_near_duplicates_keep_their_distance(scale):
    """Ten points, each with three copies 1e-4 of its norm away: a difference of squares would lose those in float32."""
    rng = np.random.default_rng(0)
    points = np.repeat(scale * rng.normal(size=(10, D)), 4, 0)
    points = (points + 1e-4 * scale * rng.normal(size=points.shape)).astype(np.float32)
    found = jax.jit(lambda x: nearest_of_all(x, x, 6))(points)
    np.testing.assert_allclose(found, reference(points, points, 6), rtol=1e-4)
    assert (np.asarray(found)[:, 0] == 0.0).all()  # each is its own nearest, exactly


@pytest.mark.parametrize("k, capacity", [(1, 1), (3, 3), (3, 4), (4, 100)])
def test_of_an_episode_the_opening_row_and_the_latest_ones_count(k, capacity):
    """Three episodes of one environment; fewer than k rows leave the last distances infinite."""
    rng = np.random.default_rng(k)
    rule = nearest_of_episode(k, capacity)
    step, reset = jax.jit(rule.step), jax.jit(rule.reset)
    memory = rule.init(jnp.zeros(D))
    for length in (2, 9, 4):
        xs = rng.normal(size=(length + 1, D)).astype(np.float32)
        xs[-1] = xs[0]  # back where the episode began
        memory = reset(memory, xs[0])
        for i in range(1, length + 1):
            memory, found = step(memory, xs[i])
            there = np.concatenate([xs[:1], xs[max(1, i - capacity + 1) : i]])
            (wanted,) = reference(xs[i : i + 1], there, k)
            np.testing.assert_allclose(found, [*wanted, *[np.inf] * (k - len(wanted))], rtol=1e-5)
        assert found[0] == 0.0


def test_blocks_change_nothing_and_no_full_matrix_is_made():
    """A number of queries that no block divides, against as many points, and the memory that this takes."""
    rng = np.random.default_rng(2)
    points = rng.normal(size=(533, D)).astype(np.float32)
    compiled = jax.jit(lambda x: nearest_of_all(x, x, 3)).lower(points).compile()
    np.testing.assert_allclose(compiled(points), reference(points, points, 3), rtol=1e-4)
    large = jax.ShapeDtypeStruct((8192, 64), jnp.float32)
    memory = jax.jit(lambda x: nearest_of_all(x, x, 3)).lower(large).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 8192**2 * 4 / 4
