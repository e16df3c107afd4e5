"""What decides a claim: a difference, registered before the run, and the interval that was measured of it.

    reproduced   the 95 % interval of first - second excludes zero on the claimed side
    refuted      the interval ends at or below the margin: an effect as large as that is excluded
    undecided    neither

Reproduced is looked at first, so a small effect that is certain counts. A difference that claims no gain
(`gain=False`) is reproduced where a gain as large as the margin is excluded, and refuted where zero is. A claim with
several differences is reproduced if all of them are, which needs no correction for their number, and refuted if one is.

Means are compared by Welch's interval, proportions of 0 and 1 by Newcombe's (1998, "Interval estimation for the
difference between independent proportions", method 10), which is not empty where all seeds agree. Where all scores of
both arms are one number that is no proportion, a floor say, nothing is known of their spread: undecided. So is a
difference of which a seed diverged, because the others are no fair sample. Both arms start from the same seeds and are
taken as independent all the same: the intervals are too wide where scores of one seed go together.
"""

import math
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
import scipy.stats
import xarray as xr

from jaxrl.errors import UserError, unknown
from jaxrl.results.stats import Estimate, wilson

LEVEL = 0.95
VERDICTS = ("reproduced", "refuted", "undecided")
REPETITIONS = 400  # planted data sets for each answer


class Difference(NamedTuple):
    """A claim about two arms of a panel that `measure` returns: the mean of `first` minus that of `second`."""

    says: str  # the claim, a clause
    panel: str
    first: str  # arm
    second: str  # arm
    margin: float  # an effect smaller than this is none, in the panel's units
    at: Mapping[str, Hashable] = {}  # where along the panel's other dims
    share: float = 1.0  # of the second: 0.9 claims "within 10 % of it"
    gain: bool = True  # False claims that there is none


class Decided(NamedTuple):
    difference: Difference
    estimate: Estimate  # of the difference, with its 95 % interval
    verdict: str
    lost: int = 0  # seeds of either arm that diverged


def check(differences: tuple[Difference, ...]) -> None:
    """Raises UserError for a difference that cannot decide anything, before anything is trained."""
    if not differences:
        raise UserError("DIFFERENCES is empty: a claim registers at least one")
    for one in differences:
        for name in ("margin", "share"):
            if not 0 < getattr(one, name) < math.inf:
                raise UserError(f"difference {one.says!r}: {name} = {getattr(one, name)}: must be greater than 0")
        if not all((one.says, one.panel, one.first, one.second)):
            raise UserError(f"difference {one.says!r}: says, panel, first and second are not empty")


def decide(difference: Difference, panels: Mapping[str, xr.DataArray]) -> Decided:
    """The verdict on what was measured; raises UserError where the panel, an arm or a place is not there."""
    if difference.panel not in panels:
        raise unknown("panel", difference.panel, panels)
    panel = panels[difference.panel]
    pair = [scores(panel, arm, difference.at) for arm in (difference.first, difference.second)]
    measured = [values[~np.isnan(values)] for values in pair]
    for arm, values in zip((difference.first, difference.second), measured, strict=True):
        if len(values) < 2:
            raise UserError(f"{len(values)} seeds were measured of {arm!r}: a comparison needs two")
    decided = judged(difference, *measured)
    lost = sum(len(values) for values in pair) - sum(len(values) for values in measured)
    return decided._replace(lost=lost, verdict="undecided" if lost else decided.verdict)


def judged(difference: Difference, first: np.ndarray, second: np.ndarray) -> Decided:
    """The verdict on scores ``[seeds]`` of both arms."""
    estimate = interval(first, second, difference.share)
    above, within = estimate.low > 0, estimate.high <= difference.margin  # neither, of NaN
    shown, refuted = (above, within) if difference.gain else (within, above)
    return Decided(difference, estimate, "reproduced" if shown else "refuted" if refuted else "undecided")


def overall(decided: list[Decided]) -> str:
    """The verdict on a claim."""
    verdicts = {one.verdict for one in decided}
    if verdicts == {"reproduced"}:
        return "reproduced"
    return "refuted" if "refuted" in verdicts else "undecided"


def scores(panel: xr.DataArray, arm: str, at: Mapping[str, Hashable]) -> np.ndarray:
    """The scores ``[seeds]`` of an arm at a place, NaN where a seed diverged."""
    for dim, value in {"arm": arm, **at}.items():
        if dim not in panel.dims:
            raise unknown("dim", dim, map(str, panel.dims))
        if value not in panel[dim].values:
            raise unknown(dim, str(value), map(str, panel[dim].values))
    values = panel.sel({"arm": arm, **at})
    if values.dims != ("seed",):
        raise UserError(f"a difference compares seeds: say where along {', '.join(map(str, values.dims[:-1]))}")
    return values.values.astype(float)


def interval(first: np.ndarray, second: np.ndarray, share: float = 1.0) -> Estimate:
    """Mean of first - share * second with its 95 % interval, NaN where there is no telling."""
    difference = float(first.mean() - share * second.mean())
    if binary(first) and binary(second):
        one, other = (wilson(int(x.sum()), len(x), LEVEL) for x in (first, second))
        low = math.hypot(one.value - one.low, share * (other.high - other.value))
        high = math.hypot(one.high - one.value, share * (other.value - other.low))
        return Estimate(difference, difference - low, difference + high)
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        known = first[0] != second[0]
        return Estimate(difference, *((difference, difference) if known else (math.nan, math.nan)))
    bounds = scipy.stats.ttest_ind(first, share * second, equal_var=False).confidence_interval(LEVEL)
    return Estimate(difference, float(bounds.low), float(bounds.high))


def mean(values: np.ndarray) -> Estimate:
    """Mean over seeds ``[seeds]`` with its 95 % interval: Wilson's of a proportion, else Student's; NaN of one seed."""
    if binary(values):
        return wilson(int(values.sum()), len(values), LEVEL)
    centre = float(values.mean())
    if len(values) < 2:
        return Estimate(centre, math.nan, math.nan)
    if np.ptp(values) == 0:
        return Estimate(centre, centre, centre)
    half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)
    return Estimate(centre, centre - half, centre + half)


def binary(values: np.ndarray) -> bool:
    """True of scores that say for each seed whether it did or did not; NaN is neither here nor there."""
    return bool((np.isin(values, (0.0, 1.0)) | np.isnan(values)).all())


def planted(difference: Difference, seeds: int, proportion: bool, rng=0) -> dict[str, dict[str, float]]:
    """How often each verdict falls on data that were made up: {"null": {verdict: share}, "effect": ...}.

    Null data have no difference (with `share`, exactly that share; with `gain=False`, a gain of twice the margin, which
    is what it denies). Of proportions the effect is nearly all against nearly none, or, where no gain is claimed, none.
    Else it is the margin, of data whose standard error is a sixth of that: so this tries the verdict, and of the power
    of a claim it only tells for proportions, by their number of seeds.
    """
    rng = np.random.default_rng(rng)
    shares = {}
    for case in ("null", "effect"):
        found = []
        for _ in range(REPETITIONS):
            if proportion:
                pair = _coins(difference, seeds, case, rng)
            else:
                pair = _normals(difference, seeds, case, rng)
            found.append(judged(difference, *pair).verdict)
        shares[case] = {verdict: found.count(verdict) / REPETITIONS for verdict in VERDICTS}
    return shares


def _coins(difference: Difference, seeds: int, case: str, rng) -> tuple[np.ndarray, np.ndarray]:
    gains = (case == "effect") == difference.gain  # this case has a gain
    chances = (0.98, 0.02) if gains else (0.3 * min(difference.share, 1.0), 0.3 / max(difference.share, 1.0))
    first, second = (rng.random(seeds) < chance for chance in chances)
    return first.astype(float), second.astype(float)


def _normals(difference: Difference, seeds: int, case: str, rng) -> tuple[np.ndarray, np.ndarray]:
    gains = (case == "effect") == difference.gain
    # A standard error of the difference is a sixth of the margin, or of the effect.
    spread = difference.margin / 6 * math.sqrt(seeds / (1 + difference.share**2))
    base = 2 * difference.margin
    shift = difference.margin * (1 if difference.gain else 2) if gains else 0.0
    first = difference.share * base + shift + spread * rng.standard_normal(seeds)
    return first, base + spread * rng.standard_normal(seeds)
