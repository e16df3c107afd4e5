"""Importance: what is known about an outcome's variance is found, what does nothing is at zero."""

import warnings

import numpy as np
import pytest
import xarray as xr

from jaxrl import results
from jaxrl.errors import UserError
from jaxrl.results.variance import omega_squared


def grid(effects, seeds=8, noise=1.0, rng=0):
    """A dataset over the swept names of `effects`, whose outcome is the sum of their effects plus noise per lane."""
    rng = np.random.default_rng(rng)
    coords = {**{name: np.arange(len(effect)) + 1.0 for name, effect in effects.items()}, "seed": np.arange(seeds)}
    outcome = noise * rng.normal(size=[len(values) for values in coords.values()])
    for axis, effect in enumerate(effects.values()):
        outcome += np.asarray(effect, float).reshape([-1 if axis == i else 1 for i in range(outcome.ndim)])
    data = xr.DataArray(outcome[..., None].astype(np.float32), {**coords, "iteration": [1]}, [*coords, "iteration"])
    return xr.Dataset({"eval_return": data}, attrs={"swept": ", ".join(effects)})


def test_omega_squared_by_hand():
    outcome, groups = np.array([1.0, 2.0, 3.0, 5.0, 6.0, 7.0]), np.array([0, 0, 0, 1, 1, 1])
    # within groups 2 each, so 4 of 28 in all; 24 are between.
    assert omega_squared(outcome, groups, groups) == pytest.approx((24 - 4 / 4) / (28 + 4 / 4))
    cells = np.array([0, 0, 1, 2, 2, 3])  # another field: 0.5 within each cell of two
    assert omega_squared(outcome, groups, cells) == pytest.approx((24 - 1 / 2) / (28 + 1 / 2))
    assert np.isnan(omega_squared(outcome, np.zeros(6, int), groups))  # one group
    assert np.isnan(omega_squared(outcome, groups, np.arange(6)))  # nothing differs by chance alone
    assert np.isnan(omega_squared(np.ones(6), groups, groups))  # nothing to explain


def test_known_shares_lie_in_their_intervals_and_the_larger_comes_first():
    # Variance of the effects 4 and 1 (over the values), of the noise 1: shares 2/3 and 1/6 in all.
    effects = {"small": [-1, 1], "large": [-2, 2], "nothing": [0, 0, 0]}
    table = results.importance(grid(effects, seeds=20))
    assert table["field"].tolist() == ["large", "small", "nothing"]
    for share, row in zip([4 / 6, 1 / 6, 0.0], table.itertuples(), strict=True):
        assert row.low < share < row.high and row.high - row.low < 0.25


def test_a_field_that_does_nothing_is_at_zero_on_average():
    shares = []
    for rng in range(60):
        table = results.importance(grid({"a": [0, 0, 0, 0], "b": [0, 2]}, seeds=6, rng=rng))
        shares.append(table.set_index("field").loc["a", "share"])
    assert abs(np.mean(shares)) < 3 * np.std(shares) / np.sqrt(60) and np.mean(shares) < 0.02


def test_points_are_cut_into_groups_and_a_curved_effect_is_seen():
    rng = np.random.default_rng(1)
    lr, coef = rng.uniform(1, 2, 60), rng.uniform(1, 2, 60)
    outcome = 20 * (lr - 1.5) ** 2 + 0.2 * rng.normal(size=(2, 60))  # a straight line would see nothing
    data = xr.DataArray(outcome.T[..., None], {"point": np.arange(60), "seed": [0, 1], "iteration": [1]})
    dataset = xr.Dataset({"eval_return": data}, attrs={"swept": "point"})
    dataset = dataset.assign_coords(lr=("point", lr), coef=("point", coef))
    table = results.importance(dataset).set_index("field")
    assert table.loc["lr", "low"] > 0.5 and table.loc["coef", "low"] < 0.1
    assert set(table.index) == {"lr", "coef"}


def test_what_cannot_be_said_is_a_sentence_or_nan(sweep):
    dataset = grid({"a": [0, 1]}, seeds=1)
    assert np.isnan(results.importance(grid({"a": [0, 1], "b": [0, 1]}, seeds=1))["low"]).all()
    with pytest.raises(UserError, match="nothing was swept"):
        results.importance(dataset.isel(a=0))
    with pytest.raises(UserError, match="the same in every lane"):
        results.importance(dataset.map(np.zeros_like, keep_attrs=True))
    with pytest.raises(UserError, match="unknown metric 'eval_retrun': did you mean 'eval_return'"):
        results.importance(results.curves(sweep), "eval_retrun")


def test_of_a_real_sweep_the_bonus_matters_most(sweep):
    table = results.importance(results.curves(sweep))
    assert table["field"].tolist()[0] == "bonus" and set(table["field"]) == {"bonus", "coef"}


def test_fields_that_changed_together_are_told_of():
    dataset = grid({"lr": [0, 1], "coef": [0, 1], "clip": [0, 0]})
    apart = (dataset["lr"] == 1) & (dataset["coef"] == 2) | (dataset["lr"] == 2) & (dataset["coef"] == 1)
    with pytest.warns(UserWarning, match="lr and coef changed together in these lanes"):
        results.importance(dataset.where(~apart))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results.importance(dataset)
