import numpy as np
import pytest
import scipy.stats

from jaxrl.errors import UserError
from jaxrl.results import stats


def test_iqm_mean_median_by_hand():
    values = [0.0, 100.0, 1.0, 2.0, 3.0, 4.0, 5.0, -50.0]
    assert stats.iqm(values) == pytest.approx((1 + 2 + 3 + 4) / 4)  # two of eight dropped at either end
    assert stats.mean(values) == pytest.approx(65 / 8)
    assert stats.median(values) == pytest.approx(2.5)
    assert stats.iqm([1.0, 2.0, 6.0]) == pytest.approx(3.0)  # floor(3 / 4) = 0: nothing is dropped


def test_iqm_is_scipys_trimmed_mean_along_any_axis():
    values = np.random.default_rng(0).normal(size=(13, 5))
    assert stats.iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25, axis=None))
    np.testing.assert_allclose(stats.iqm(values, axis=0), scipy.stats.trim_mean(values, 0.25, axis=0))


@pytest.mark.parametrize("statistic", [stats.iqm, stats.mean, stats.median])
def test_nan_is_refused_or_dropped_as_asked(statistic):
    values = [1.0, np.nan, 2.0, 4.0, 9.0]
    with pytest.raises(UserError, match="values holds 1 NaN among 5"):
        statistic(values)
    assert statistic(values, nan_policy="omit") == pytest.approx(statistic([1.0, 2.0, 4.0, 9.0]))
    with pytest.raises(UserError, match="nan_policy is 'ignore'"):
        statistic(values, nan_policy="ignore")


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(1).normal(size=30)
    ours = stats.bootstrap_interval(values, stats.mean, 0, resamples=20_000)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    np.testing.assert_allclose([ours.low, ours.high], theirs.confidence_interval, atol=0.015)
    assert ours.value == pytest.approx(values.mean())


def test_bootstrap_resamples_within_each_task():
    """Two tasks far apart, no spread inside: stratified, the interval is a point; unstratified it would be wide."""
    values = np.stack([np.zeros(6), np.full(6, 100.0)], axis=1)
    assert stats.bootstrap_interval(values, stats.mean, 0) == stats.Estimate(50.0, 50.0, 50.0)


def test_bootstrap_depends_on_its_key_alone_and_on_the_level():
    values = np.random.default_rng(2).normal(size=(10, 3))
    first = stats.bootstrap_interval(values, stats.iqm, 7)
    assert first == stats.bootstrap_interval(values, stats.iqm, np.random.default_rng(7))
    assert first != stats.bootstrap_interval(values, stats.iqm, 8)
    narrow = stats.bootstrap_interval(values, stats.iqm, 7, level=0.5)
    assert first.low < narrow.low < narrow.value < narrow.high < first.high


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        estimate = stats.bootstrap_interval(rng.normal(size=40), stats.mean, rng, level=0.9, resamples=300)
        hits += estimate.low <= 0 <= estimate.high
    assert 0.83 < hits / 300 < 0.95


def test_ragged_tasks_are_compared_on_the_runs_they_have():
    values = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]])
    with pytest.raises(UserError, match="1 NaN"):
        stats.bootstrap_interval(values, stats.mean, 0)
    estimate = stats.bootstrap_interval(values, stats.mean, 0, nan_policy="omit")
    assert estimate.value == pytest.approx(18 / 5) and estimate.low < 18 / 5 < estimate.high


def test_one_run_has_no_interval():
    assert np.isnan(stats.bootstrap_interval([3.0], stats.iqm, 0)[1:]).all()
    assert np.isnan(stats.probability_of_improvement([3.0], [1.0, 2.0], 0)[1:]).all()
    assert np.isnan(stats.performance_profile([3.0], [1.0, 4.0], 0).low).all()


@pytest.mark.parametrize(("k", "n"), [(0, 8), (8, 8), (3, 8), (1, 1), (50, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(k, n, level):
    expected = scipy.stats.binomtest(k, n).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(stats.wilson(k, n, level), [k / n, *expected], atol=1e-12)


def test_wilson_by_hand_and_its_bounds_at_the_ends():
    assert stats.wilson(8, 8).low == pytest.approx(8 / (8 + 1.959964**2), abs=1e-6)  # p = 1: n / (n + z^2)
    assert stats.wilson(8, 8).high == 1.0 and stats.wilson(0, 8).low == 0.0
    for k, n in ((0, 0), (9, 8), (-1, 8), (0.5, 8)):
        with pytest.raises(UserError, match="wilson"):
            stats.wilson(k, n)


def test_profile_by_hand():
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    profile = stats.performance_profile(scores, [-1, 0, 1, 1.5, 3], 0)
    # a run at the threshold does not exceed it
    np.testing.assert_allclose(profile.value, [1.0, (0.75 + 1) / 2, (0.5 + 0) / 2, (0.5 + 0) / 2, 0.0])
    assert (profile.low <= profile.value).all() and (profile.value <= profile.high).all()
    assert profile.low[1] < profile.value[1] < profile.high[1] and profile.high[4] == 0


def test_probability_of_improvement_is_mann_whitney_over_pairs():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 6, size=(20, 2)).astype(float) + 1, rng.integers(0, 6, size=(15, 2)).astype(float)
    expected = np.mean([scipy.stats.mannwhitneyu(x[:, task], y[:, task]).statistic / (20 * 15) for task in range(2)])
    estimate = stats.probability_of_improvement(x, y, 0)
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < expected < estimate.high
    swapped = stats.probability_of_improvement(y, x, 0)
    assert swapped.value == pytest.approx(1 - expected)
    assert stats.probability_of_improvement([2, 2], [1, 1], 0) == stats.Estimate(1.0, 1.0, 1.0)
    assert stats.probability_of_improvement([1, 1], [1, 1], 0).value == 0.5
    with pytest.raises(UserError, match="x has 2 tasks and y has 1"):
        stats.probability_of_improvement(x, y[:, :1], 0)


def test_probability_of_improvement_resamples_both_sides():
    """Against a resample of indices, which is what the weights stand for."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(0.3, 1, 12), rng.normal(0, 1, 9)
    drawn = [np.mean(rng.choice(x, 12)[:, None] > rng.choice(y, 9)) for _ in range(5000)]
    estimate = stats.probability_of_improvement(x, y, 0, resamples=5000)
    np.testing.assert_allclose([estimate.low, estimate.high], np.quantile(drawn, [0.025, 0.975]), atol=0.02)


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(6)
    seed_effect = rng.normal(0, 10, 20)
    y = seed_effect + rng.normal(0, 0.1, 20)
    x = seed_effect + rng.normal(0, 0.1, 20) + 1
    estimate = stats.paired_difference(x, y, 0)
    assert estimate.value == pytest.approx((x - y).mean())
    assert 0.9 < estimate.low < estimate.high < 1.1
    y[3] = np.nan
    kept = np.arange(20) != 3
    assert stats.paired_difference(x, y, 0, nan_policy="omit").value == pytest.approx((x - y)[kept].mean())
    with pytest.raises(UserError, match="cannot be paired"):
        stats.paired_difference(x, y[:-1], 0)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], np.zeros((0, 3)), np.array([[1.0, np.nan]] * 3)])
def test_nothing_measured_is_a_sentence(values):
    calls = [
        lambda: stats.bootstrap_interval(values, stats.iqm, 0, nan_policy="omit"),
        lambda: stats.performance_profile(values, [0.0], 0, nan_policy="omit"),
        lambda: stats.probability_of_improvement(values, values, 0, nan_policy="omit"),
        lambda: stats.paired_difference(values, values, 0, nan_policy="omit"),
    ]
    if np.ndim(values) == 1:
        calls += [lambda f=f: f(values, nan_policy="omit") for f in (stats.iqm, stats.mean, stats.median)]
    for call in calls:
        with pytest.raises(UserError, match="is empty|is all NaN"):
            call()


def test_a_level_is_a_fraction():
    with pytest.raises(UserError, match="level is 95"):
        stats.bootstrap_interval([1.0, 2.0], stats.mean, 0, level=95)
