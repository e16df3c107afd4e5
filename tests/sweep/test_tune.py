"""[optuna]: what a search asks, tells and reports, and that no crash changes any of it."""

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from searches import SPACE, Bowl, height, search

import jaxrl.sweep.study
from jaxrl import cli
from jaxrl.errors import UserError
from jaxrl.executors.execute import execute
from jaxrl.results import lanes as lane_table
from jaxrl.results import store
from jaxrl.results.values import shown
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.run import run
from jaxrl.sweep.trials import Trial, best, text
from jaxrl.sweep.tune import tune

pytest.importorskip("optuna")
HERE = Path(__file__).parent
MOMENTS = ("1h", "1b", "3b", "4h", "5b", "5a", "8h", "19a", "20b", "20a")


@pytest.fixture(autouse=True)
def without_git(monkeypatch):
    monkeypatch.setattr(store, "git_state", lambda: {"commit": None, "dirty": None})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(directory, trials, sweep) of one uninterrupted search of 16 trials in batches of 4."""
    out = tmp_path_factory.mktemp("whole")
    bowl = Bowl(out)
    return out, tune(search(), out, bowl), bowl


def script(out, *moments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    command = [sys.executable, HERE / "searches.py", out, *moments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_batch_is_one_sweep_and_every_trial_has_the_mean_over_its_seeds(whole):
    _, trials, bowl = whole
    assert [trial.number for trial in trials] == list(range(16))
    assert [len(call) for call in bowl.calls] == [8, 8, 8, 8]
    for call, batch in zip(bowl.calls, (trials[k : k + 4] for k in range(0, 16, 4)), strict=True):
        heights = {}
        for lane in call:
            heights.setdefault((lane.values["lr"], lane.values["coef"]), []).append(np.float32(height(lane)))
        assert {(trial.point["lr"], trial.point["coef"]) for trial in batch} == set(heights)
        for trial in batch:
            assert trial.value == pytest.approx(np.mean(heights[trial.point["lr"], trial.point["coef"]]), abs=1e-6)
    assert all(1e-5 <= trial.point["lr"] <= 1e-1 and 0 <= trial.point["coef"] <= 1 for trial in trials)


def test_a_batch_shares_one_chunk_and_the_command_reports_it(tiny_spec, tmp_path, capsys):
    """The whole way, with the real executor."""
    space = {"coef": {"low": 0.1, "high": 10.0, "log": True}, "discount": {"low": 0.9, "high": 0.99}}
    made = tiny_spec(seeds=2, optuna={"trials": 2, **space})
    assert execute(made, tmp_path) == 0
    (chunk,) = store.chunks(tmp_path)
    assert len(chunk["lanes"]) == 4
    printed = capsys.readouterr().out
    assert "note: trials 0 to 1 of 2" in printed
    values = lane_table(tmp_path).groupby("coef")["final_eval_return"].mean()
    for trial in tune(made, tmp_path, run=None):
        assert trial.value == pytest.approx(values[trial.point["coef"]], abs=1e-6)
        assert f" {shown(trial.point['coef'])} " in printed
    assert execute(made, tmp_path) == 0
    assert capsys.readouterr().out == printed[printed.index("trial  ") :]


def test_a_search_compiles_each_of_its_programs_once(tiny_spec, tmp_path, monkeypatch):
    """Three batches of four points on two activations, in another mix each time; nothing but the wait differs."""
    events: list[dict] = []
    space = {"coef": {"low": 0.1, "high": 10.0, "log": True}, "activation": {"choices": ["tanh", "relu"]}}
    fields = {"evals": 1, "steps": 32, "seeds": 2, "optuna": {"trials": 12, "batch": 4, **space}}
    made = tiny_spec(**fields)
    monkeypatch.setattr("jaxrl.executors.execute.display.fitting", lambda: events.append)
    assert execute(made, tmp_path) == 0
    kinds = lambda kind: [event for event in events if event["kind"] == kind]
    mixes = [event["programs"] for event in kinds("plan")]
    assert len(mixes) == 3 and max(mixes) == 2
    begun = [(event["program"]["activation"], len(event["lanes"])) for event in kinds("begin")]
    largest: dict[str, int] = {}
    grown = 0  # a batch with more lanes of a program than any before, or with one lane on each device
    for activation, count in begun:
        grown += count > largest.get(activation, 0) or count <= 2
        largest[activation] = max(count, largest.get(activation, 0))
    assert 2 <= len(kinds("compile")) <= grown < len(begun)


def test_a_search_of_one_program_compiles_it_once(tiny_spec, tmp_path):
    events: list[dict] = []
    space = {"coef": {"low": 0.1, "high": 10.0, "log": True}}
    made = tiny_spec(evals=1, steps=32, seeds=1, optuna={"trials": 9, "batch": 3, **space})
    kept: dict = {}
    tune(made, tmp_path, lambda points: run(points, tmp_path, on_event=events.append, kept=kept))
    assert len([event for event in events if event["kind"] == "begin"]) == 3
    assert len([event for event in events if event["kind"] == "compile"]) == 1


def test_a_finished_search_asks_and_runs_nothing_more(whole):
    out, trials, _ = whole
    assert tune(search(), out, run=None) == trials


def test_more_trials_go_on_from_the_first_ones(whole, tmp_path):
    _, trials, _ = whole
    tune(search(trials=8), tmp_path, Bowl(tmp_path))
    bowl = Bowl(tmp_path)
    assert tune(search(), tmp_path, bowl) == trials
    assert [len(call) for call in bowl.calls] == [8, 8]


def test_the_sampler_learns_from_what_it_was_told(tmp_path):
    """Told the opposite of the truth, a search goes elsewhere as soon as it no longer draws at random."""
    made, away = search(trials=24, seed=2), lambda lane: -height(lane)
    trials = tune(made, tmp_path / "truth", Bowl(tmp_path / "truth"))
    misled = tune(made, tmp_path / "lie", Bowl(tmp_path / "lie", height=away))
    assert [trial.point for trial in misled[:12]] == [trial.point for trial in trials[:12]]
    off = lambda trials: np.mean([abs(np.log10(trial.point["lr"]) + 3) for trial in trials[12:]])
    assert off(trials) < 0.5 * off(misled)


def test_another_seed_draws_other_points(whole, tmp_path):
    trials = tune(search(trials=4, seed=1), tmp_path, Bowl(tmp_path))
    assert all(a.point != b.point for a, b in zip(trials, whole[1], strict=False))


def check_kills(whole, out, moments):
    trials = [list(trial) for trial in whole[1]]
    found = script(out, *moments)
    assert [one["moment"] for one in found] == list(moments)
    for one in found:
        assert one["killed"], one["moment"]
        assert one["again"] == [], one["moment"]
        assert one["trials"] == trials, one["moment"]
        assert one["seconds"] < 20, one["moment"]  # no lock of the dead is waited for
    return {one["moment"]: one["kept"] for one in found}


def test_a_search_killed_at_any_moment_ends_as_if_it_had_not_been(whole, tmp_path):
    """F28: no trial is lost, redone, asked anew or left running, and 16 are told, not more."""
    kept = check_kills(whole, tmp_path, MOMENTS)
    assert (kept["5b"], kept["5a"], kept["20a"]) == (0, 8, 32)  # asked and not run; run; all run


@pytest.mark.slow
def test_a_search_killed_at_every_moment_ends_as_if_it_had_not_been(whole, tmp_path):
    check_kills(whole, tmp_path, [f"{count}{manner}" for count in range(1, 21) for manner in "bha"])


def test_a_lost_journal_is_rebuilt_from_the_committed_lanes(tmp_path):
    first = tune(search(trials=8), tmp_path, Bowl(tmp_path))
    (journal,) = tmp_path.glob("*.journal")
    journal.unlink()
    bowl = Bowl(tmp_path)
    assert tune(search(trials=8), tmp_path, bowl) == first
    assert bowl.calls == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(directory, journal, its bytes, trials) of a search of four trials on two fields, one of them a choice."""
    out = tmp_path_factory.mktemp("finished")
    trials = tune(mixed(), out, Bowl(out))
    (journal,) = out.glob("*.journal")
    return out, journal, journal.read_bytes(), trials


def mixed():
    return search(trials=4, batch=2, seeds=1, space={"num_envs": {"choices": [8, 16]}})


def outcome(finished, content):
    """The trials, or the sentence, that a journal of this content gives; nothing else is done."""
    out, journal, _, _ = finished
    journal.write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    try:
        return tune(mixed(), out, run=None)
    except UserError as error:
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
        assert str(error).startswith(f"{journal} is damaged, line ")
        assert str(error).endswith("delete it, and the search is rebuilt from the committed lanes")
        return str(error)


def test_a_changed_character_of_a_journal_is_told_and_changes_no_trial(finished):
    """Digits, letters, quotes and ends of lines: every third place of the file, and all of a number and of a seal."""
    *_, content, trials = finished
    number, seal = content.index(b'"lr": ') + 6, content.index(b'"seal": ') + 9
    places = {*range(0, len(content), 3), *range(number, number + 20), *range(seal, seal + 20), len(content) - 1}
    told = 0
    for place in sorted(places):
        old = content[place : place + 1]
        new = b"%d" % ((int(old) + 1) % 10) if old.isdigit() else bytes([content[place] ^ 1])
        found = outcome(finished, content[:place] + new + content[place + 1 :])
        assert isinstance(found, str) or found == trials
        told += isinstance(found, str)
    # What looks like a crash in the last line is asked for anew, at the same point.
    assert len(places) - told == 1


def test_a_lost_line_of_a_journal_is_told_unless_it_is_the_last_which_is_asked_for_anew(finished):
    *_, content, trials = finished
    lines = content.splitlines(keepends=True)
    assert len(lines) == 4
    for lost in range(4):
        found = outcome(finished, b"".join(lines[:lost] + lines[lost + 1 :]))
        assert found == trials if lost == 3 else f"line {lost + 1} or one before it is not what was written" in found
    for order in ((1, 0, 2, 3), (0, 1, 3, 2), (0, 1, 2, 2), (0, 0, 1, 2, 3)):
        assert isinstance(outcome(finished, b"".join(lines[i] for i in order)), str)
    for kept in range(4):
        assert outcome(finished, b"".join(lines[:kept])) == trials
    assert finished[1].read_bytes() == content  # written again as it was


def test_a_journal_of_another_search_is_told(finished, tmp_path):
    _, journal, content, _ = finished
    tune(search(trials=2, batch=2, seed=5), tmp_path, Bowl(tmp_path))
    (other,) = tmp_path.glob("*.journal")
    other.write_bytes(content)
    with pytest.raises(UserError, match=f"{other.name} is damaged, line 1"):
        tune(search(trials=2, batch=2, seed=5), tmp_path, run=None)


def test_values_come_from_the_lanes_alone(tmp_path):
    """Where other lanes are committed under the same journal, it is they that are told."""
    made = search(trials=4)
    first = tune(made, tmp_path / "first", Bowl(tmp_path / "first"))
    (journal,) = (tmp_path / "first").glob("*.journal")
    (tmp_path / "second").mkdir()
    shutil.copy(journal, tmp_path / "second")
    second = tune(made, tmp_path / "second", Bowl(tmp_path / "second", height=lambda lane: height(lane) + 1))
    assert [trial.point for trial in second] == [trial.point for trial in first]
    assert [b.value - a.value for a, b in zip(first, second, strict=True)] == pytest.approx([1] * 4, abs=1e-6)


def test_a_search_has_one_process(tmp_path):
    tune(search(trials=4), tmp_path, Bowl(tmp_path))
    (journal,) = tmp_path.glob("*.journal")
    before = journal.read_bytes()
    with open(journal, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process runs the search"):
            tune(search(trials=8), tmp_path, Bowl(tmp_path))
    assert journal.read_bytes() == before


@pytest.mark.parametrize("end", [np.nan, np.inf])
def test_a_diverged_seed_fails_its_trial_and_no_other(tmp_path, end):
    bad = lambda lane: end if lane.values["coef"] > 0.5 and lane.seed == 1 else height(lane)
    trials = tune(search(trials=8), tmp_path, Bowl(tmp_path, height=bad))
    for trial in trials:
        failed = trial.point["coef"] > 0.5
        assert (trial.value is None) == failed
        assert trial.note == ("diverged or not measured" if failed else "")
    assert 0 < sum(trial.value is None for trial in trials) < 8
    assert tune(search(trials=8), tmp_path, run=None) == trials


def test_an_impossible_point_fails_with_its_reason_and_is_not_run(tmp_path):
    space = {"num_envs": {"low": 8, "high": 64, "step": 8}, "minibatches": {"choices": [4, 16]}}
    made = search(trials=12, batch=12, space=space, fixed={"num_steps": 1})
    bowl = Bowl(tmp_path)
    trials = tune(made, tmp_path, bowl)
    impossible = [trial for trial in trials if trial.point["num_envs"] % trial.point["minibatches"]]
    assert impossible and all("minibatches = 16: must divide" in trial.note for trial in impossible)
    assert [trial for trial in trials if trial.value is None] == impossible
    assert sum(map(len, bowl.calls)) == 2 * (12 - len(impossible))
    assert all(isinstance(trial.point[name], int) for trial in trials for name in space)
    assert tune(made, tmp_path, run=None) == trials


def test_a_sweep_that_was_told_to_stop_stops_the_search(whole, tmp_path):
    trials = tune(search(), tmp_path, Bowl(tmp_path, stop_after=2))
    assert [trial.note for trial in trials] == [""] * 8 + ["not run"] * 4
    assert tune(search(), tmp_path, Bowl(tmp_path)) == whole[1]


@pytest.mark.parametrize(
    "change",
    [{"seeds": 3}, {"fixed": {"discount": 0.9}}, {"direction": "minimize"}, {"seed": 1},
     {"space": {"coef": {"low": 0.0, "high": 2.0}}}, {"space": {"lr": {"low": 1e-5, "high": 1e-1}}},
     {"metric": "return"}],
)  # fmt: skip
def test_whatever_changes_a_trial_is_another_search(change):
    name = lambda made: jaxrl.sweep.study.identity(made, made.optuna)
    assert name(search(**change)) != name(search())
    assert name(search(trials=99, batch=9)) == name(search())


@pytest.mark.filterwarnings("ignore:.*several versions of the code")
def test_other_code_is_another_search(tmp_path, monkeypatch):
    tune(search(trials=4), tmp_path, Bowl(tmp_path))
    for module in ("jaxrl.sweep.plan", "jaxrl.sweep.tune", "jaxrl.results.query", "searches"):
        monkeypatch.setattr(f"{module}.code_fingerprint", lambda: "other")
    bowl = Bowl(tmp_path)
    tune(search(trials=4), tmp_path, bowl)
    assert [len(call) for call in bowl.calls] == [8] and len(list(tmp_path.glob("*.journal"))) == 2


def test_a_metric_that_is_not_measured_is_named(tmp_path):
    with pytest.raises(UserError, match="metric = 'coverage' is not measured here; what is: eval_return"):
        tune(search(metric="coverage"), tmp_path, Bowl(tmp_path))


def test_the_report_hides_no_trial_and_crowns_none():
    trials = [Trial(0, {"lr": 0.01}, 0.5, ""), Trial(1, {"lr": 0.02}, None, "diverged")]
    trials.append(Trial(2, {"lr": 0.04}, 0.75, ""))
    up, down = search().optuna, search(direction="minimize").optuna
    lines = text(trials, up, seeds=(0, 1, 7), out=Path("OUT")).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["trial", "lr", "eval_return"], ["2", "0.04", "0.75"], ["0", "0.01", "0.5"], ["1", "0.02", "diverged"]
    ]  # fmt: skip
    assert lines[4] == "best: trial 2, eval_return = 0.75 at lr = 0.04"
    assert "not a result" in lines[5] and lines[5].endswith("on 3 others: jaxrl confirm OUT")
    assert "confirm OUT --direction minimize" in text(trials, down, seeds=(0,), out=Path("OUT"))
    assert best(trials, down.direction).number == 0
    assert text(trials, down, seeds=(0,), out=Path("OUT")).splitlines()[1].split()[0] == "0"
    assert text(trials[1:2], up, seeds=(0,), out=Path("OUT")).endswith("no trial has a value")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"trials": 0}, "optuna trials = 0: must be in"),
        ({"batch": 17}, "optuna: batch = 17 is more than trials = 16"),
        ({"direction": "max"}, "unknown optuna direction 'max': did you mean 'maximize'. allowed: maximize, minimize"),
        ({"metric": "eval_retrun"}, "unknown optuna metric 'eval_retrun': did you mean 'eval_return'"),
        ({"trails": 3}, "unknown optuna entry 'trails': did you mean 'trials'"),
        ({"fixed": {"evals": 0}}, "'eval_return' is measured by evaluations, and evals = 0"),
        ({"fixed": {"grid": {"discount": [0.9, 0.99]}}}, "'discount' cannot be swept beside it"),
        ({"fixed": {"random": {"n": 2, "discount": {"low": 0, "high": 1}}}}, "'discount' cannot be swept beside it"),
        ({"fixed": {"lr": 1e-3}}, r"'lr' is given twice, in \[fixed\] and in \[optuna\]"),
        ({"space": {"num_envs": {"low": 0, "high": 8}}}, "num_envs = 0: must be at least 1"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence):
        search(**options)


def test_a_small_search_is_one_batch():
    assert spec(bonus="count", optuna={"trials": 3, **SPACE}).optuna.batch == 3
    assert spec(bonus="count", optuna={"trials": 99, **SPACE}).optuna.batch == 16


def test_a_search_has_no_points_before_it_runs():
    with pytest.raises(UserError, match="chosen as it runs"):
        lanes(search())


def test_without_optuna_the_cure_is_one_line(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    absent = lambda name, *more: None if name == "optuna" else find(name, *more)
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    monkeypatch.chdir(tmp_path)
    Path("search.toml").write_text('[fixed]\nbonus = "count"\n[optuna]\ntrials = 2\ncoef = { low = 0.0, high = 1.0 }\n')
    assert cli.main(["sweep", "search.toml"]) == 2
    assert capsys.readouterr().err == "jaxrl: a spec with [optuna] needs Optuna: pip install 'jaxrl[sweep]'\n"
    assert not Path("results").exists()


def test_a_pipe_in_the_place_of_a_journal_is_refused_at_once(tmp_path):
    path = tmp_path / "optuna-1.journal"
    os.mkfifo(path)
    told = pytest.raises(UserError, match="optuna-1.journal is no regular file: remove it")
    with told, jaxrl.sweep.study.journal(path):
        pass
