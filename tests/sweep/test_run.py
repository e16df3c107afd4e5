"""The executor: what is committed, skipped, flagged and told, on the tiny program."""

import os
import shutil
import types

import jax
import numpy as np
import pytest

import jaxrl.sweep.chunk
import jaxrl.sweep.plan
import jaxrl.sweep.policy
import jaxrl.sweep.run
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.results.query import curves
from jaxrl.spec.fields import evaluation_points
from jaxrl.sweep.claims import FOLDER, Claims
from jaxrl.sweep.lanes import most_lanes
from jaxrl.sweep.plan import lanes as lanes_of_spec
from jaxrl.sweep.run import run, steps_of, sweep

FOUR = {"seeds": 2, "grid": {"coef": (0.1, 1.0)}}
STEPS = 4 * 4 * 8  # of one lane


def events_of(spec, out, **keywords):
    events = []
    return run(spec, out, on_event=events.append, **keywords), events


def after_a_segment(number=1):
    """A `stop` that is asked once before the chunk begins and says so from the segment or evaluation of a number on."""
    answers = iter([False] * number)
    return lambda: next(answers, True)


def of_kind(events, kind):
    return [event for event in events if event["kind"] == kind]


def tables(out):
    """{lane id: {metric: [iterations]}} of everything committed under `out`, of all codes."""
    found = {}
    for manifest in store.chunks(out):
        _, metrics = store.read_tables(out / manifest["chunk"], manifest)
        for lane, rows in metrics.to_pandas().groupby("lane"):
            found[lane] = {name: rows[name].to_numpy() for name in rows if name not in ("lane", "seed")}
    return found


def contents(out):
    """{file under out: (bytes, when it was last written)}"""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {path.relative_to(out).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def whole(tiny_spec, tmp_path_factory):
    """(directory, summary, events) of one uninterrupted run of four lanes."""
    out = tmp_path_factory.mktemp("whole")
    return out, *events_of(tiny_spec(**FOUR), out)


def test_every_lane_is_committed_with_its_curves_and_parameters(whole, tiny_spec):
    out, summary, _ = whole
    lanes = lanes_of_spec(tiny_spec(**FOUR))
    assert (summary.lanes, summary.skipped, len(summary.chunks), summary.diverged) == (4, 0, 1, ())
    assert summary.steps == 4 * STEPS
    assert set(store.committed(out)) == {lane.id for lane in lanes}
    for rows in tables(out).values():
        np.testing.assert_array_equal(rows["iteration"], [1, 2, 3, 4])
        np.testing.assert_array_equal(rows["step"], [32, 64, 96, 128])
        np.testing.assert_array_equal(rows["finite"], 1)
    params = store.load_params(out, lanes[0].id)
    assert params["params/actor/params/Dense_0/kernel"].shape == (8, 4)
    assert params["updates"] == 4
    other = store.load_params(out, lanes[1].id)
    assert (
        np.abs(params["params/actor/params/Dense_0/kernel"] - other["params/actor/params/Dense_0/kernel"]).max() > 0.1
    )


def test_evaluations_stand_in_the_iterations_they_were_made_after(whole):
    for rows in tables(whole[0]).values():
        for name in ("eval_return", "eval_return_sampled"):
            np.testing.assert_array_equal(np.isfinite(rows[name]), [False, True, False, True])
        assert np.isnan(rows["solved"]).all()  # the probe names no threshold


def test_events_tell_the_plan_the_compilation_the_progress_and_the_chunk(whole):
    _, summary, events = whole
    assert [event["kind"] for event in events[:2]] == ["plan", "compile"] and events[-1]["kind"] == "chunk"
    plan, compilation, chunk = events[0], events[1], events[-1]
    assert (plan["programs"], plan["lanes"], plan["skipped"]) == (1, 4, 0) and plan["bytes"] % 4 == 0 < plan["bytes"]
    assert compilation["program"] == 1 and compilation["bytes"] > plan["bytes"] / 2 and compilation["seconds"] > 0
    progress = of_kind(events, "progress")
    assert [event["done_steps"] for event in progress] == [128, 256, 512]  # the first alone; evaluated after 2 and 4
    assert {event["total_steps"] for event in progress} == {4 * STEPS}
    assert all(event["steps_per_s"] > 0 for event in progress)
    assert (chunk["path"], chunk["lanes"], chunk["diverged"]) == (summary.chunks[0], 4, ())
    assert not of_kind(events, "note")


def test_the_mean_return_told_is_that_of_the_newest_finished_episodes(whole):
    out, _, events = whole
    last = [rows["return"][np.isfinite(rows["return"])][-1] for rows in tables(out).values()]
    np.testing.assert_allclose(of_kind(events, "progress")[-1]["mean_return"], np.mean(last), rtol=1e-6)


def test_an_equal_run_writes_equal_bytes(whole, tiny_spec, tmp_path):
    run(tiny_spec(**FOUR), tmp_path)
    one, two = contents(whole[0]), contents(tmp_path)
    assert one.keys() == two.keys()
    different = {name.partition("/")[2] for name in one if one[name][0] != two[name][0]}
    assert different == {"manifest.json"}  # it alone holds times


def test_shorter_segments_write_equal_bytes(whole, tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxrl.sweep.chunk, "SEGMENT_STEPS", 4 * 32)  # one iteration of four lanes
    _, events = events_of(tiny_spec(**FOUR), tmp_path)
    assert len(of_kind(events, "progress")) == 4
    one, two = contents(whole[0]), contents(tmp_path)
    assert all(one[name][0] == two[name][0] for name in one if name.endswith("metrics.parquet"))


def test_a_second_call_does_nothing(whole, tiny_spec):
    out, *_ = whole
    before = contents(out)
    summary, events = events_of(tiny_spec(**FOUR), out)
    assert (summary.lanes, summary.skipped, summary.chunks, summary.steps) == (4, 4, (), 0)
    assert [event["kind"] for event in events] == ["plan"]
    assert contents(out) == before


@pytest.fixture(scope="module")
def resumed(tiny_spec, tmp_path_factory):
    """(directory, files after half of the lanes, summary of the rest)"""
    out = tmp_path_factory.mktemp("resumed")
    run(tiny_spec(**{**FOUR, "seeds": 1}), out)
    half = contents(out)
    return out, half, run(tiny_spec(**FOUR), out)


def test_resuming_runs_what_is_missing_and_touches_nothing_else(resumed):
    out, half, summary = resumed
    assert (summary.lanes, summary.skipped, len(summary.chunks), summary.steps) == (4, 2, 1, 2 * STEPS)
    after = contents(out)
    assert {name: after[name] for name in half} == half
    assert len(after) == 2 * len(half)


def test_resumed_lanes_are_those_of_an_uninterrupted_run(resumed, whole):
    expected, found = tables(whole[0]), tables(resumed[0])
    assert found.keys() == expected.keys()
    for lane in expected:
        for name in expected[lane]:
            np.testing.assert_allclose(found[lane][name], expected[lane][name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_number_of_lanes_that_the_devices_do_not_divide(resumed, whole, tiny_spec, tmp_path):
    """Three lanes on two devices: the padding is computed and thrown away."""
    three = tiny_spec(seeds=3)
    summary = run(three, tmp_path)
    assert summary.steps == 3 * STEPS
    found = tables(tmp_path)
    assert set(found) == {lane.id for lane in lanes_of_spec(three)}
    manifest = store.chunks(tmp_path)[0]
    assert manifest["packing"] == {"devices": 2, "at_once": 1, "backend": "cpu"}
    expected = tables(whole[0])
    shared = found.keys() & expected.keys()
    assert len(shared) == 2  # coefficient 1, the default, seeds 0 and 1
    for lane in shared:
        for name in expected[lane]:
            np.testing.assert_array_equal(found[lane][name], expected[lane][name], err_msg=name)
        params, others = store.load_params(tmp_path, lane), store.load_params(whole[0], lane)
        for name in others:
            np.testing.assert_array_equal(params[name], others[name], err_msg=name)


def test_a_diverged_lane_is_flagged_with_its_first_bad_iteration_and_the_others_keep_every_bit(
    whole, tiny_spec, tmp_path
):
    """Lanes (at = never, coef 0.1 and 1) stand beside lanes that break in iteration 3, in one chunk."""
    spec = tiny_spec(seeds=1, grid={"breaking.at": (1e9, 3.0), "coef": (0.1, 1.0)})
    summary, events = events_of(spec, tmp_path)
    sick = {lane.id for lane in lanes_of_spec(spec) if lane.values["breaking.at"] == 3}
    assert len(sick) == 2 and set(summary.diverged) == sick == set(of_kind(events, "chunk")[0]["diverged"])
    manifest = store.chunks(tmp_path)[0]
    rows, _ = store.read_tables(tmp_path / manifest["chunk"], manifest)
    for row in rows.to_pylist():
        expected = ("diverged", 3) if row["lane"] in sick else ("ok", None)
        assert (row["status"], row["first_bad_iteration"]) == expected
    found, healthy = tables(tmp_path), tables(whole[0])
    shared = found.keys() & healthy.keys()
    assert len(shared) == 2 and not shared & sick
    for lane in shared:
        for name in healthy[lane]:
            np.testing.assert_array_equal(found[lane][name], healthy[lane][name], err_msg=name)


def test_lanes_of_other_code_are_noted_kept_and_never_mixed(tiny_spec, resumed, tmp_path, monkeypatch):
    one = tiny_spec(seeds=1)
    run(one, tmp_path)
    before = contents(tmp_path)
    for module in (jaxrl.sweep.run, jaxrl.sweep.plan):
        monkeypatch.setattr(module, "code_fingerprint", lambda: "other")
    summary, events = events_of(one, tmp_path)
    (note,) = of_kind(events, "note")
    assert "1 lanes" in note["text"] and "other code" in note["text"]
    assert (summary.skipped, len(summary.chunks)) == (0, 1)
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(store.committed(tmp_path)) == 2 and len(store.committed(tmp_path, code="other")) == 1
    with pytest.warns(UserWarning, match="leaving out 1 lanes"):
        assert curves(tmp_path).sizes["seed"] == 1


def test_a_chunk_too_large_for_the_device_is_halved_and_its_lanes_keep_their_ids(
    tiny_spec, whole, tmp_path, monkeypatch
):
    needed = iter((2, 2, 2, 1, 1, 1))  # init, run and evaluate of the whole chunk, then of a half, compiled once
    monkeypatch.setattr(jaxrl.sweep.chunk, "compiled_bytes", lambda compiled: next(needed))
    monkeypatch.setattr(jaxrl.sweep.run, "memory_limit", lambda: 1)
    summary = run(tiny_spec(**FOUR), tmp_path)
    assert len(summary.chunks) == 2 and summary.steps == 4 * STEPS
    assert tables(tmp_path).keys() == tables(whole[0]).keys()


@pytest.mark.parametrize(("number", "made"), [(1, 1), (2, 2), (3, 2), (4, 4)])
def test_a_stopped_run_goes_on_where_it_was_and_writes_the_bytes_of_an_uninterrupted_one(
    whole, tiny_spec, tmp_path, number, made
):
    """After iteration 1; between iteration 2 and its evaluation, and after that; before the very last evaluation."""
    stopped, events = events_of(tiny_spec(**FOUR), tmp_path, stop=after_a_segment(number))
    (saved,) = of_kind(events, "checkpoint")
    assert stopped.stopped and not stopped.chunks and stopped.steps == STEPS * made and saved["iteration"] == made
    finished, events = events_of(tiny_spec(**FOUR), tmp_path)
    assert not finished.stopped and finished.steps == STEPS * (4 - made)  # the rest
    assert any(f"goes on after iteration {made} of 4" in note["text"] for note in of_kind(events, "note"))
    assert not (told := of_kind(events, "progress")) or told[-1]["done_steps"] == 4 * STEPS
    one, two = contents(whole[0]), contents(tmp_path)
    assert one.keys() == two.keys()  # no checkpoint and no claim is left
    assert {name.partition("/")[2] for name in one if one[name][0] != two[name][0]} == {"manifest.json"}
    (manifest,) = store.chunks(tmp_path)
    assert manifest["timing"]["resumed_after"] == [made]


def test_a_run_that_goes_on_under_another_packing_keeps_both_in_its_record(whole, tiny_spec, tmp_path):
    run(tiny_spec(**FOUR), tmp_path, stop=after_a_segment())
    _, events = events_of(tiny_spec(**FOUR), tmp_path, at_once=2)
    assert any("another packing" in note["text"] for note in of_kind(events, "note"))
    (manifest,), (usual,) = store.chunks(tmp_path), store.chunks(whole[0])
    assert manifest["packing"]["before"] == usual["packing"] != manifest["packing"]


def test_lanes_that_run_out_of_memory_are_halved_and_finish(tiny_spec, whole, tmp_path, monkeypatch):
    """The error is raised where the device raises it, at the first call of a program for four lanes."""
    compile_chunk = jaxrl.sweep.run.compile_chunk

    def starved(program, chunk, at_once, *foresee):
        def run(*arguments):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes")

        compiled = compile_chunk(program, chunk, at_once)
        return compiled._replace(run=run) if len(chunk.lanes) > 2 else compiled

    monkeypatch.setattr(jaxrl.sweep.run, "compile_chunk", starved)
    summary, events = events_of(tiny_spec(**FOUR), tmp_path)
    assert "4 lanes of program 1 ran out of memory: 2 at a time now" in of_kind(events, "note")[0]["text"]
    assert len(summary.chunks) == 2 and not summary.stopped
    assert all("ran out of memory" in manifest["timing"]["cuts"][0] for manifest in store.chunks(tmp_path))
    for lane, rows in tables(tmp_path).items():
        np.testing.assert_array_equal(rows["return"], tables(whole[0])[lane]["return"])


def test_a_lane_that_fits_in_no_memory_is_a_sentence(tiny_spec, tmp_path, monkeypatch):
    def starved(program, chunk, at_once, *foresee):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(jaxrl.sweep.run, "compile_chunk", starved)
    with pytest.raises(UserError, match="one lane alone needs more memory than the device has"):
        run(tiny_spec(**FOUR), tmp_path)


@pytest.mark.parametrize(("limit", "wanted", "most"), [(100, 4, 4), (100, 40, 16), (50, 4, 4), (5, 4, 2), (59, 40, 6)])
def test_the_most_lanes_that_fit_are_read_off_two_small_numbers_of_them(limit, wanted, most):
    """Twenty bytes and ten for each lane of a device, of which there are two."""
    asked = []
    assert most_lanes(lambda lanes: asked.append(lanes) or 20 + 10 * (lanes // 2), 2, wanted, limit) == most
    assert asked == [2, 4]


def test_a_plan_cuts_what_would_not_fit_before_it_is_compiled(tiny_spec, tmp_path, monkeypatch):
    """Six lanes on two devices, where only two fit in what is said to be there."""
    monkeypatch.setattr(jaxrl.sweep.run, "SMALL", 0.0)
    sizes = []
    compile_chunk = jaxrl.sweep.run.compile_chunk

    def sized(program, chunk, at_once, *foresee):
        sizes.append(len(chunk.lanes))
        return compile_chunk(program, chunk, at_once)._replace(bytes=100 * len(chunk.lanes))

    monkeypatch.setattr(jaxrl.sweep.run, "compile_chunk", sized)
    monkeypatch.setattr(jaxrl.sweep.run, "memory_limit", lambda: 300)
    summary = run(tiny_spec(seeds=6, steps=32, evals=0), tmp_path)
    assert sizes == [2, 4, 2] and len(summary.chunks) == 3


@pytest.mark.parametrize(("seeds", "compiled"), [(4, 0), (3, 0), (2, 1), (5, 1)])
def test_what_an_earlier_call_compiled_serves_as_many_lanes_and_fewer_at_the_same_bits(
    tiny_spec, compiled_before, seeds, compiled, tmp_path
):
    """Four were compiled. Two are one on each device, where the loop over lanes is left out: bits may differ."""
    kept, expected = compiled_before
    summary, events = events_of(tiny_spec(seeds=range(10, 10 + seeds)), tmp_path, kept=kept)
    assert len(of_kind(events, "compile")) == compiled and (summary.compile_seconds > 0) == bool(compiled)
    (manifest,) = store.chunks(tmp_path)
    assert (manifest["timing"]["compile_seconds"] > 0) == bool(compiled)
    assert manifest["packing"] == {"devices": 2, "at_once": 1, "backend": "cpu"}
    found = tables(tmp_path)
    assert len(found) == seeds
    for lane in found.keys() & expected.keys():
        for name in expected[lane]:
            compare = np.testing.assert_allclose if seeds == 2 else np.testing.assert_array_equal
            compare(found[lane][name], expected[lane][name], err_msg=name)


@pytest.fixture(scope="module")
def compiled_before(tiny_spec, tmp_path_factory):
    """(kept, tables) of calls for four lanes each: the first compiles, the second has the seeds asked for later."""
    kept, out = {}, tmp_path_factory.mktemp("before")
    run(tiny_spec(seeds=4), out, kept=kept)
    run(tiny_spec(seeds=range(10, 14)), fresh := tmp_path_factory.mktemp("fresh"))
    return kept, tables(fresh)


def test_other_code_settings_or_packing_are_compiled_anew_and_old_programs_are_let_go(tiny_spec, tmp_path, monkeypatch):
    kept: dict = {}
    monkeypatch.setattr(jaxrl.sweep.run, "KEPT_PROGRAMS", 2)
    one = {"seeds": 1, "evals": 0}
    compiled = lambda name, at_once=None, **fields: len(
        of_kind(events_of(tiny_spec(**one, **fields), tmp_path / name, kept=kept, at_once=at_once)[1], "compile")
    )
    assert compiled("first") == 1
    assert compiled("same") == 0
    assert compiled("lr is a lane's", lr=0.1) == 0
    assert compiled("settings", epochs=2) == 1
    assert compiled("packing", at_once=2) == 1
    assert len(kept) == 2
    assert compiled("let go") == 1
    again = lambda **values: tiny_spec(**values).objects["conftest:breaking"]
    copied = types.FunctionType(again(**one).__code__, again(**one).__globals__, "breaking", (1e9,))
    copied.__qualname__, copied.__module__ = "breaking", again(**one).__module__
    assert compiled("another object of the same source", bonus=copied) == 1


def test_evaluating_chunks_of_one_program_traces_it_once(tiny_spec, tmp_path, monkeypatch):
    kept: dict = {}
    for seed in range(3):
        run(tiny_spec(seeds=[seed]), tmp_path, kept=kept)
    assert len(store.chunks(tmp_path)) == 3
    calls, build, objects = [], jaxrl.sweep.policy.build, tiny_spec(seeds=1).objects

    def counting(static, objects):
        program = build(static, objects)
        return program._replace(make=lambda values: calls.append(1) or program.make(values))

    monkeypatch.setattr(jaxrl.sweep.policy, "build", counting)
    table = jaxrl.sweep.policy.evaluate(tmp_path, episodes=2, objects=objects)
    assert len(table) == 3 and len(calls) == 2  # init and evaluate


def test_lanes_that_another_process_runs_are_waited_for(whole, tiny_spec, tmp_path, monkeypatch):
    """The other process is this one under another name, which commits while it is waited for."""
    lanes = [lane.id for lane in lanes_of_spec(tiny_spec(**FOUR))]
    other = Claims(tmp_path)
    claim = other.take("another-packing", lanes[:1])
    finished = store.read_chunk(whole[1].chunks[0])

    def commit(seconds):
        store.write_chunk(tmp_path, finished)
        other.release(claim)

    monkeypatch.setattr(jaxrl.sweep.run, "time", types.SimpleNamespace(sleep=commit))
    summary, events = events_of(tiny_spec(**FOUR), tmp_path)
    (note,) = of_kind(events, "note")
    assert f"waiting for 4 lanes that process {os.getpid()}" in note["text"]
    assert summary.chunks == () and len(store.committed(tmp_path)) == 4


def test_lanes_committed_between_the_look_and_the_claim_are_not_run_again(whole, tiny_spec, tmp_path, monkeypatch):
    """The other process commits and lets its claim go at the worst moment: this one has seen neither."""
    finished = store.read_chunk(whole[1].chunks[0])
    take = Claims.take

    def late(claims, chunk, lanes):
        store.write_chunk(tmp_path, finished)
        return take(claims, chunk, lanes)

    monkeypatch.setattr(Claims, "take", late)
    summary, events = events_of(tiny_spec(**FOUR), tmp_path)
    assert summary.chunks == () and of_kind(events, "begin") == []
    assert len(store.committed(tmp_path)) == 4 and list((tmp_path / FOLDER).iterdir()) == []


def test_programs_are_run_one_after_the_other(tiny_spec, tmp_path):
    """A static choice in the grid makes two programs; without evaluations there are no such curves."""
    spec = tiny_spec(seeds=1, steps=32, evals=0, grid={"activation": ("tanh", "relu")})
    summary, events = events_of(spec, tmp_path)
    assert events[0]["programs"] == 2 and [event["program"] for event in of_kind(events, "compile")] == [1, 2]
    assert len(summary.chunks) == 2
    assert all("eval_return" not in rows for rows in tables(tmp_path).values())


def test_sweep_returns_the_curves_of_what_it_ran(tiny_spec, whole, tmp_path):
    out, *_ = whole
    spec = tiny_spec(**FOUR)
    bonus = next(iter(spec.objects.values()))
    dataset = sweep(out, **{**spec.fixed, "bonus": bonus}, **FOUR)  # everything is committed already
    assert dict(dataset.sizes) == {"coef": 2, "seed": 2, "iteration": 4}
    np.testing.assert_array_equal(dataset.steps, [32, 64, 96, 128])
    expected = tables(out)
    for lane in lanes_of_spec(spec):
        row = dataset["ppo/entropy"].sel(coef=lane.values["coef"], seed=lane.seed)
        np.testing.assert_array_equal(row, expected[lane.id]["ppo/entropy"])


@pytest.mark.parametrize(
    ("last", "evals", "expected"),
    [(10, 2, [5, 10]), (10, 1, [10]), (10, 0, []), (3, 10, [1, 2, 3]), (7, 3, [2, 5, 7]), (4, 4, [1, 2, 3, 4])],
)
def test_evaluation_points_are_even_and_end_with_the_last_iteration(last, evals, expected):
    assert evaluation_points(last, evals) == expected


def test_a_lane_makes_whole_iterations_only():
    assert steps_of({"steps": 100, "num_envs": 4, "num_steps": 8}) == 96


def test_the_package_lists_its_names_and_may_be_called_as_its_function():
    """`from jaxrl import sweep` gives the package, and is written where the function is meant."""
    import jaxrl.sweep
    from jaxrl import sweep as package

    assert {"sweep", "load_policy", "evaluate", "export"} <= set(dir(jaxrl.sweep))
    with pytest.raises(UserError, match="unknown environment 'DeepSea-bsuit': did you mean 'DeepSea-bsuite'"):
        package("nowhere", env="DeepSea-bsuit")


def test_a_directory_that_is_moved_while_a_run_writes_to_it_is_not_made_again(whole, tiny_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxrl.sweep.chunk, "SEGMENT_STEPS", 4 * 32)
    out, moved = tmp_path / "out", tmp_path / "moved"

    def on_event(event):
        if event["kind"] == "progress" and out.exists():
            out.rename(moved)

    with pytest.raises(UserError, match=f"{out} was moved to {moved} while it was written to.*with out = '{moved}'"):
        run(tiny_spec(**FOUR), out, on_event=on_event)
    assert not out.exists() and list((moved / FOLDER).glob("*.claim")) == []
    summary, events = events_of(tiny_spec(**FOUR), moved)
    assert any("goes on after iteration 1 of 4" in event["text"] for event in of_kind(events, "note"))
    assert summary.steps == 3 * 4 * 32 and not out.exists()
    assert {name: content for name, (content, _) in contents(moved).items() if "manifest" not in name} == {
        name: content for name, (content, _) in contents(whole[0]).items() if "manifest" not in name
    }


def test_a_directory_that_is_deleted_while_a_run_writes_to_it_ends_it(tiny_spec, tmp_path):
    on_event = lambda event: shutil.rmtree(tmp_path / "out", ignore_errors=True) if event["kind"] == "progress" else 0
    with pytest.raises(UserError, match="out was deleted or replaced while it was written to"):
        run(tiny_spec(**FOUR), tmp_path / "out", on_event=on_event)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["params.safetensors", store.MANIFEST])
def test_the_lanes_of_a_damaged_chunk_are_run_again_and_what_it_was_is_kept(whole, tiny_spec, tmp_path, file):
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    (path,) = (out / path.name for path in whole[1].chunks)
    (path / file).write_bytes(b"x" + (path / file).read_bytes()[1:])
    summary, events = events_of(tiny_spec(**FOUR), out)
    (note,) = [event["text"] for event in of_kind(events, "note")]
    (aside,) = out.glob(".damaged-*")
    assert f"{path / file} is damaged" in note and aside.name in note
    assert summary.skipped == 0 and summary.chunks == (path,)
    assert (path / "params.safetensors").read_bytes() == (whole[1].chunks[0] / "params.safetensors").read_bytes()
    assert (aside / file).read_bytes()[:1] == b"x"
