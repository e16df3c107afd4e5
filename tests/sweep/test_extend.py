"""A finished run goes on with more steps: the same bits as a run from the start, and a record that says so."""

import re
import shutil

import jax
import numpy as np
import pytest

from jaxrl import checkpoint
from jaxrl.cli import main
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.results.query import lanes as lanes_frame
from jaxrl.spec.fields import iterations
from jaxrl.spec.spec import spec
from jaxrl.sweep.extend import FOLDER, bound_by
from jaxrl.sweep.plan import lanes as lanes_of_spec
from jaxrl.sweep.program import build
from jaxrl.sweep.run import run

LONGER = {"steps": 6 * 4 * 8}  # iterations 3 and 6 are evaluated, of the short run 2 and 4
FOUR = {"seeds": 2, "grid": {"coef": (0.1, 1.0)}}


def told(spec, out, **keywords):
    events = []
    summary = run(spec, out, on_event=events.append, **keywords)
    return summary, [event["text"] for event in events if event["kind"] == "note"]


def tables(out, steps):
    """{lane id: {metric: [iterations]}} of the lanes of so many steps."""
    found = {}
    for manifest in store.chunks(out):
        if manifest["program"]["steps"] == steps:
            _, metrics = store.read_tables(out / manifest["chunk"], manifest)
            for lane, rows in metrics.to_pandas().groupby("lane"):
                found[lane] = {name: rows[name].to_numpy() for name in rows if name not in ("lane", "seed")}
    return found


@pytest.fixture(scope="module")
def short(tiny_spec, tmp_path_factory):
    """A directory with four finished lanes whose states were kept."""
    out = tmp_path_factory.mktemp("short")
    assert told(tiny_spec(**FOUR), out, keep_state=True)[1] == []
    return out


@pytest.fixture(scope="module")
def straight(tiny_spec, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight")
    run(tiny_spec(**FOUR, **LONGER), out)
    return out


@pytest.fixture
def copy(short, tmp_path):
    return shutil.copytree(short, tmp_path / "copy")


@pytest.fixture(scope="module")
def extended(short, tiny_spec, tmp_path_factory):
    """(directory, summary, notes) of the four lanes after six iterations, of which two are new."""
    out = shutil.copytree(short, tmp_path_factory.mktemp("extended") / "copy")
    return out, *told(tiny_spec(**FOUR, **LONGER), out)


def test_the_plan_counts_the_steps_that_are_left_to_make(copy, tiny_spec):
    plans = []
    stop = lambda: True  # after the plan, before anything is begun
    run(tiny_spec(**FOUR, **LONGER), copy, stop=stop, on_event=lambda e: e["kind"] == "plan" and plans.append(e))
    assert [plan["steps"] for plan in plans] == [4 * 2 * 32]


def test_more_steps_go_on_and_end_with_the_bits_of_a_run_from_the_start(extended, straight):
    out, summary, notes = extended
    assert (summary.lanes, summary.skipped, summary.steps) == (4, 0, 4 * 2 * 32)
    assert len(notes) == 1 and "after iteration 4 of 6" in notes[0]
    found, expected = tables(out, LONGER["steps"]), tables(straight, LONGER["steps"])
    assert found.keys() == expected.keys() and len(found) == 4
    for lane in expected:
        for name in expected[lane].keys() - {"eval_return", "eval_return_sampled"}:
            np.testing.assert_array_equal(found[lane][name], expected[lane][name], err_msg=name)
        params, others = store.load_params(out, lane), store.load_params(straight, lane)
        for name in others:
            np.testing.assert_array_equal(params[name], others[name], err_msg=name)


def test_evaluations_are_those_of_a_run_from_the_start_or_are_missing_and_said_to_be(extended, straight):
    found, expected = tables(extended[0], LONGER["steps"]), tables(straight, LONGER["steps"])
    for lane in expected:
        for name in ("eval_return", "eval_return_sampled"):
            np.testing.assert_array_equal(np.isfinite(expected[lane][name]), [False, False, True, False, False, True])
            np.testing.assert_array_equal(found[lane][name][:5], np.nan)
            assert found[lane][name][5] == expected[lane][name][5]
    manifest = store.chunks(extended[0])[-1]
    assert manifest["continues"]["unevaluated"] == [3] and manifest["continues"]["iteration"] == 4


def test_a_record_says_which_lane_is_continued_and_the_continued_one_stays(extended, short, tiny_spec):
    out, *_ = extended
    continued = store.chunks(out)[-1]["continues"]["lanes"]
    before, after = lanes_of_spec(tiny_spec(**FOUR)), lanes_of_spec(tiny_spec(**FOUR, **LONGER))
    assert continued == {new.id: old.id for new, old in zip(after, before, strict=True)}
    assert tables(out, 128).keys() == tables(short, 128).keys()
    frame = lanes_frame(out).set_index("lane")
    assert frame.loc[[lane.id for lane in after], "continues"].to_list() == [lane.id for lane in before]
    assert set(frame.loc[[lane.id for lane in before], "continues"]) == {""}


def test_evaluation_points_that_both_budgets_have_are_kept_where_evals_grows_with_steps(copy, tiny_spec, tmp_path):
    more = tiny_spec(**FOUR, steps=8 * 4 * 8, evals=4)  # after 2, 4, 6 and 8 iterations
    run(more, copy)
    run(more, tmp_path / "straight")
    assert store.chunks(copy)[-1]["continues"]["unevaluated"] == []
    found, expected = tables(copy, 256), tables(tmp_path / "straight", 256)
    for lane in expected:
        for name in expected[lane]:
            np.testing.assert_array_equal(found[lane][name], expected[lane][name], err_msg=name)


def test_an_extended_lane_that_is_stopped_goes_on_from_its_checkpoint(copy, straight, tiny_spec):
    answers = iter([False, False])  # not before it begins, not after the evaluation that it begins with
    longer = tiny_spec(**FOUR, **{**LONGER, "evals": 6})
    stopped, _ = told(longer, copy, stop=lambda: next(answers, True))
    assert stopped.stopped and stopped.steps == 4 * 32
    finished, notes = told(longer, copy, keep_state=True)
    assert finished.steps == 4 * 32 and any("goes on after iteration 5 of 6" in note for note in notes)
    manifest = store.chunks(copy)[-1]
    assert (manifest["continues"]["iteration"], manifest["timing"]["resumed_after"]) == (4, [5])
    # What was extended can be extended.
    again, notes = told(tiny_spec(**FOUR, steps=7 * 32), copy)
    assert again.steps == 4 * 32 and any("after iteration 6 of 7" in note for note in notes)


def test_only_lanes_that_are_there_are_continued_and_others_begin(copy, tiny_spec):
    """Seeds 0 and 1 were run, 0 to 2 are asked for: two chunks, one continued, one from the start."""
    summary, _ = told(tiny_spec(seeds=3, **LONGER), copy)
    assert len(summary.chunks) == 2 and summary.steps == 2 * 2 * 32 + 6 * 32


@pytest.mark.parametrize("fault", ["lost", "damaged"])
def test_a_kept_state_that_is_lost_or_damaged_costs_the_ability_to_go_on_only(copy, straight, tiny_spec, fault):
    (folder,) = (copy / FOLDER).iterdir()
    if fault == "lost":
        shutil.rmtree(folder)
    else:
        file = next(path for path in folder.rglob("*") if path.is_file() and path.name == checkpoint.RECORD)
        file.write_bytes(file.read_bytes()[:-1] + b" ")
    summary, notes = told(tiny_spec(**FOUR, **LONGER), copy)
    assert summary.steps == 4 * 6 * 32
    assert any({"lost": "not kept (--keep-state)", "damaged": "start anew"}[fault] in note for note in notes)
    found, expected = tables(copy, LONGER["steps"]), tables(straight, LONGER["steps"])
    for lane in expected:
        np.testing.assert_array_equal(found[lane]["eval_return"], expected[lane]["eval_return"])


def test_without_kept_states_a_longer_run_begins_and_says_why(straight, tiny_spec, tmp_path):
    out = shutil.copytree(straight, tmp_path / "copy")
    summary, notes = told(tiny_spec(seeds=1, steps=7 * 32), out)
    assert summary.steps == 7 * 32
    assert notes == ["1 lanes of fewer steps are there, but their states were not kept (--keep-state): they start anew"]


def test_states_of_lanes_that_were_committed_before_cannot_be_kept_and_that_is_said(straight, tiny_spec):
    summary, notes = told(tiny_spec(**FOUR, **LONGER), straight, keep_state=True)
    assert summary.skipped == 4 and not (straight / FOLDER).exists()
    assert notes == ["4 lanes were committed before without their states: keep_state keeps those that run now"]


def test_a_disk_that_refuses_a_state_costs_no_result(tiny_spec, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    summary, notes = told(tiny_spec(**FOUR), tmp_path, keep_state=True)
    assert len(summary.chunks) == 1 and len(store.committed(tmp_path)) == 4
    assert "cannot keep the states of chunk" in notes[0] and "No space left on device" in notes[0]


def test_states_are_kept_in_real_directories_only(short, tiny_spec, tmp_path):
    out = shutil.copytree(short, tmp_path / "copy")
    shutil.move(out / FOLDER, tmp_path / "elsewhere")
    (out / FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a symbolic link: states are kept in real directories only"):
        run(tiny_spec(**FOUR, **LONGER), out)


@pytest.mark.parametrize("command", [["train"], ["sweep", "spec.toml"]])
def test_the_command_line_keeps_states_when_asked(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text("[grid]\ncoef = [0.1, 1.0]\n")
    asked = []
    monkeypatch.setattr("jaxrl.cli.execute", lambda *arguments, **keywords: asked.append((arguments, keywords)) or 0)
    assert main([*command, "--keep-state"]) == main(command) == 0
    given = [arguments[-1] if not keywords else keywords["keep_state"] for arguments, keywords in asked]
    assert given == [True, False]


def test_annealed_lanes_start_anew_and_the_others_go_on(tiny_spec, tmp_path):
    fields = {"seeds": 1, "grid": {"anneal": (0.0, 0.5)}}
    run(tiny_spec(**fields), tmp_path, keep_state=True)
    summary, notes = told(tiny_spec(**fields, **LONGER), tmp_path)
    assert summary.steps == 2 * 32 + 6 * 32
    said = "1 lanes start anew, though states of fewer steps were kept: anneal = 0.5 makes training depend on them"
    assert said in notes


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, ""),
        ({"anneal": 0.25}, "anneal = 0.25"),
        ({"agent": "ppo_rnn", "anneal": 0.25}, "anneal = 0.25"),
        ({"agent": "random"}, ""),
        ({"trainer": "selmo", "bonus": "forward_error", "steps": 64_000}, "trainer = 'selmo'"),
        ({"trainer": "adversarial_surprise", "bonus": "none"}, ""),
    ],
)
def test_what_binds_training_to_its_number_of_steps_is_named(fields, field):
    made = spec(env="probe/chain", **{"bonus": "count", **fields})
    (lane,) = lanes_of_spec(made)
    assert bound_by(lane, made.objects) == field


@pytest.mark.parametrize(
    "fields",
    [
        {"bonus": "rnd"},
        {"bonus": "noveld", "streams": "only"},
        {"bonus": "airs(re3, count, none)"},
        {"agent": "random", "bonus": "count"},
        {"trainer": "adversarial_surprise", "env": "grid/DoorKey-5x5", "num_steps": 32},
    ],
)
def test_what_binds_nothing_is_the_same_program_for_every_number_of_steps(fields):
    """The text of a step does not tell how many there will be, but in a schedule that is off."""
    texts = set()
    for count in (61, 67):
        field = {"env": "probe/chain", "num_envs": 4, "num_steps": 16, **fields}
        (lane,) = lanes_of_spec(spec(**field, steps=count * 4 * field["num_steps"]))
        assert bound_by(lane, {}) == "" and iterations(lane.program) == count
        trainer = build(lane.program).make(lane.values).trainer
        text = str(jax.make_jaxpr(trainer.step)(jax.eval_shape(trainer.init, jax.random.key(0))))
        text = re.sub(r"select_n False:bool\[\] \d+:i32\[\]", "checkify's own count", text)
        texts.add(text.replace(f" {count}.0:f32[]", " iterations"))
    assert len(texts) == 1
