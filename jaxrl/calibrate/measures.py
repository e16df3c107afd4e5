"""How well a bonus keeps to counts: measures of what one seed was paid, `bonus` and its `n` ``[rollouts, T, N]``."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from jaxrl.calibrate.walks import Walk
from jaxrl.results import stats

SHUFFLES = 200
FEW = 10  # arrivals at the television that count as early
# Edges of the bins of n: whole numbers, then steps of a square root of two.
BINS = np.unique(np.concatenate([np.arange(1, 12), np.round(2 ** np.arange(3.5, 25, 0.5))]))


def units_of(bonus: np.ndarray, n: np.ndarray, walk: Walk, counts: str) -> tuple[np.ndarray, np.ndarray]:
    """(bonus, 1/sqrt(n)) of what is ranked, from the later half of a walk.

    For lifelong counts each cell is one unit, the mean of its arrivals, so that the corner does not outvote the rest;
    otherwise each transition is.
    """
    late = slice(len(n) // 2, None)
    bonus, wanted, cell = bonus[late].ravel(), n[late].ravel() ** -0.5, walk.next_cell[late].ravel()
    if counts != "lifelong":
        return bonus, wanted
    arrivals = np.bincount(cell)
    mean = lambda x: np.bincount(cell, x)[arrivals > 0] / arrivals[arrivals > 0]
    return mean(bonus), mean(wanted)


def spearman(bonus: np.ndarray, wanted: np.ndarray) -> float:
    """Rank correlation; NaN for a bonus that is constant or not finite."""
    ranks = _standard_ranks(bonus), _standard_ranks(wanted)
    return float(ranks[0] @ ranks[1])


def slope(bonus: np.ndarray, wanted: np.ndarray) -> float:
    """Least-squares slope of log bonus against log n: -0.5 for a count. NaN where under nine tenths are positive."""
    positive = (bonus > 0) & np.isfinite(bonus)
    if positive.mean() < 0.9:
        return np.nan
    return float(np.polyfit(-2 * np.log(wanted[positive]), np.log(bonus[positive]), 1)[0])


def binned(bonus: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean n and mean bonus in each of BINS, NaN where nothing fell; over any number of transitions."""
    index = np.digitize(n.ravel(), BINS) - 1
    size = np.bincount(index, minlength=len(BINS)).astype(float)
    size[size == 0] = np.nan
    return tuple(np.bincount(index, x.ravel(), len(BINS)) / size for x in (n, bonus))


def decay(bonus: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Mean bonus in each of BINS over the mean bonus of first visits; NaN where that is not positive."""
    mean = binned(bonus, n)[1]
    return mean / mean[0] if mean[0] > 0 else np.full_like(mean, np.nan)


def half_life(bonus: np.ndarray, n: np.ndarray) -> float:
    """The n at which the mean bonus is half of that of first visits: 4 for a count.

    The largest n seen where it never is, NaN where first visits earn nothing; interpolated in log n.
    """
    at, kept = binned(np.ones_like(bonus), n)[0], decay(bonus, n)
    at, kept = at[~np.isnan(kept)], kept[~np.isnan(kept)]
    if not len(kept):
        return np.nan
    halved = np.flatnonzero(kept <= 0.5)
    if not len(halved):
        return float(n.max())
    i = halved[0]
    share = (kept[i - 1] - 0.5) / (kept[i - 1] - kept[i])
    return float(np.exp((1 - share) * np.log(at[i - 1]) + share * np.log(at[i])))


def noise_pay(bonus: np.ndarray, n: np.ndarray, noisy: np.ndarray) -> float:
    """Mean bonus of the later half's `noisy` transitions over that of others of equal n: 1 if noise is nothing special.

    NaN where there is nothing to compare with.
    """
    late = slice(len(n) // 2, None)
    bonus, n, noisy = bonus[late], n[late], noisy[late]
    usual = binned(bonus[~noisy], n[~noisy])[1][np.digitize(n[noisy], BINS) - 1]
    known = ~np.isnan(usual)
    if not known.any() or usual[known].mean() <= 0:
        return np.nan
    return float(bonus[noisy][known].mean() / usual[known].mean())


def noise_kept(bonus: np.ndarray) -> float:
    """Mean bonus of the last quarter of arrivals at noise, in time, over that of the first FEW; NaN if those earn 0."""
    if len(bonus) < 2 * FEW or bonus[:FEW].mean() <= 0:
        return np.nan
    return float(bonus[-(len(bonus) // 4) :].mean() / bonus[:FEW].mean())


def shuffled(ranked: Sequence[tuple[np.ndarray, np.ndarray]], rng: int = 0) -> stats.Estimate:
    """The negative control: Spearman, mean over seeds, when each seed's bonuses are dealt out anew at random.

    Its value is the mean of SHUFFLES such deals, its interval holds 95 % of them.
    """
    generator = np.random.default_rng(rng)
    ranks = [(_standard_ranks(bonus), _standard_ranks(wanted)) for bonus, wanted in ranked]
    deals = [np.mean([generator.permutation(a) @ b for a, b in ranks]) for _ in range(SHUFFLES)]
    return stats.Estimate(float(np.mean(deals)), *np.quantile(deals, [0.025, 0.975]))


def _standard_ranks(x: np.ndarray) -> np.ndarray:
    """Ranks, ties sharing theirs, with mean 0 and norm 1: Spearman's correlation is the product of two such."""
    if not np.isfinite(x).all():
        return np.full(x.shape, np.nan)
    ranks = rankdata(x) - (len(x) + 1) / 2
    norm = np.linalg.norm(ranks)
    return ranks / norm if norm > 0 else np.full(x.shape, np.nan)
