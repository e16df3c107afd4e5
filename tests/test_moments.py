"""Running moments against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.counters import number
from jaxrl.moments import deviation, empty_moments, merge, variance


def merged(batches, shape):
    moments = empty_moments(shape)
    for batch in batches:
        moments = merge(moments, jnp.asarray(batch))
    return moments


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_merging_batches_of_any_size_gives_the_moments_of_all_rows(shape):
    rng = np.random.default_rng(0)
    batches = [rng.normal(3.0, 2.0, (*lead, *shape)).astype(np.float32) for lead in ((1,), (7, 2), (64,), (5,))]
    rows = np.concatenate([batch.reshape(-1, *shape) for batch in batches]).astype(np.float64)
    moments = merged(batches, shape)
    assert float(number(moments.rows)) == len(rows) == 84
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance(moments), rows.var(0), rtol=1e-4)
    np.testing.assert_allclose(deviation(moments), rows.std(0), rtol=1e-4)


def test_no_data_is_mean_zero_and_deviation_one():
    moments = empty_moments((2,))
    assert float(number(moments.rows)) == 0
    np.testing.assert_array_equal(moments.mean, 0)
    np.testing.assert_array_equal(variance(moments), 1)
    np.testing.assert_allclose(deviation(moments), 1)


def test_one_row_has_no_variance_and_a_finite_deviation():
    moments = merged([np.full((1, 2), 5.0, np.float32)], (2,))
    np.testing.assert_array_equal(moments.mean, 5)
    np.testing.assert_array_equal(variance(moments), 0)
    np.testing.assert_allclose(deviation(moments), 1e-4)  # sqrt of its epsilon


def test_a_large_offset_does_not_cancel_the_variance():
    """mean(x^2) - mean(x)^2 in float32 would lose all of a variance of 1 around 10^4: it keeps 8 digits of 10^8."""
    rng = np.random.default_rng(1)
    batches = [(1e4 + rng.normal(size=(128, 2))).astype(np.float32) for _ in range(50)]
    rows = np.concatenate(batches).astype(np.float64)
    moments = merged(batches, (2,))
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance(moments), rows.var(0), rtol=1e-2)


def test_the_order_of_batches_does_not_matter():
    rng = np.random.default_rng(2)
    batches = [rng.normal(scale, scale, (size, 3)).astype(np.float32) for scale, size in ((0.1, 3), (10, 50), (1, 200))]
    forward, backward = merged(batches, (3,)), merged(batches[::-1], (3,))
    for a, b in zip(jax.tree.leaves(forward), jax.tree.leaves(backward), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_bytes_are_counted_as_numbers_and_nothing_changes_its_type():
    pixels = np.random.default_rng(3).integers(0, 256, (40, 4), np.uint8)
    moments = merged([pixels[:20], pixels[20:]], (4,))
    np.testing.assert_allclose(moments.mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance(moments), pixels.astype(float).var(0), rtol=1e-4)
    types = lambda tree: [(x.dtype, x.weak_type) for x in jax.tree.leaves(tree)]
    assert types(jax.eval_shape(merge, empty_moments((4,)), pixels)) == types(
        jax.eval_shape(lambda: empty_moments((4,)))
    )
