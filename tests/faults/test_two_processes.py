"""Several processes on one results directory: every lane once, nobody crashes, and the dead are succeeded once."""

import json
import multiprocessing
import socket

import pytest
from tiny import LANES, PACK, PATIENCE, events, kill, numbers, wait_until

from jaxrl.results import store
from jaxrl.sweep import claims
from jaxrl.sweep.claims import FOLDER, Claims

pytestmark = pytest.mark.faults


def finish_all(processes):
    said = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(said), "\n".join(said)
    assert not any("Traceback" in text for text in said), "\n".join(said)
    return said


def test_two_processes_share_a_sweep(tiny, whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    finish_all([tiny.start(out, log=log, pause=0.02) for _ in range(2)])
    assert numbers(out) == numbers(whole)
    begun = [event["chunk"] for event in events(log, "begin")]
    assert sorted(begun) == sorted(set(begun)) and len(begun) == LANES // PACK  # disjoint, and all
    assert len({event["process"] for event in events(log, "begin")}) == 2, "one of them did everything"
    assert list((out / FOLDER).iterdir()) == []


def test_two_processes_that_pack_differently_share_a_sweep_too(tiny, whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    finish_all([tiny.start(out, log=log, pause=0.02, lanes=count) for count in (PACK, 3)])
    lanes = [lane for manifest in store.chunks(out) for lane in manifest["lanes"]]
    assert len(lanes) == LANES and set(lanes) == store.committed(whole).keys()  # union complete, none twice
    assert len({event["process"] for event in events(log, "begin")}) == 2
    assert list((out / FOLDER).glob("*.claim")) == []


def test_a_dead_owners_chunk_goes_on_once_under_several_successors(tiny, whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    dying = tiny.start(out, log=log, pause=0.1)
    wait_until(dying, lambda: len(events(log, "checkpoint")) >= 3)
    kill(dying)
    (orphan,) = (event["chunk"] for event in events(log, "begin"))
    assert (out / FOLDER / f"{orphan}.claim").exists()
    finish_all([tiny.start(out, log=log, pause=0.05) for _ in range(3)])
    assert numbers(out) == numbers(whole)
    begun = [event["chunk"] for event in events(log, "begin")]
    assert begun.count(orphan) == 2 and len(begun) == LANES // PACK + 1
    assert store.read_manifest(out / orphan)["timing"]["resumed_after"] >= [3]


def _race(root, rounds, barrier, won):
    mine = Claims(root)
    for number in range(rounds):
        barrier.wait(PATIENCE)
        claim = mine.take(f"chunk{number}", [f"lane{number}"])
        won.put((number, claim is not None))
        barrier.wait(PATIENCE)
        mine.held = None


@pytest.mark.parametrize("left", ["by the dead", "by nobody"])
def test_of_four_processes_that_reach_for_one_claim_one_gets_it(tmp_path, left):
    """A hundred times; also where a dead owner's claim must be buried first."""
    rounds = 100
    (tmp_path / FOLDER).mkdir()
    for number in range(rounds if left == "by the dead" else 0):
        gone = {**claims._here(), "process": 2**22 + 1, "started": "1", "nonce": "old", "lanes": [f"lane{number}"]}
        (tmp_path / FOLDER / f"chunk{number}.claim").write_text(json.dumps(gone))
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path, rounds, barrier, won)) for _ in range(4)]
    for racer in racers:
        racer.start()
    answers = [won.get(timeout=PATIENCE) for _ in range(4 * rounds)]
    for racer in racers:
        racer.join(PATIENCE)
        assert racer.exitcode == 0
    winners = [number for number, mine in answers if mine]
    assert sorted(winners) == list(range(rounds))


def test_a_live_owner_elsewhere_keeps_its_lanes_and_a_silent_one_does_not(tmp_path, monkeypatch):
    """Its heartbeat is a touch; the observer's own clock, which nothing else moves, measures the silence."""
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    mine = Claims(tmp_path)
    (tmp_path / FOLDER).mkdir()
    path = tmp_path / FOLDER / "chunk.claim"
    there = {**claims._here(), "host": f"not {socket.gethostname()}", "nonce": "theirs", "lanes": ["a"]}
    path.write_text(json.dumps(there))
    for _ in range(20):  # an hour of heartbeats
        assert mine.take("chunk", ["a"]) is None
        now[0] += 180.0
        path.touch()
    assert mine.take("chunk", ["a"]) is None
    now[0] += claims.LEASE + 1
    assert mine.take("chunk", ["a"]).is_mine()
