"""Buckets: a function of the observation, evenly spread, blind below the quantum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.intrinsic.hashing import QUANTUM, bucket

BUCKETS = 2**12


def buckets_of(observations, buckets=BUCKETS):
    return np.asarray(jax.jit(jax.vmap(lambda x: bucket(x, buckets)))(observations))


def colliding_pairs(observations):
    """Share of pairs of rows in one bucket."""
    counts = np.bincount(buckets_of(observations), minlength=BUCKETS)
    return (counts * (counts - 1)).sum() / (len(observations) * (len(observations) - 1))


def kinds():
    rng = np.random.default_rng(0)
    size = 45
    ball, paddle = np.divmod(np.arange(size**2), size)
    hot = np.eye(size, dtype=np.float32)
    signed = rng.permutation(np.arange(-1024, 1024))
    return {
        "random floats": rng.normal(size=(2048, 8)).astype(np.float32),
        "one-hot": np.eye(2048, dtype=np.float32),
        "one-hot uint8": np.eye(2048, dtype=np.uint8),
        "two one-hots": np.concatenate([hot[ball], hot[paddle]], 1),
        "grids of small integers": rng.integers(0, 3, size=(2048, 7, 7, 3)).astype(np.int32),
        "bits": ((np.arange(2048)[:, None] >> np.arange(11)) & 1).astype(bool),
        "one coordinate": signed[:, None].astype(np.float32),
        "permuted coordinates": np.array([rng.permutation(10) for _ in range(2048)], np.float32),
    }


@pytest.mark.parametrize("kind", kinds())
def test_different_observations_collide_as_often_as_chance(kind):
    observations = kinds()[kind]
    observations = np.unique(observations.reshape(len(observations), -1), axis=0).reshape(-1, *observations.shape[1:])
    rate = colliding_pairs(observations)
    pairs = len(observations) * (len(observations) - 1) / 2
    tolerance = 5 * np.sqrt(1 / BUCKETS / pairs)  # five standard deviations of a binomial share
    assert abs(rate - 1 / BUCKETS) < tolerance


def test_buckets_are_int32_in_range_and_the_same_compiled_or_not():
    x = np.random.default_rng(1).normal(size=(64, 5)).astype(np.float32)
    for buckets in (1, 2, 2**12, 2**31):
        index = buckets_of(x, buckets)
        assert index.dtype == np.int32 and index.min() >= 0 and index.max() < buckets
    assert (buckets_of(x) == [int(bucket(jnp.asarray(row), BUCKETS)) for row in x]).all()
    assert len(set(buckets_of(x, 2**31))) == 64


def test_floats_are_rounded_to_the_quantum():
    x = jnp.array([0.25, -0.5, 3.0])
    assert bucket(x, BUCKETS) == bucket(x + 0.3 * QUANTUM, BUCKETS) == bucket(x - 0.3 * QUANTUM, BUCKETS)
    apart = buckets_of(x + QUANTUM * jnp.arange(64)[:, None], 2**31)
    assert len(set(apart)) == 64
    assert bucket(jnp.array([0.0]), BUCKETS) == bucket(jnp.array([-0.0]), BUCKETS)


def test_floats_beyond_the_range_are_one_state_per_sign_and_nan_is_zero():
    x = jnp.array([[jnp.inf], [3e38], [1e10], [2.2e6], [-jnp.inf], [-3e38], [-2.2e6], [jnp.nan], [0.0], [2.0e6]])
    index = buckets_of(x, 2**31)
    assert len(set(index[:4])) == 1 and len(set(index[4:7])) == 1 and index[7] == index[8]
    assert len({index[0], index[4], index[7], index[9]}) == 4  # 2.0e6 is still within the range
    # Which state is fixed too: the integer a backend casts an infinity to must not show.
    quanta = jnp.array([[2_100_000_000], [-2_100_000_000], [0]], jnp.int32)
    assert (index[[0, 4, 7]] == buckets_of(quanta, 2**31)).all()
    assert (index[:9] == [int(bucket(row, 2**31)) for row in x[:9]]).all() and (index == buckets_of(x, 2**31)).all()


def test_place_matters_and_shape_does_not():
    assert (
        len({int(bucket(jnp.array(x), 2**31)) for x in ([1, 2, 3], [2, 1, 3], [3, 2, 1], [1, 2, 3, 0], [0, 1, 2, 3])})
        == 5
    )
    grid = jnp.arange(12)
    assert bucket(grid.reshape(3, 4), BUCKETS) == bucket(grid, BUCKETS)


@pytest.mark.parametrize("buckets", [0, 3, 1000, 2**32])
def test_a_number_of_buckets_that_is_no_power_of_two_is_refused(buckets):
    with pytest.raises(ValueError, match=f"buckets={buckets} must be a power of two"):
        bucket(jnp.zeros(2), buckets)
