"""kill -9 of a running sweep at random moments, and the same command again: nothing redone, lost or half-read."""

import random
import signal
import subprocess
import sys
import time

import pytest
from tiny import ITERATIONS, LANES, PACK, PATIENCE, events, kill, numbers, wait_for, wait_until

from jaxrl.results import store

pytestmark = pytest.mark.faults

KILLS = 20
READER = """
import os, sys, time
from pathlib import Path
from jaxrl.results import store, lanes
parent = os.getppid()
out, stop, looks = Path(sys.argv[1]), Path(sys.argv[2]), 0
seen = {}
while not stop.exists() and os.getppid() == parent:
    for manifest in store.chunks(out) if out.exists() else ():
        chunk = store.read_chunk(out / manifest["chunk"])
        assert len(chunk.lanes) == len(manifest["lanes"]) and chunk.curves["return"].shape == (len(chunk.lanes), 12)
        assert seen.setdefault(manifest["chunk"], manifest) == manifest, "a committed chunk changed"
    if seen:
        assert len(lanes(out)) >= sum(len(manifest["lanes"]) for manifest in seen.values())
    assert set(seen) <= {path.name for path in out.glob("*")}, "a committed chunk vanished"
    looks += 1
    time.sleep(0.05)
print(looks, len(seen))
"""


def stamps(out):
    """When each committed chunk was last written."""
    return {manifest["chunk"]: (out / manifest["chunk"] / store.MANIFEST).stat().st_mtime_ns
            for manifest in (store.chunks(out) if out.exists() else ())}  # fmt: skip


def test_twenty_kills_of_one_sweep(tiny, whole, tmp_path):
    rng, out, log, stop = random.Random(0), tmp_path / "out", tmp_path / "log", tmp_path / "stop"
    reader = subprocess.Popen([sys.executable, "-c", READER, str(out), str(stop)], env=tiny.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    try:
        for number in range(KILLS):
            before, heard = stamps(out), len(events(log, "begin"))
            process = tiny.start(out, log=log, pause=0.15)
            wait_for(process, "compiled" if number % 5 else "plan:")
            time.sleep(rng.uniform(0, 1.0))
            kill(process)
            committed = {lane for chunk in before for lane in store.read_manifest(out / chunk)["lanes"]}
            begun = {lane["lane"] for event in events(log, "begin")[heard:] for lane in event["lanes"]}
            assert not begun & committed, "a committed lane was redone"
            after = stamps(out)
            assert {chunk: after.get(chunk) for chunk in before} == before, "a committed chunk was redone or lost"
        assert len(stamps(out)) < LANES // PACK, "the sweep was over before the last kill: make it longer"
        tiny.finish(out, log=log)
    finally:
        stop.touch()
        said, _ = reader.communicate(timeout=PATIENCE)
    assert reader.returncode == 0, said
    looks, _ = map(int, said.split())
    assert looks > KILLS
    assert numbers(out) == numbers(whole)
    # Two iterations at most are lost by a kill: the one that ran, and one whose checkpoint was being written.
    needed, made = LANES // PACK * ITERATIONS, len(events(log, "progress"))
    assert needed < made <= needed + 2 * KILLS, "more work was lost than what ran since the newest checkpoint"
    resumed = [manifest["timing"]["resumed_after"] for manifest in store.chunks(out)]
    assert any(resumed), "no chunk went on from a checkpoint: the kills came too early to say anything"


def test_interrupted_at_37_percent_and_started_again(tiny, whole, tmp_path):
    """By SIGINT; what was finished keeps its times of writing, and the same command adds the rest."""
    out, log = tmp_path / "out", tmp_path / "log"
    process = tiny.start(out, log=log, pause=0.02)
    total = LANES * ITERATIONS
    wait_until(process, lambda: len(events(log, "progress")) * PACK >= 0.37 * total)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    before = stamps(out)
    assert 0.2 * LANES / PACK <= len(before) < LANES / PACK
    assert "run the same command again" in said
    said = tiny.finish(out, log=log)
    assert f"{len(before) * PACK} committed before" in said
    assert {chunk: stamps(out)[chunk] for chunk in before} == before
    assert numbers(out) == numbers(whole)
    begun = [event["chunk"] for event in events(log, "begin")]
    assert len(begun) <= LANES // PACK + 1  # all of them once, and the one that was interrupted once more
