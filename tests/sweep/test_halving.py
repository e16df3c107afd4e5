"""Successive halving: the rule on a sweep that costs nothing, and the bits of what it stops on one that trains."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY

from jaxrl import checkpoint
from jaxrl.cli import main
from jaxrl.errors import UserError
from jaxrl.results import curves, store, summary
from jaxrl.results.query import final
from jaxrl.results.query import lanes as lanes_frame
from jaxrl.results.report import write_report
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.halving import rungs
from jaxrl.spec.spec import load_toml, spec
from jaxrl.sweep.confirm import best
from jaxrl.sweep.extend import FOLDER
from jaxrl.sweep.halving import halve, ranked
from jaxrl.sweep.plan import lanes, programs
from jaxrl.sweep.run import run

COEFS = tuple(round(0.1 * n, 1) for n in range(9))
NINE = {"env": "probe/chain", "bonus": "count", "seeds": 2, "grid": {"coef": COEFS}}
LENGTH = {"steps": 10 * 8 * 128, "num_envs": 8, "num_steps": 128}  # ten iterations
RULE = {"eta": 3, "first": 0.1}  # after iterations 1, 3 and 9 where every iteration is evaluated


class Ramp:
    """Stands for `jaxrl.sweep.run.run`: a lane's curve is iteration times `height`; `calls` holds what each ran."""

    def __init__(self, out, height, stop_after=None):
        self.out, self.height, self.stop_after, self.calls = out, height, stop_after, []

    def __call__(self, made, only, until=None):
        last = until or 10
        done = store.committed(self.out, until=last if until else float("inf")) if self.out.exists() else {}
        left = [lane for lane in lanes(made) if lane.id in only and lane.id not in done]
        self.calls.append((until, {lane.values["coef"] for lane in left}))
        if self.stop_after is not None and len(self.calls) > self.stop_after:
            return
        for program, group in programs(left):
            store.write_chunk(self.out, ramp(program, group, last, self.height))


def ramp(program, group, last, height):
    numbers = np.arange(1, last + 1)
    ends = np.array([height(lane) for lane in group], np.float32)
    rows = [
        {"lane": lane.id, "seed": lane.seed, "values": lane.values,
         "status": "diverged" if np.isnan(end) else "ok" if last == 10 else "stopped",
         "first_bad_iteration": 1 if np.isnan(end) else None}
        for lane, end in zip(group, ends, strict=True)
    ]  # fmt: skip
    return store.Chunk(
        program=program,
        lanes=rows,
        iterations=numbers,
        steps=numbers * 1024,
        curves={"eval_return": ends[:, None] * numbers.astype(np.float32)},
        params={"w": np.zeros((len(group), 1), np.float32)},
        code=code_fingerprint(),
        sources=group[0].sources,
        timing={"started": "2026-11-21T09:00:00+00:00"},
        packing={"devices": 1},
        environment={},
    )


def halved(out, height, stop_after=None, **options):
    runner, events = Ramp(out, height, stop_after), []
    whole = halve(spec(**NINE, **LENGTH, evals=10, halving={**RULE, **options}), out, runner, events.append)
    return runner, [event["text"] for event in events], whole


def record_of(out):
    (path,) = out.glob("halving-*.json")
    return path.read_bytes()


def test_the_best_third_of_the_cells_goes_on_at_each_rung_and_the_last_one_to_the_end(tmp_path):
    runner, notes, whole = halved(tmp_path, lambda lane: lane.values["coef"] + 0.01 * lane.seed)
    assert whole
    assert [(until, len(coefs)) for until, coefs in runner.calls] == [(1, 9), (3, 3), (None, 1)]
    assert {round(coef, 1) for coef in runner.calls[1][1]} == {0.6, 0.7, 0.8}
    assert {round(coef, 1) for coef in runner.calls[2][1]} == {0.8}
    assert notes == [
        "rung 1 of 3, after 1 iterations: 3 of 9 cells go on "
        "(eval_return of the worst kept 0.605, of the best stopped 0.505)",
        "rung 2 of 3, after 3 iterations: 1 of 3 cells go on "
        "(eval_return of the worst kept 2.415, of the best stopped 2.115)",
    ]


def test_the_record_tells_what_the_rule_saw_and_is_sealed(tmp_path):
    halved(tmp_path, lambda lane: np.nan if lane.values["coef"] == 0 and lane.seed else lane.values["coef"])
    raw = record_of(tmp_path)
    told = json.loads(raw)
    assert raw == store.seal({key: value for key, value in told.items() if key != "checksum"})
    assert [(rung["iteration"], len(rung["cells"])) for rung in told["rungs"]] == [(1, 9), (3, 3)]
    first = told["rungs"][0]["cells"]
    assert [cell["decision"] for cell in first] == ["stopped"] * 6 + ["kept"] * 3
    assert first[0]["value"] is None  # of a cell with a diverged lane
    np.testing.assert_allclose([cell["value"] for cell in first[1:]], COEFS[1:], rtol=1e-6)
    known = lanes(spec(**NINE, **LENGTH, evals=10))
    assert [cell["fields"]["coef"] for cell in first] == [lane.values["coef"] for lane in known[::2]]
    assert {one for cell in first for one in cell["lanes"]} == {lane.id for lane in known}


def test_the_least_wins_where_that_is_asked_for_and_what_has_no_value_comes_last():
    assert ranked([1.0, 3.0, np.nan, 3.0, -np.inf], "maximize") == [1, 3, 0, 2, 4]
    assert ranked([1.0, 3.0, np.nan, 3.0, np.inf], "minimize") == [0, 1, 3, 2, 4]


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_run_that_was_stopped_anywhere_goes_on_as_if_it_had_not_been(tmp_path, calls):
    height = lambda lane: -((lane.values["coef"] - 0.33) ** 2)
    assert not halved(tmp_path / "stopped", height, stop_after=calls)[2]
    again, _, whole = halved(tmp_path / "stopped", height)
    straight, *_ = halved(tmp_path / "straight", height)
    assert whole and again.calls == straight.calls[calls:]
    assert record_of(tmp_path / "stopped") == record_of(tmp_path / "straight")
    assert halved(tmp_path / "stopped", height)[0].calls == []
    assert record_of(tmp_path / "stopped") == record_of(tmp_path / "straight")


def test_what_ran_to_the_end_before_is_judged_by_its_value_at_the_rung(tmp_path):
    made = spec(**NINE, **LENGTH, evals=10)
    height = lambda lane: lane.values["coef"]
    Ramp(tmp_path / "whole", height)(made, {lane.id for lane in lanes(made)})
    runner, *_ = halved(tmp_path / "whole", height)
    halved(tmp_path / "halved", height)
    assert runner.calls == [] and record_of(tmp_path / "whole") == record_of(tmp_path / "halved")


def test_stopped_lanes_are_counted_and_never_averaged(tmp_path):
    halved(tmp_path, lambda lane: lane.values["coef"])
    frame = lanes_frame(tmp_path)
    assert len(frame) == 18 and frame["lane"].is_unique
    where = {0.8: None, 0.6: 3, 0.7: 3}
    for _, row in frame.iterrows():
        at = where.get(round(row["coef"], 1), 1)
        assert row["status"] == ("ok" if at is None else "stopped") and row["continues"] == ""
        assert (None if at is None else int(row["stopped_at"])) == at
        assert row["final_eval_return"] == pytest.approx(row["coef"] * (at or 10))
    table = summary(frame).set_index("coef")
    np.testing.assert_array_equal(table["stopped"], [2] * 8 + [0])
    np.testing.assert_array_equal(table["seeds"], [0] * 8 + [2])
    np.testing.assert_array_equal(np.isfinite(table["eval_return"]), [False] * 8 + [True])
    data = curves(tmp_path)
    ends = final(data["eval_return"]).mean("seed").values
    np.testing.assert_array_equal(np.isfinite(ends), [False] * 8 + [True])
    reached = np.isfinite(data["eval_return"]).all("seed").sum("iteration").values
    np.testing.assert_array_equal(reached, [1] * 6 + [3, 3, 10])
    chosen = best(tmp_path)
    assert chosen.points == 1 and chosen.left_out == 8 and chosen.told["coef"] == pytest.approx(0.8)
    page = write_report(tmp_path, out=tmp_path / "report.html").read_text()
    assert "16 lanes were stopped before their end" in page and "Stopped lanes" in page


def test_a_rung_whose_chunk_is_damaged_is_run_again(tmp_path):
    height = lambda lane: lane.values["coef"]
    halved(tmp_path, height)
    before = record_of(tmp_path)
    (path,) = tmp_path.glob("*-1")
    (path / "params.safetensors").write_bytes(b"")

    class Mending(Ramp):
        def __call__(self, made, only, until=None):
            store.set_damaged_aside(self.out, code_fingerprint(), only)
            super().__call__(made, only, until)

    runner = Mending(tmp_path, height)
    assert halve(spec(**NINE, **LENGTH, evals=10, halving=RULE), tmp_path, runner)
    assert [(until, len(coefs)) for until, coefs in runner.calls] == [(1, 6)] and record_of(tmp_path) == before


def test_a_directory_of_stopped_lanes_alone_can_be_read(tmp_path):
    halved(tmp_path, lambda lane: lane.values["coef"], stop_after=1)
    assert summary(lanes_frame(tmp_path))["stopped"].tolist() == [2] * 9
    page = write_report(tmp_path, out=tmp_path / "report.html").read_text()
    assert "18 lanes were stopped before their end" in page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"halving": {"eta": 1}}, "halving eta = 1"),
        ({"halving": {"first": 1.0}}, "halving first = 1.0: expected a share of the iterations between 0 and 1"),
        ({"halving": {"rungs": 3}}, "unknown halving entry 'rungs'"),
        ({"halving": 3}, "halving = 3: expected a table"),
        ({"halving": {"metric": "reward"}}, "unknown halving metric 'reward'"),
        ({"halving": {}, "evals": 0}, "halving: metric = 'eval_return' is measured by evaluations, and evals = 0"),
        ({"halving": {}, "evals": 1}, "halving: nothing is measured between first = 0.1 of the iterations and the end"),
        ({"halving": {}, "grid": {"num_envs": (8, 4)}}, "here are runs of 10 and 20 iterations: fix"),
        ({"halving": {}, "grid": {}, "optuna": {"trials": 3, "coef": {"low": 0.0, "high": 1.0}}}, "exclude each other"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_in_a_sentence(fields, words):
    with pytest.raises(UserError) as refused:
        whole = {**NINE, **LENGTH, "evals": 10, **fields}
        spec(**{key: value for key, value in whole.items() if key not in whole["grid"]})
    assert words in str(refused.value)


def test_rungs_are_where_the_metric_is_measured_and_merge_where_they_coincide(tmp_path):
    rule = lambda **options: spec(**NINE, halving={"first": 0.1, **options}).halving
    program = {"steps": 100, "num_envs": 1, "num_steps": 1, "evals": 4}  # 25, 50, 75, 100
    assert rungs(program, rule()) == [25, 50]
    assert rungs(program, rule(metric="return")) == [10, 30, 90]
    assert rungs({**program, "evals": 100}, rule(eta=2)) == [10, 20, 40, 80]
    assert rungs({**program, "evals": 1}, rule()) == []
    path = tmp_path / "early.toml"
    path.write_text('[fixed]\nenv = "probe/chain"\nbonus = "count"\n[grid]\ncoef = [0.1, 1.0]\n[halving]\neta = 2\n')
    assert load_toml(path).halving == rule(eta=2)


GRID = {"seeds": 2, "grid": {"coef": (0.1, 1.0)}}


def same(out, straight):
    found, expected = lanes_frame(out), lanes_frame(straight)
    assert set(found["lane"]) == set(expected["lane"]) and set(found["status"]) == {"ok"} == set(expected["status"])
    for lane in expected["lane"]:
        params, others = store.load_params(out, lane), store.load_params(straight, lane)
        for name in others:
            np.testing.assert_array_equal(params[name], others[name], err_msg=name)
    one, other = curves(out), curves(straight)
    assert one.sizes == other.sizes and set(one) == set(other)
    for name in other:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))


def test_stopped_lanes_go_on_and_end_with_the_bits_of_lanes_that_never_stopped(tiny_spec, tmp_path):
    out, answers = tmp_path / "halved", iter([False, False])
    rule = {"first": 0.5, "eta": 2}  # after iteration 2 of 4
    kept, notes = {}, []
    note = lambda event: notes.append(event["text"]) if event["kind"] == "note" else None
    interrupted = lambda spec, **which: run(spec, out, kept=kept, stop=lambda: next(answers, True), **which)
    assert not halve(tiny_spec(**GRID, halving=rule), out, interrupted)
    assert not list(out.glob("halving-*"))
    runner = lambda spec, **which: run(spec, out, kept=kept, on_event=note, **which)
    assert halve(tiny_spec(**GRID, halving=rule), out, runner, note)
    frame = lanes_frame(out)
    assert sorted(frame["status"]) == ["ok", "ok", "stopped", "stopped"]
    assert frame["coef"][frame["status"] == "ok"].nunique() == 1
    assert set(frame["stopped_at"].dropna()) == {2}
    for manifest in store.chunks(out):
        assert manifest["chunk"].endswith("-2") == ("stopped" in manifest)
        assert checkpoint.steps(out / FOLDER / manifest["chunk"]) == ([2] if "stopped" in manifest else [])
    done = run(tiny_spec(**GRID), out, kept=kept, on_event=note)
    assert (done.skipped, done.steps) == (2, 2 * 2 * 32)  # half of the lanes, half of the iterations
    assert sum("continues stopped lanes after iteration 2 of 4" in text for text in notes) == 2
    run(tiny_spec(**GRID), tmp_path / "straight", kept=kept)
    same(out, tmp_path / "straight")


def test_stopped_lanes_begin_anew_where_their_states_are_lost(tiny_spec, tmp_path):
    kept = {}
    run(tiny_spec(**GRID), tmp_path / "lost", until=2, kept=kept)
    shutil.rmtree(tmp_path / "lost" / FOLDER)
    assert run(tiny_spec(**GRID), tmp_path / "lost", kept=kept).steps == 4 * 4 * 32
    run(tiny_spec(**GRID), tmp_path / "straight", kept=kept)
    same(tmp_path / "lost", tmp_path / "straight")


def test_a_lane_that_diverged_before_the_rung_is_committed_as_diverged_and_stays(tiny_spec, tmp_path):
    made = tiny_spec(grid={"breaking.at": (2.0, 1e9)})
    run(made, tmp_path, until=3)
    frame = lanes_frame(tmp_path).sort_values("breaking.at")
    assert frame["status"].tolist() == ["diverged", "stopped"]
    assert frame["stopped_at"].isna().tolist() == [True, False]
    assert run(made, tmp_path).skipped == 1
    frame = lanes_frame(tmp_path).sort_values("breaking.at")
    assert frame["status"].tolist() == ["diverged", "ok"]


def test_the_command_line_tells_what_each_rung_decided_and_counts_what_was_stopped(tmp_path, capfd):
    path, out = tmp_path / "early.toml", tmp_path / "out"
    fields = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {**TINY, "bonus": "count"}.items())
    path.write_text(f"[fixed]\n{fields}\n[grid]\ncoef = [0.1, 1.0]\n[halving]\neta = 2\nfirst = 0.5\n")
    assert main(["sweep", str(path), "--hosts", "2", "--coordinator", "here:1", "--process", "0"]) == 2
    assert "[halving] judges the lanes of one process: leave --hosts out" in capfd.readouterr().err
    assert main(["sweep", str(path), "--executor", "ray"]) == 2
    assert "[halving] judges the lanes of one process: leave --executor ray out" in capfd.readouterr().err
    assert main(["sweep", str(path), "--out", str(out)]) == 0
    shown, told = capfd.readouterr()
    assert "rung 1 of 1, after 2 iterations: 1 of 2 cells go on (eval_return of the worst kept " in told + shown
    *_, head, one, other = shown.splitlines()
    assert head.split()[-1] == "stopped" and sorted(row.split()[-1] for row in (one, other)) == ["0", "1"]
