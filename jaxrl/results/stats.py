"""Statistics over runs: interquartile mean, stratified bootstrap, Wilson, profiles, improvement, paired differences.

Arrays of scores are ``[runs]`` or ``[runs, tasks]``; tasks are strata, so runs are resampled within each task.
``nan_policy`` is "raise" or "omit". ``rng`` is a seed or a ``numpy.random.Generator``: equal seeds, equal intervals;
by default the seed is 0.
Intervals are percentile bootstrap intervals, and NaN where a task has a single run: one run says nothing of spread.

Sources: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (IQM, stratified
bootstrap, profiles, probability of improvement); Wilson 1927 (interval of a proportion).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from jaxrl.errors import UserError


class Estimate(NamedTuple):
    """A statistic and its interval: floats, or arrays of one shape."""

    value: Any
    low: Any
    high: Any


def iqm(values, axis: int | None = None, nan_policy: str = "raise"):
    """Interquartile mean: the mean after dropping the lowest and highest ``floor(n / 4)`` of n values."""
    return scipy.stats.trim_mean(_checked(values, axis, nan_policy), 0.25, axis=axis, nan_policy="omit")


def mean(values, axis: int | None = None, nan_policy: str = "raise"):
    """Arithmetic mean."""
    return np.nanmean(_checked(values, axis, nan_policy), axis=axis)


def median(values, axis: int | None = None, nan_policy: str = "raise"):
    """Median; the mean of the two middle values when their number is even."""
    return np.nanmedian(_checked(values, axis, nan_policy), axis=axis)


def bootstrap_interval(
    values, statistic: Callable, rng=0, level: float = 0.95, resamples: int = 2000, nan_policy: str = "raise"
) -> Estimate:
    """``statistic(values, axis=-1)`` of all values ``[runs, tasks]`` together, resampling runs within each task."""
    tasks = _tasks("values", values, nan_policy)
    value = float(statistic(np.concatenate(tasks), axis=-1))
    if _too_few(tasks):
        return Estimate(value, np.nan, np.nan)
    rng = np.random.default_rng(rng)
    drawn = [task[rng.integers(len(task), size=(resamples, len(task)))] for task in tasks]
    return Estimate(value, *_percentiles(statistic(np.concatenate(drawn, axis=-1), axis=-1), level))


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Proportion ``successes / n`` with the Wilson score interval, which stays in [0, 1] and works at 0 and at n."""
    if n != int(n) or n < 1:
        raise UserError(f"wilson: n is {n}, but a proportion needs a whole number of trials, at least 1")
    if successes != int(successes) or not 0 <= successes <= n:
        raise UserError(f"wilson: successes is {successes}, but it must be a whole number from 0 to n = {n}")
    z = scipy.stats.norm.ppf(0.5 + _level(level) / 2)
    proportion = successes / n
    centre = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    # At the ends the exact bound is 0 or 1; rounding may miss it by one bit.
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(proportion, 0.0 if successes == 0 else float(low), 1.0 if successes == n else float(high))


def performance_profile(
    scores, thresholds, rng=0, level: float = 0.95, resamples: int = 2000, nan_policy: str = "raise"
) -> Estimate:
    """Fraction of runs whose score exceeds each of ``thresholds[K]``, mean over tasks; arrays [K], pointwise band."""
    thresholds = np.atleast_1d(np.asarray(thresholds, float))
    above = [(task[:, None] > thresholds).astype(float) for task in _tasks("scores", scores, nan_policy)]
    value = np.mean([task.mean(axis=0) for task in above], axis=0)
    if _too_few(above):
        return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    rng = np.random.default_rng(rng)
    drawn = np.mean([_weights(rng, len(task), resamples) @ task for task in above], axis=0)
    return Estimate(value, *_percentiles(drawn, level))


def probability_of_improvement(
    x, y, rng=0, level: float = 0.95, resamples: int = 2000, nan_policy: str = "raise"
) -> Estimate:
    """P(a run of x scores higher than a run of y), ties counting one half, mean over tasks; runs are not paired."""
    x_tasks, y_tasks = _tasks("x", x, nan_policy), _tasks("y", y, nan_policy)
    if len(x_tasks) != len(y_tasks):
        raise UserError(f"probability_of_improvement: x has {len(x_tasks)} tasks and y has {len(y_tasks)}")
    wins = [
        (x[:, None] > y) + 0.5 * (x[:, None] == y) for x, y in zip(x_tasks, y_tasks, strict=True)
    ]  # one [runs of x, runs of y] per task
    value = float(np.mean([task.mean() for task in wins]))
    if _too_few(x_tasks) or _too_few(y_tasks):
        return Estimate(value, np.nan, np.nan)
    rng = np.random.default_rng(rng)
    drawn = [
        np.sum(_weights(rng, len(task), resamples) @ task * _weights(rng, task.shape[1], resamples), axis=1)
        for task in wins
    ]
    return Estimate(value, *_percentiles(np.mean(drawn, axis=0), level))


def paired_difference(
    x, y, rng=0, statistic: Callable = mean, level: float = 0.95, resamples: int = 2000, nan_policy: str = "raise"
) -> Estimate:
    """``statistic`` of x - y where row i of both is the same seed; omitting a NaN omits its pair."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape:
        raise UserError(f"paired_difference: x has shape {x.shape} and y has {y.shape}, so runs cannot be paired")
    return bootstrap_interval(x - y, statistic, rng, level, resamples, nan_policy)


def _checked(values, axis, nan_policy) -> np.ndarray:
    values = np.asarray(values, float)
    missing = np.isnan(values)
    if values.size == 0:
        raise UserError("values is empty: a statistic needs at least one run")
    if np.any(missing.all(axis=axis)):
        raise UserError("values is all NaN: a statistic needs at least one measured run")
    if nan_policy not in ("raise", "omit"):
        raise UserError(f"nan_policy is {nan_policy!r}, but it must be 'raise' or 'omit'")
    if nan_policy == "raise" and missing.any():
        raise UserError(f"values holds {missing.sum()} NaN among {values.size}: pass nan_policy='omit' to drop them")
    return values


def _tasks(name: str, values, nan_policy: str) -> list[np.ndarray]:
    """The measured runs of each task, a list of arrays [runs]."""
    values = np.asarray(values, float)
    if values.ndim not in (1, 2):
        raise UserError(f"{name} has shape {values.shape}, but it must be [runs] or [runs, tasks]")
    columns = _checked(values.reshape(len(values), -1) if values.size else values, 0, nan_policy).T
    return [column[~np.isnan(column)] for column in columns]


def _too_few(tasks) -> bool:
    return min(len(task) for task in tasks) < 2


def _weights(rng, runs: int, resamples: int) -> np.ndarray:
    """How often each run is drawn, divided by the number of runs; [resamples, runs]. Enough for any mean."""
    return rng.multinomial(runs, np.full(runs, 1 / runs), size=resamples) / runs


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise UserError(f"level is {level}, but a confidence level lies between 0 and 1, for instance 0.95")
    return level


def _percentiles(drawn, level):
    return np.quantile(drawn, [(1 - _level(level)) / 2, (1 + level) / 2], axis=0)
