"""Which hyperparameter matters: the share of an outcome's variance over lanes that each swept field explains alone.

For a field whose values divide n lanes into k groups the share is omega squared (Hays 1963, Statistics for
Psychologists): the variance between groups, less what chance alone puts there, over the variance in all:

    omega^2 = (SS_between - (k - 1) MS_error) / (SS_total + MS_error)

MS_error is the mean square within cells of a grid, where every group holds the same cells and only seeds differ by
chance, and within the groups themselves where lanes are points that were drawn. The share is 0 on average for a field
that does nothing, and may come out below. What all fields together leave is their interactions and the seeds.
Intervals are those of the delete-one jackknife (Efron and Stein 1981) over seeds, or over points: resampling with
replacement would repeat lanes and inflate every share.
"""

import itertools
import warnings

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from jaxrl.errors import UserError, unknown
from jaxrl.results.query import final, swept_names

BINS = 5  # ours: groups of equal size that the values of a field are cut into where they are more than twice as many


def importance(dataset: xr.Dataset, metric: str = "eval_return", level: float = 0.95) -> pd.DataFrame:
    """A row for each swept field of a ``curves`` dataset, largest share first: ``field share low high``.

    A field is judged over the lanes to which it applies. Diverged lanes are not there. Where there
    is a single seed of a grid the share is NaN; with fewer than three seeds or points the interval is.

    Raises:
        UserError: an unknown metric, nothing swept, or an outcome that is the same in every lane.
    """
    if metric not in dataset:
        raise unknown("metric", metric, map(str, dataset.data_vars))
    names = [str(name) for name in swept_names(dataset) if name in dataset.dims]
    cells: list[str] | None = names
    if names == ["point"]:
        cells, names = None, [str(name) for name in dataset.coords if dataset[name].dims == ("point",)]
        names.remove("point")
    if not names:
        raise UserError("importance: nothing was swept, so no field can matter more than another")
    frame = final(dataset[metric]).to_dataframe("outcome").reset_index()
    frame = frame[frame["outcome"].notna()]
    if frame["outcome"].nunique() < 2:
        raise UserError(f"importance: the last {metric} is the same in every lane")
    if alike := _inseparable(frame, names):
        text = f"importance: {' and '.join(alike)} changed together in these lanes, so what each explains is not known"
        warnings.warn(text, stacklevel=2)
    rows = [{"field": name, **_share(frame, name, cells, level)} for name in names]
    return pd.DataFrame(rows).sort_values("share", ascending=False, ignore_index=True)


def _share(frame: pd.DataFrame, name: str, cells: list[str] | None, level: float) -> dict[str, float]:
    here = frame[frame[name].notna() & (frame[name] != "")]
    groups, outcome = _groups(here[name]), here["outcome"].to_numpy(float)
    error = groups if cells is None else here.groupby(cells, dropna=False).ngroup().to_numpy()
    cluster = here["point" if cells is None else "seed"].to_numpy()
    clusters = np.unique(cluster)
    share, m = omega_squared(outcome, groups, error), len(clusters)
    if m < 3:
        return {"share": share, "low": np.nan, "high": np.nan}
    kept = [cluster != one for one in clusters]
    without = np.array([omega_squared(outcome[rest], groups[rest], error[rest]) for rest in kept])
    deviation = np.sqrt((m - 1) / m * np.sum((without - without.mean()) ** 2))
    half = scipy.stats.t.ppf(0.5 + level / 2, m - 1) * deviation
    return {"share": share, "low": share - half, "high": min(1.0, share + half)}


def _inseparable(frame: pd.DataFrame, names: list[str]) -> list[str]:
    """The first two fields of which each decides the other in every lane; none where all can be told apart."""
    for one, other in itertools.combinations(names, 2):
        pairs = frame[[one, other]].drop_duplicates()
        if len(pairs) > 1 and len(pairs) == frame[one].nunique(dropna=False) == frame[other].nunique(dropna=False):
            return [one, other]
    return []


def omega_squared(outcome: np.ndarray, groups: np.ndarray, error: np.ndarray) -> float:
    """Of outcomes ``[n]`` in `groups` ``[n]`` int; `error` ``[n]`` int: whose members differ by chance alone.

    NaN where there is one group, nothing that differs by chance, or no variance.
    """
    total = np.sum((outcome - outcome.mean()) ** 2)
    within, k = _within(outcome, groups)
    chance, cells = _within(outcome, error)
    if k < 2 or len(outcome) <= cells or total == 0:
        return np.nan
    mean_square = chance / (len(outcome) - cells)
    return float((total - within - (k - 1) * mean_square) / (total + mean_square))


def _within(outcome: np.ndarray, groups: np.ndarray) -> tuple[float, int]:
    """(sum of squares within groups, how many groups)."""
    names, groups = np.unique(groups, return_inverse=True)
    means = np.bincount(groups, outcome) / np.bincount(groups)
    return float(np.sum((outcome - means[groups]) ** 2)), len(names)


def _groups(values: pd.Series) -> np.ndarray:
    """Group of each lane, int: its value, or the fifth of all lanes that its value lies in."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 2 * BINS:
        return pd.qcut(values, BINS, labels=False, duplicates="drop").to_numpy()
    return pd.factorize(values)[0]
