"""What a dry run says beforehand, and what a run says before it takes long."""

import os

import jax
import pytest

from jaxrl import cli, display
from jaxrl.sweep import forecast as forecasts
from jaxrl.sweep import ledger
from jaxrl.sweep.forecast import forecast, text, without_cache
from jaxrl.sweep.lanes import state_bytes
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.program import build
from jaxrl.sweep.run import run

STEPS = 4 * 4 * 8  # of a lane of the tiny program


@pytest.fixture(scope="module")
def found(tiny_spec, tmp_path_factory):
    """A forecast of four lanes of one program, and the directory that it must not write to."""
    out = tmp_path_factory.mktemp("forecast") / "out"
    return forecast(tiny_spec(seeds=2, grid={"coef": (0.1, 1.0)}), out), out


def test_it_counts_lanes_steps_and_bytes_exactly_and_writes_nothing(found, tiny_spec):
    costs, out = found
    (cost,) = costs.programs
    lane = lanes(tiny_spec(seeds=1))[0]
    assert (costs.lanes, costs.skipped, cost.lanes, cost.iterations, cost.steps) == (4, 0, 4, 4, 4 * STEPS)
    assert cost.state == state_bytes(build(lane.program, tiny_spec().objects), lane.values)
    assert cost.chunks == 1 and 4 * cost.state / jax.local_device_count() <= cost.memory < costs.limit
    assert not out.exists()


def test_it_is_right_within_a_factor_of_three(found, tiny_spec, tmp_path):
    (cost,) = found[0].programs
    with without_cache():
        measured = run(tiny_spec(seeds=2, grid={"coef": (0.1, 1.0)}), tmp_path)
    assert 1 / 3 < cost.compiling / measured.compile_seconds < 3
    assert 0 < cost.running < 3 * measured.run_seconds + 1  # of so short a run most is what is told and noted


def test_it_leaves_out_what_is_committed(tiny_spec, tmp_path):
    made = tiny_spec(seeds=2)
    run(made, tmp_path)
    before = sorted(map(str, tmp_path.rglob("*")))
    costs = forecast(made, tmp_path)
    assert (costs.programs, costs.lanes, costs.skipped) == ((), 2, 2)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_it_counts_the_trials_of_a_search(tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(forecasts, "TRYING", 0.0)
    space = {"coef": {"low": 1e-4, "high": 1e-2, "log": True}}
    made = tiny_spec(seeds=3, optuna={"trials": 50, "batch": 10, "metric": "return", **space})
    (cost,) = (costs := forecast(made, tmp_path)).programs
    assert (costs.lanes, cost.lanes, cost.steps) == (150, 150, 150 * STEPS)
    assert "50 trials x 3 seeds, estimated at 2 corners" in text(costs, "tiny")


def test_what_would_compile_for_too_long_is_not_tried(tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(forecasts, "TRYING", 0.0)
    costs = forecast(tiny_spec(seeds=2), tmp_path / "out")
    (cost,) = costs.programs
    assert cost.running is None and cost.compiling > 0
    said = text(costs, "tiny")
    assert "so it was not tried: its pace is not known" in said and "in all more than about" in said


@pytest.mark.parametrize("command", [["train", "--env", "probe/chain"], ["sweep", "spec.toml"]])
def test_the_command_prints_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "rehearse", lambda made, out, at_once: print(made.name, out, at_once) or 0)
    (tmp_path / "spec.toml").write_text('name = "mine"\n[fixed]\nenv = "probe/chain"\n')
    before = os.listdir(tmp_path)
    assert cli.main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out in ("train results/train None\n", "mine results/mine None\n")
    assert os.listdir(tmp_path) == before


def test_a_forecast_in_words(found):
    rows = text(found[0], "tiny").splitlines()
    assert rows[0] == "dry run of 'tiny': nothing is written, everything is an estimate"
    assert rows[1] == "plan: 1 programs, 4 lanes, 0 committed before, 512 environment steps to make"
    assert rows[2].startswith("program 1: 4 lanes x 128 steps (4 iterations), ")
    assert rows[3].startswith("  1 chunks, each ") and "GiB a device; curves " in rows[3]
    assert rows[-1].startswith("in all about ") and rows[-1].endswith("expect it within a factor of three")


def test_a_run_that_compiles_or_takes_long_says_so_before(tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "LONG_COMPILE", 0.0)
    monkeypatch.setitem(ledger.FASTEST, True, 1e-6)
    events = []
    run(tiny_spec(seeds=1), tmp_path, on_event=events.append)
    kinds = [event["kind"] for event in events]
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert f"{STEPS} steps take more than 2.03 years on any 2 devices of this kind: --dry-run says" in notes[0]
    assert notes[1].startswith("compiling program 1 may take about ") and kinds.index("compile") > 2
    assert events[0]["steps"] == STEPS


@pytest.mark.parametrize(("seconds", "words"), [(3.14, "3.1 s"), (40, "40 s"), (720, "12 min"), (12_600, "3.5 h"),
                                                (9 * 86_400, "9 days"), (3.2e12, "101,471 years")])  # fmt: skip
def test_durations_are_said_as_a_person_would(seconds, words):
    assert display.duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(512, "0.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5,120.0 GiB")])
def test_sizes_too(count, words):
    assert display.size(count) == words
