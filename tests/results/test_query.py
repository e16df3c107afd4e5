import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import ITERATIONS, write_sweep

from jaxrl import results
from jaxrl.errors import UserError
from jaxrl.results import plot, stats
from jaxrl.results.store import read_chunk, write_chunk


def test_curves_put_every_lane_at_its_coordinates(sweep, chunk):
    dataset = results.curves(sweep)
    assert dict(dataset["eval_return"].sizes) == {"bonus": 4, "coef": 3, "seed": 4, "iteration": 40}
    for bonus in ("none", "rnd"):
        written = chunk(bonus, (0.01, 0.1, 1.0), range(4))
        for row, lane in enumerate(written.lanes):
            at = dataset.sel(bonus=bonus, coef=lane["values"]["coef"], seed=lane["seed"])
            assert at["lane"].item() == lane["lane"]
            for name, curve in written.curves.items():
                np.testing.assert_array_equal(at[name], curve[row])


def test_curves_say_what_was_swept_fixed_and_measured(sweep):
    dataset = results.curves(sweep)
    assert dataset.attrs["swept"] == "bonus, coef"
    assert dataset.attrs["env"] == "DeepSea-bsuite" and dataset.attrs["env_args.size"] == 16
    assert dataset.attrs["hidden"] == "[64, 64]" and dataset.attrs["budget"] == 40 * 1024
    assert dataset["steps"].dims == ("iteration",) and dataset["steps"].attrs["units"] == "environment steps"
    assert dataset["steps"].values.tolist() == [1024 * i for i in range(1, 41)]
    assert dataset["coverage"].attrs["units"] == "fraction of states"
    assert "greedy actions" in dataset["eval_return"].attrs["description"]
    assert (
        dataset["rnd/loss"].sel(bonus="count").isnull().all() and dataset["rnd/loss"].sel(bonus="rnd").notnull().all()
    )


def test_diverged_lanes_are_named_and_left_out_unless_asked_for(sweep):
    dataset, kept = results.curves(sweep), results.curves(sweep, include_diverged=True)
    bad = {"bonus": "count", "coef": 1.0, "seed": 3}
    assert dataset.attrs["diverged"] == dataset["lane"].sel(bad).item()
    assert dataset["status"].sel(bad) == "diverged" and int((dataset["status"] == "ok").sum()) == 47
    assert dataset["return"].sel(bad).isnull().all()
    assert kept["return"].sel(bad)[:17].notnull().all() and kept["return"].sel(bad)[17:].isnull().all()
    frame = results.lanes(sweep).query("status == 'diverged'")
    assert frame["first_bad_iteration"].tolist() == [17] and frame["final_return"].isna().all()


def test_missing_combinations_are_nan(tmp_path, chunk):
    write_chunk(tmp_path, chunk("count", (0.1, 1.0), [0, 1]))
    write_chunk(tmp_path, chunk("none", (0.1,), [0]))
    dataset = results.curves(tmp_path)
    there = dataset["return"].notnull().all("iteration")
    assert int(there.sum()) == 5 and not there.sel(bonus="none", coef=1.0).any()
    assert dataset["lane"].sel(bonus="none", coef=1.0, seed=0) == ""


def test_points_far_from_a_grid_lie_along_one_dim(tmp_path, chunk):
    """Twelve draws of two fields, three seeds each: a grid of them would have 144 places for twelve points."""
    draws = [(0.01 * (i + 1), 0.9 + 0.001 * i) for i in range(12)]
    for coef, discount in draws:
        write_chunk(tmp_path, chunk("count", (coef,), values={"discount": discount}))
    dataset = results.curves(tmp_path)
    assert dict(dataset["return"].sizes) == {"point": 12, "seed": 3, "iteration": 40}
    assert dataset.attrs["swept"] == "point" and dataset["coef"].dims == ("point",)
    pairs = list(zip(dataset["coef"].values, dataset["discount"].values, strict=True))
    np.testing.assert_allclose(sorted(pairs), draws)
    assert (dataset["lane"] != "").all()
    lane = results.lanes(tmp_path).iloc[7]
    place = dict(zip(dataset["lane"].dims, np.argwhere(dataset["lane"].values == lane["lane"])[0], strict=True))
    there = dataset.isel(place)
    assert (there["coef"], there["discount"], there["seed"]) == (lane["coef"], lane["discount"], lane["seed"])
    figure = results.report.figures(dataset)["eval_return"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["coef", "discount"]
    drawn = figure.axes[0].lines[0].get_xydata()
    assert sorted(drawn[:, 0]) == pytest.approx([coef for coef, _ in draws])


def test_a_field_that_does_not_apply_is_not_a_value(tmp_path, chunk):
    write_chunk(tmp_path, chunk("none"))
    write_chunk(tmp_path, chunk("rnd", values={"rnd.lr": 1e-4}))
    dataset = results.curves(tmp_path)
    assert dataset.attrs["swept"] == "bonus" and dataset.attrs["rnd.lr"] == 1e-4
    write_chunk(tmp_path, chunk("rnd", values={"rnd.lr": 1e-3}))
    dataset = results.curves(tmp_path)
    assert dataset.attrs["swept"] == "bonus, rnd.lr"
    np.testing.assert_array_equal(dataset["rnd.lr"], [np.nan, 1e-4, 1e-3])
    there = (dataset["lane"] != "").all("seed")
    np.testing.assert_array_equal(there, [[True, False, False], [False, True, True]])
    assert len(results.summary(results.lanes(tmp_path))) == 3


def test_steps_keep_the_dimensions_they_depend_on(tmp_path, chunk):
    write_chunk(tmp_path, chunk())
    write_chunk(tmp_path, chunk(program={"num_envs": 32}, steps=np.arange(1, 41) * 2048))
    dataset = results.curves(tmp_path)
    assert dataset["steps"].dims == ("num_envs", "iteration")
    assert dataset["steps"].sel(num_envs=32, iteration=40) == 40 * 2048


def test_budgets_are_a_dimension_beside_the_steps(tmp_path, chunk):
    write_chunk(tmp_path, chunk())
    longer = chunk(program={"steps": 99})
    half = {name: curve[:, :20] for name, curve in longer.curves.items()}
    write_chunk(tmp_path, longer._replace(curves=half, iterations=np.arange(1, 21) * 2, steps=np.arange(1, 21) * 2048))
    dataset = results.curves(tmp_path)
    assert dataset["budget"].values.tolist() == [99, 40 * 1024] and dataset["steps"].dims == ("iteration",)
    assert dataset["return"].sel(budget=99, iteration=3).isnull().all()
    np.testing.assert_array_equal(dataset["return"].sel(budget=99, iteration=4), longer.curves["return"][:, 1])


def test_directories_come_together_when_a_field_sets_them_apart(tmp_path, chunk):
    write_chunk(tmp_path / "a", chunk("count"))
    write_chunk(tmp_path / "b", chunk("none", program={"num_envs": 32}))
    dataset = results.curves(tmp_path / "a", tmp_path / "b")
    assert dataset.attrs["swept"] == "bonus, num_envs"
    assert int((dataset["lane"] != "").sum()) == 6
    again = results.curves(tmp_path / "a", tmp_path / "a")
    assert again.equals(results.curves(tmp_path / "a"))


def test_two_lanes_in_one_place_are_refused(tmp_path, chunk):
    write_chunk(tmp_path / "a", chunk())
    other = chunk()
    write_chunk(tmp_path / "b", other._replace(lanes=[{**lane, "lane": f"x{lane['seed']}"} for lane in other.lanes]))
    with pytest.raises(UserError, match="lanes .* and x0 have the same seed but are different lanes"):
        results.curves(tmp_path / "a", tmp_path / "b")


def test_lanes_made_with_other_sources_are_said_and_never_mixed(tmp_path, chunk):
    shared = {"my_pkg:Maze": "f1"}
    write_chunk(tmp_path, chunk(sources={**shared, "settings of jax": "defaults"}, seeds=range(5)))
    write_chunk(tmp_path, chunk(sources={**shared, "settings of jax": "jax_enable_x64=true"}, seeds=range(5, 8)))
    with pytest.warns(UserWarning, match="holds 5 lanes made with other settings of jax: leaving them out"):
        assert results.curves(tmp_path).sizes["seed"] == 3


def test_another_version_of_the_code_is_said_and_never_mixed(tmp_path, chunk):
    write_chunk(tmp_path / "a", chunk(code="old", seeds=range(5)))
    write_chunk(tmp_path / "a", chunk(code="new"))
    with pytest.warns(UserWarning, match="reading new, leaving out 5 lanes of old"):
        dataset = results.curves(tmp_path / "a")
    assert dataset.attrs["code"] == "new" and dataset.sizes["seed"] == 3
    write_chunk(tmp_path / "b", chunk(code="newest"))
    with pytest.warns(UserWarning, match="leaving out 5"):
        both = results.curves(tmp_path / "a", tmp_path / "b")
    assert both.attrs["swept"] == "code" and both["code"].values.tolist() == ["new", "newest"]


def test_a_lane_committed_by_two_chunks_is_read_once(tmp_path, chunk):
    write_chunk(tmp_path, chunk(seeds=[0, 1]))
    second = chunk(seeds=[1, 2])
    second.curves["return"][:] = 7
    write_chunk(tmp_path, second)
    frame, dataset = results.lanes(tmp_path), results.curves(tmp_path)
    assert frame["seed"].tolist() == [0, 1, 2]
    assert [(dataset["return"].sel(seed=seed) == 7).all().item() for seed in range(3)] == [False, False, True]
    assert results.sql("select count(*) n from metrics", tmp_path)["n"].item() == 3 * 40


def test_damage_is_told_or_an_error_and_never_an_average(sweep):
    victim = next(sweep.glob("*/metrics.parquet"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    for load in (results.curves, results.lanes, lambda root: results.sql("select 1", root)):
        with pytest.warns(UserWarning, match=r"metrics.parquet is damaged"):
            load(sweep)
    for load in (results.curves, results.lanes):
        with pytest.raises(UserError, match=r"metrics.parquet is damaged"):
            load(sweep, strict=True)
    with pytest.raises(UserError, match=r"metrics.parquet is damaged"):
        results.sql("select 1", sweep, strict=True)


def test_lanes_hold_fields_and_last_measured_values(sweep):
    frame = results.lanes(sweep)
    assert len(frame) == 48 and frame["lane"].is_unique
    for manifest in results.chunks(sweep):
        chunk = read_chunk(sweep / manifest["chunk"])
        rows = frame.set_index("lane").loc[[lane["lane"] for lane in chunk.lanes if lane["status"] == "ok"]]
        ok = [lane["status"] == "ok" for lane in chunk.lanes]
        # evaluation i is at iteration 3 + 4 i: the last of 40 is index 39
        np.testing.assert_array_equal(rows["final_eval_return"].astype(np.float32), chunk.curves["eval_return"][ok, 39])
        assert set(rows["bonus"]) == {chunk.program["bonus"]}


def test_final_is_the_last_measured_value(tmp_path, chunk):
    written = chunk()
    written.curves["eval_return"][0, 36:] = np.nan  # the last evaluation of seed 0 is the one before
    written.curves["eval_return"][1, :] = np.nan
    write_chunk(tmp_path, written)
    expected = [written.curves["eval_return"][0, 35], np.nan, written.curves["eval_return"][2, 39]]
    dataset = results.curves(tmp_path)
    np.testing.assert_array_equal(results.final(dataset["eval_return"]), np.float32(expected))
    np.testing.assert_array_equal(results.lanes(tmp_path)["final_eval_return"], np.float32(expected))


def test_sql_joins_skips_what_was_not_measured_and_reaches_no_file(sweep, tmp_path):
    answer = results.sql(
        "select bonus, avg(eval_return) as mean, count(distinct lane) as n from metrics join lanes using (lane) "
        "where status = 'ok' group by bonus order by bonus",
        sweep,
    )
    dataset = results.curves(sweep)
    expected = dataset["eval_return"].mean(["coef", "seed", "iteration"])
    assert answer["bonus"].tolist() == ["count", "e3b", "none", "rnd"] and answer["n"].tolist() == [11, 12, 12, 12]
    np.testing.assert_allclose(answer["mean"], expected, rtol=1e-5)
    (tmp_path / "private.csv").write_text("a\n1\n")
    for statement in (f"from read_csv('{tmp_path}/private.csv')", f"copy lanes to '{tmp_path}/out.csv'", "selec 1"):
        with pytest.raises(UserError, match="the query failed"):
            results.sql(statement, sweep)
    assert not (tmp_path / "out.csv").exists()


def test_paired_gives_equal_seeds_and_refuses_mixed_packing(tmp_path, chunk):
    write_chunk(tmp_path, chunk("count", seeds=[0, 1, 2]))
    write_chunk(tmp_path, chunk("none", seeds=[0, 2]))
    x, y = results.paired(results.curves(tmp_path), "eval_return", "bonus", "count", "none")
    counted, plain = chunk("count", seeds=[0, 1, 2]), chunk("none", seeds=[0, 2])
    difference = stats.paired_difference(x, y, 0, nan_policy="omit")
    expected = counted.curves["eval_return"][[0, 2], 39] - plain.curves["eval_return"][:, 39]
    assert difference.value == pytest.approx(expected.mean())

    write_chunk(tmp_path, chunk("none", seeds=[1], packing={"lanes_at_once": 1}))
    dataset = results.curves(tmp_path)
    with pytest.raises(UserError, match="1 of 3 pairs were run under different packings"):
        results.paired(dataset, "eval_return", "bonus", "count", "none")
    x, y = results.paired(dataset, "eval_return", "bonus", "count", "none", allow_packing_mix=True)
    assert x.dims == y.dims == ("seed",) and not (x.isnull() | y.isnull()).any()
    for arguments, sentence in (
        (("eval_retrun", "bonus", "count", "none"), "did you mean 'eval_return'"),
        (("eval_return", "coef", 0.1, 1.0), "unknown swept name 'coef'"),
        (("eval_return", "bonus", "count", "rnd"), "bonus = 'rnd' is not among"),
    ):
        with pytest.raises(UserError, match=sentence):
            results.paired(dataset, *arguments)


def test_a_sparse_search_is_refused_with_a_way_out(tmp_path, chunk, monkeypatch):
    monkeypatch.setattr(results.query, "MAX_CELLS", 1000)
    write_sweep(tmp_path, ("none", "count"), seeds=range(6))
    with pytest.raises(UserError, match="48|36 lanes span a grid"):
        results.curves(tmp_path)
    assert len(results.lanes(tmp_path)) == 36


def test_no_directory_or_an_empty_one_is_a_sentence(tmp_path):
    for call in (results.curves, results.lanes):
        with pytest.raises(UserError, match="name at least one results directory"):
            call()
        with pytest.raises(UserError, match="no chunk was committed"):
            call(tmp_path)


def test_loading_a_clean_sweep_warns_of_nothing(sweep):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(results.lanes(sweep), pd.DataFrame)
        assert results.curves(sweep).sizes["seed"] == 4


def test_curves_go_to_netcdf_and_come_back(tmp_path, chunk):
    import xarray as xr

    for flag in (False, True):  # a flag that is swept, one that is fixed
        program = {"normalize_obs": flag, "normalize_reward": False}
        write_chunk(tmp_path, chunk("rnd", (0.01, 0.1), range(3), program=program, diverged={(0.1, 2)}))
    dataset = results.curves(tmp_path)
    dataset.to_netcdf(tmp_path / "curves.nc")
    back = xr.load_dataset(tmp_path / "curves.nc")
    assert back.equals(dataset) and back["normalize_obs"].dtype == bool
    assert {name: back.attrs[name] for name in ("swept", "env", "budget", "normalize_reward")} == {
        "swept": "normalize_obs, coef", "env": "DeepSea-bsuite", "budget": ITERATIONS * 1024, "normalize_reward": False
    }  # fmt: skip
    assert back.attrs["diverged"] == dataset.attrs["diverged"] and len(back.attrs["diverged"].split()) == 2
    plot.learning_curves(back, hue="coef")  # what draws reads no more than what was kept


def test_a_list_of_directories_is_as_good_as_several(tmp_path, chunk):
    for name, seeds in (("a", [0]), ("b", [1])):
        write_chunk(tmp_path / name, chunk(seeds=seeds))
    both = [tmp_path / "a", tmp_path / "b"]
    pd.testing.assert_frame_equal(results.lanes(both), results.lanes(*both))
    assert results.curves(both).identical(results.curves(*both))
    assert len(results.sql("select * from lanes", both)) == 2
    with pytest.raises(UserError, match="name at least one results directory"):
        results.lanes([])


def test_intervals_need_no_seed_and_are_the_same_every_time():
    values = np.random.default_rng(3).normal(size=20)
    assert stats.bootstrap_interval(values, stats.iqm) == stats.bootstrap_interval(values, stats.iqm, 0)
    assert stats.paired_difference(values, values[::-1]) == stats.paired_difference(values, values[::-1], 0)
    better = values + 1
    assert stats.probability_of_improvement(values, better) == stats.probability_of_improvement(values, better, 0)
    first, again = (stats.performance_profile(values, [0.0, 1.0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_sql_reads_a_field_that_is_a_number_in_one_program_and_a_word_in_another(tmp_path, chunk):
    for size in (16, "large"):
        write_chunk(tmp_path, chunk(program={"env_args": {"size": size}}))
    found = results.sql('select distinct "env_args.size" as size from lanes order by size', tmp_path)
    assert found["size"].tolist() == ["16", "large"]
    with pytest.raises(UserError, match="asks for nothing"):
        results.sql("", tmp_path)
