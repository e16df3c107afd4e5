"""Memory that runs out: fewer lanes at a time, told, and every lane finishes."""

import json
import subprocess
import sys

import jax
import pytest
from tiny import HERE, PATIENCE

import jaxrl.sweep.run
from jaxrl.results import store
from jaxrl.spec.spec import spec
from jaxrl.sweep import lanes
from jaxrl.sweep.claims import FOLDER
from jaxrl.sweep.run import run

pytestmark = pytest.mark.faults

SMALL = {"env": "probe/chain", "bonus": "count", "num_envs": 2, "num_steps": 8, "steps": 64, "hidden": (8,),
         "epochs": 1, "minibatches": 2, "evals": 0, "seeds": 8}  # fmt: skip


def test_memory_that_really_runs_out_halves_the_lanes(tiny, tmp_path):
    """Eight states of 64 MiB, and as much again while they change, where 900 MiB may be had."""
    command = [sys.executable, str(HERE / "scarce.py"), str(tmp_path), "900"]
    done = subprocess.run(command, capture_output=True, text=True, env=tiny.environment, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    notes = [event["text"] for event in told if event["kind"] == "note"]
    assert "8 lanes of program 1 ran out of memory: 4 at a time now" in notes[0]
    begun = [len(event["lanes"]) for event in told if event["kind"] == "begin"]
    assert begun == sorted(begun, reverse=True) and begun[0] == 8 and begun[-1] <= 4
    assert len(store.committed(tmp_path)) == 8
    assert not any(manifest["diverged"] for manifest in store.chunks(tmp_path))


def test_lanes_that_run_out_of_memory_midway_leave_nothing_behind(tmp_path, monkeypatch):
    """The chunk had a checkpoint, which fits no smaller chunk."""
    monkeypatch.setattr(jaxrl.sweep.chunk, "SEGMENT_STEPS", 1)
    monkeypatch.setattr(jaxrl.sweep.chunk, "MOST_LOST", 0.0)
    monkeypatch.setattr(jaxrl.sweep.chunk, "CHECKPOINT_SHARE", float("inf"))
    compile_chunk, events = jaxrl.sweep.run.compile_chunk, []

    def starving(program, chunk, at_once, *foresee):
        compiled, calls = compile_chunk(program, chunk, at_once), iter(range(2))

        def run(*arguments):
            if len(chunk.lanes) > 4 and next(calls, None) is None:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes")
            return compiled.run(*arguments)

        return compiled._replace(run=run)

    monkeypatch.setattr(jaxrl.sweep.run, "compile_chunk", starving)
    run(spec(**SMALL), tmp_path, on_event=events.append)
    kinds = [event["kind"] for event in events]
    assert kinds.index("checkpoint") < kinds.index("note") and kinds.count("chunk") == 2
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_machine_said_to_have_no_memory_runs_one_lane_at_a_time_and_ends(tmp_path, monkeypatch):
    """The estimate is wrong by everything; it is asked at two numbers of lanes, and the floor is one."""
    monkeypatch.setattr(jaxrl.sweep.run, "SMALL", 0.0)
    monkeypatch.setattr(jaxrl.sweep.run, "memory_limit", lambda: 1)
    compile_chunk, sizes, events = jaxrl.sweep.run.compile_chunk, [], []
    monkeypatch.setattr(jaxrl.sweep.run, "compile_chunk",
                        lambda program, chunk, at_once, *foresee: sizes.append(len(chunk.lanes))
                        or compile_chunk(program, chunk, at_once))  # fmt: skip
    summary = run(spec(**SMALL), tmp_path, on_event=events.append)
    assert sizes == [2, 4, 2, 1] and len(summary.chunks) == 8
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert len(notes) == 2 and "8 lanes" in notes[0] and "1 at a time now" in notes[1]


@pytest.mark.parametrize(("stats", "expected"), [({"bytes_limit": 1000}, 850), ({"bytes_limit": 0}, 0)])
def test_what_the_device_reports_is_taken(monkeypatch, stats, expected):
    class Device:
        def memory_stats(self):
            return stats

    monkeypatch.setattr(lanes.jax, "local_devices", lambda: [Device()])
    assert lanes.memory_limit() == expected
