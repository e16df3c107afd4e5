import numpy as np
import pytest

from jaxrl import results
from jaxrl.errors import UserError
from jaxrl.results import stats, table
from jaxrl.results.store import write_chunk


def test_every_cell_has_its_row_and_its_statistics(sweep):
    cells = results.summary(results.lanes(sweep))
    final = results.final(results.curves(sweep)[["eval_return", "solved", "coverage"]].to_array())
    assert len(cells) == 12 and cells.columns[:4].tolist() == ["bonus", "coef", "seeds", "diverged"]
    for row in cells.to_dict("records"):
        here = final.sel(bonus=row["bonus"], coef=row["coef"])
        returns, solved, coverage = (
            here.sel(variable=name).dropna("seed").values for name in ("eval_return", "solved", "coverage")
        )
        assert row["seeds"] == len(returns)
        assert row["solved"] == solved.sum()
        assert (row["solved_low"], row["solved_high"]) == stats.wilson(int(solved.sum()), len(solved))[1:]
        estimate = stats.bootstrap_interval(returns, stats.iqm, 0)
        np.testing.assert_allclose(
            [row["eval_return"], row["eval_return_low"], row["eval_return_high"]], estimate, rtol=1e-5
        )
        assert row["coverage"] == pytest.approx(stats.iqm(coverage))


def test_diverged_lanes_are_counted_and_not_averaged(sweep):
    cells = results.summary(results.lanes(sweep)).set_index(["bonus", "coef"])
    assert cells.loc[("count", 1.0), ["seeds", "diverged"]].tolist() == [3, 1]
    assert cells["diverged"].sum() == 1


def test_text_shows_counts_intervals_and_what_is_missing(tmp_path, chunk):
    unsolved = chunk("none")
    unsolved.curves["solved"][:] = np.nan  # an environment that names no threshold
    write_chunk(tmp_path, unsolved)
    write_chunk(tmp_path, chunk("count", coefs=(10.0,), diverged={(10.0, 0), (10.0, 1), (10.0, 2)}))
    text = table.text(results.summary(results.lanes(tmp_path)))
    count, none = (line.split() for line in text.splitlines()[1:])
    assert count == ["count", "10", "0", "-", "-", "-", "3"]
    assert none[:4] == ["none", "0.1", "3", "-"] and none[-1] == "0"
    solved = table.text(results.summary(results.lanes(write_chunk(tmp_path / "b", chunk("count")).parent)))
    assert "3/3 [0.439, 1]" in solved  # Wilson at p = 1: 3 / (3 + 1.96^2)


def test_one_cell_and_no_lane(tmp_path, chunk):
    write_chunk(tmp_path, chunk())
    frame = results.lanes(tmp_path)
    assert len(results.summary(frame)) == 1
    with pytest.raises(UserError, match="no lanes"):
        results.summary(frame[:0])
