"""The best point of what was committed, and the spec that measures it on fresh seeds."""

import numpy as np
import pytest
from searches import Bowl, search

from jaxrl.cli import main
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.spec.spec import spec
from jaxrl.sweep.confirm import again, best, sentence
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.tune import tune

GRID = {"lr": (1e-2, 1e-3, 1e-4), "coef": (0.3, 0.9)}


def committed(out, height=None, **fields):
    """A grid whose best point is lr = 1e-3 and coef = 0.3, committed under `out`; its spec."""
    made = spec(**{"env": "probe/chain", "bonus": "count", "seeds": "3:7", "grid": GRID, **fields})
    (Bowl(out, height) if height else Bowl(out))(made)
    return made


def test_the_best_point_of_a_grid_is_run_on_as_many_seeds_after_the_largest_used(tmp_path):
    made = committed(tmp_path)
    point = best(tmp_path)
    assert (point.told, point.seeds, point.points, point.left_out) == ({"lr": 1e-3, "coef": 0.3}, (3, 4, 5, 6), 6, 0)
    assert point.value == pytest.approx(0.045) and "best of 6 points by eval_return" in sentence(point, "eval_return")
    fresh = lanes(again(point))
    assert [lane.seed for lane in fresh] == [7, 8, 9, 10]
    stored = {(lane.values["lr"], lane.values["coef"]): lane for lane in lanes(made)}[1e-3, 0.3]
    assert all((lane.program, lane.values) == (stored.program, stored.values) for lane in fresh)


def test_the_best_of_a_search_is_its_best_trial(tmp_path):
    trials = tune(search(trials=8), tmp_path, Bowl(tmp_path))
    winner = max(trials, key=lambda trial: trial.value)
    point = best(tmp_path)
    assert point.told == winner.point and point.value == pytest.approx(winner.value)
    assert [lane.seed for lane in lanes(again(point))] == [2, 3]


def test_of_equals_the_first_is_the_best_and_a_minimum_can_be_asked_for(tmp_path):
    committed(tmp_path, lambda lane: float(lane.values["coef"] > 0.5))
    assert best(tmp_path).told == {"lr": 1e-2, "coef": 0.9}
    assert best(tmp_path, direction="minimize").told == {"lr": 1e-2, "coef": 0.3}


def test_points_with_a_seed_that_diverged_or_is_missing_are_left_out_and_counted(tmp_path):
    committed(tmp_path, lambda lane: np.nan if lane.values["lr"] == 1e-3 and lane.seed == 4 else lane.values["lr"])
    committed(tmp_path, lambda lane: 9.0, seeds="3:5", grid={"lr": (0.5,)})
    point = best(tmp_path)
    assert (point.told["lr"], point.points, point.left_out) == (1e-2, 4, 3)
    assert "(3 left out: a seed diverged or is missing)" in sentence(point, "eval_return")


def test_seeds_that_were_used_are_refused_and_others_named(tmp_path):
    committed(tmp_path)
    point = best(tmp_path)
    with pytest.raises(UserError, match=r"seed 3 was used in the search.* as in seeds = '7:11'"):
        again(point, 4)
    assert [lane.seed for lane in lanes(again(point, "1000:1002"))] == [1000, 1001]


def test_results_run_no_code_that_they_name(tmp_path):
    made = spec(env="probe/chain", bonus="searches:paid", seeds=2)
    Bowl(tmp_path)(made)
    point = best(tmp_path)
    with pytest.raises(UserError, match="name the code 'searches:paid'.*pass --allow searches:paid"):
        again(point)
    from searches import paid

    (first, _) = lanes(again(point, own=[paid]))
    assert (first.program["bonus"], first.seed) == ("searches:paid", 2)
    assert lanes(again(point, allow=["searches:paid"]))[0] == first


def test_a_metric_that_was_not_measured_is_named(tmp_path):
    committed(tmp_path)
    with pytest.raises(UserError, match="unknown metric in .*'coverage'.*eval_return"):
        best(tmp_path, "coverage")


def test_the_command_runs_the_best_point_beside_the_results(tmp_path, monkeypatch, capsys):
    out = tmp_path / "noise"
    committed(out)
    ran = []
    monkeypatch.setattr("jaxrl.cli.execute", lambda made, folder, at_once: ran.append((made.seeds, folder)) or 0)
    assert main(["confirm", str(out)]) == 0
    assert ran == [((7, 8, 9, 10), tmp_path / "noise-confirmed")]
    assert capsys.readouterr().out.startswith("best of 6 points by eval_return, 0.045")
    assert main(["confirm", str(out), "--seeds", "5:9"]) == 2
    assert "seed 5 was used in the search" in capsys.readouterr().err
    assert store.committed(out).keys() == {lane.id for lane in lanes(spec(
        env="probe/chain", bonus="count", seeds="3:7", grid=GRID
    ))}  # fmt: skip
