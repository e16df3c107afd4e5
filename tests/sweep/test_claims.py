"""Claims: one owner a lane, the dead are succeeded once, and only they."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from jaxrl.sweep import claims
from jaxrl.sweep.claims import BEAT, FOLDER, LEASE, Claims

OWNER = """
import sys, time
from jaxrl.sweep.claims import Claims
print(Claims(sys.argv[1]).take("chunk", ["a", "b"]).nonce, flush=True)
time.sleep(600)
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock of the claims' own that only tests move."""
    fake = SimpleNamespace(now=1000.0)
    fake.monotonic, fake.sleep = lambda: fake.now, time.sleep
    monkeypatch.setattr(claims, "time", fake)
    return fake


def left_by(root, name="chunk", lanes=("a", "b"), **changes):
    """The claim of an owner of whom nothing but the claim is there; by default it ran here and is gone."""
    path = root / FOLDER / f"{name}.claim"
    path.parent.mkdir(exist_ok=True)
    gone = {"process": 2**22 + 1, "started": "1"}  # above the largest process number of Linux
    path.write_text(json.dumps({**claims._here(), **gone, "nonce": "old", "lanes": list(lanes), **changes}))
    return path


ELSEWHERE = {"host": "another", "boot": "its boot"}


def test_one_owner_until_it_lets_go(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    claim = first.take("chunk", ["a", "b"])
    assert claim.is_mine() and second.take("chunk", ["a", "b"]) is None
    assert second.owner(["b"]) == f"process {os.getpid()} on {claims._here()['host']}"
    assert second.owner(["z"]) == "another process"
    first.release(claim)
    assert not claim.path.exists()
    assert second.take("chunk", ["a", "b"]).is_mine()


def test_the_same_lanes_packed_differently_have_one_owner_too(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert first.take("ab", ["a", "b"])
    assert second.take("bc", ["b", "c"]) is None
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["ab.claim"]  # nothing of the refused one
    assert second.take("cd", ["c", "d"])


def test_a_killed_owner_is_succeeded_at_once_and_a_live_one_never(tmp_path, clock):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    nonce = owner.stdout.readline().strip()
    mine = Claims(tmp_path)
    assert mine.take("chunk", ["a", "b"]) is None
    clock.now += 100 * LEASE
    assert mine.take("chunk", ["a", "b"]) is None and mine.take("other", ["b"]) is None
    owner.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # dead but not buried: a zombie still has a number
    claim = mine.take("chunk", ["a", "b"])
    assert claim.is_mine() and claim.nonce != nonce
    owner.wait()
    owner.stdout.close()
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["chunk.claim"]


def test_a_process_with_the_number_of_a_dead_one_is_not_its_owner(tmp_path):
    left_by(tmp_path, process=os.getpid(), started="1")
    assert Claims(tmp_path).take("chunk", ["a", "b"])


@pytest.mark.parametrize("place", [ELSEWHERE, {"boot": "the one before"}, {"namespace": "pid:[1]"}, {"boot": ""}])
def test_an_owner_that_cannot_be_looked_up_is_dead_after_a_lease_of_silence(tmp_path, clock, place):
    path, mine = left_by(tmp_path, **place), Claims(tmp_path)
    take = lambda: mine.take("chunk", ["a", "b"])
    assert take() is None
    clock.now += LEASE
    assert take() is None
    os.utime(path)  # a heartbeat
    assert take() is None
    clock.now += LEASE
    assert take() is None and mine.take("other", ["a"]) is None
    clock.now += 0.1
    other = mine.take("other", ["a"])
    assert other.is_mine() and take() is None
    mine.release(other)
    assert take().is_mine()


def test_a_clock_that_jumps_on_the_owners_machine_changes_nothing(tmp_path, clock):
    path, mine = left_by(tmp_path, **ELSEWHERE), Claims(tmp_path)
    for stamp in (0, 2**33):  # 1970, 2242
        os.utime(path, (stamp, stamp))
        assert mine.take("chunk", ["a"]) is None
        clock.now += LEASE
        assert mine.take("chunk", ["a"]) is None
    clock.now += 1
    assert mine.take("chunk", ["a"])


def test_a_successor_that_was_faster_keeps_the_claim(tmp_path, monkeypatch):
    """The slower one judged the dead claim, then found the new one under the same name."""
    left_by(tmp_path)
    fast, slow = Claims(tmp_path), Claims(tmp_path)
    judge, won = slow._is_dead, []

    def judged_then_slept(path):
        verdict = judge(path)
        won.append(fast.take("chunk", ["a", "b"]))
        monkeypatch.setattr(claims.os, "rename", lambda *paths: pytest.fail("took a live claim away"))
        return verdict

    monkeypatch.setattr(slow, "_is_dead", judged_then_slept)
    assert slow.take("chunk", ["a", "b"]) is None
    assert won[0].is_mine()


def test_a_claim_that_was_taken_away_by_mistake_is_put_back(tmp_path, monkeypatch):
    """The faster one is later still: between the last look of the slower one and its move."""
    left_by(tmp_path)
    fast, slow = Claims(tmp_path), Claims(tmp_path)
    rename, won = os.rename, []

    def late(source, target):
        monkeypatch.setattr(claims.os, "rename", rename)
        won.append(fast.take("chunk", ["a", "b"]))
        rename(source, target)

    monkeypatch.setattr(claims.os, "rename", late)
    assert slow.take("chunk", ["a", "b"]) is None
    assert won[0].is_mine()
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["chunk.claim"]


def test_who_lost_a_claim_knows_it_and_leaves_the_successors_alone(tmp_path, clock):
    suspended, successor = Claims(tmp_path), Claims(tmp_path)
    lost = suspended.take("chunk", ["a"])
    content = json.loads(lost.path.read_text())
    lost.path.write_text(json.dumps({**content, **ELSEWHERE}))
    assert successor.take("chunk", ["a"]) is None
    suspended.held = None  # as a suspended process, it sends no heartbeat
    clock.now += LEASE + 1
    # A last heartbeat may still come out of the thread; from then on there is silence.
    claim = successor.take("chunk", ["a"])
    if claim is None:
        clock.now += LEASE + 1
        claim = successor.take("chunk", ["a"])
    assert not lost.is_mine() and claim.is_mine()
    suspended.release(lost)
    assert claim.is_mine()


def test_the_heart_beats_until_release(tmp_path, monkeypatch):
    assert BEAT < LEASE / 10
    monkeypatch.setattr(claims, "BEAT", 0.01)
    mine = Claims(tmp_path)
    claim = mine.take("chunk", ["a"])
    os.utime(claim.path, (0, 0))
    end = time.monotonic() + 10
    while claim.path.stat().st_mtime == 0 and time.monotonic() < end:
        time.sleep(0.01)
    assert claim.path.stat().st_mtime > 0
    mine.release(claim)
    time.sleep(0.05)
    claim.path.touch()
    os.utime(claim.path, (0, 0))
    time.sleep(0.1)
    assert claim.path.stat().st_mtime == 0


def _garbage(path, kind):
    texts = {
        "empty": "",
        "not JSON": "\x00\xff{",
        "deep": "[" * 100_000,
        "a list": "[1]",
        "numbers for lanes": json.dumps({"nonce": "x", "lanes": 5}),
        "lists for lanes": json.dumps({"nonce": "x", "lanes": [["a"]]}),
        "a list for a nonce": json.dumps({"nonce": ["x"], "lanes": ["a"]}),
        "a path for a process": json.dumps({**claims._here(), "nonce": "x", "lanes": ["a"], "process": "../../etc",
                                            "boot": "other"}),
    }  # fmt: skip
    if kind in texts:
        path.write_text(texts[kind], encoding="latin-1")
    elif kind == "a folder":
        (path / "inside").mkdir(parents=True)
    else:
        path.symlink_to("/dev/null" if kind == "a link" else path.parent / "nowhere")


@pytest.mark.parametrize(
    "kind",
    [
        *("empty", "not JSON", "deep", "a list", "numbers for lanes", "lists for lanes", "a list for a nonce"),
        *("a path for a process", "a folder", "a link", "a link to nowhere"),
    ],
)
def test_garbage_in_the_place_of_a_claim_costs_a_lease_and_nothing_else(tmp_path, clock, kind):
    path = tmp_path / FOLDER / "chunk.claim"
    path.parent.mkdir()
    _garbage(path, kind)
    mine = Claims(tmp_path)
    assert mine.take("chunk", ["a"]) is None
    assert mine.owner(["z"]) == "another process"
    other = mine.take("other", ["z"])
    assert other
    mine.release(other)
    clock.now += LEASE + 1
    assert mine.take("chunk", ["a"]).is_mine()
    assert path.is_file() and not path.is_symlink()


def test_a_full_disk_leaves_no_half_of_a_claim(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claims.json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        Claims(tmp_path).take("chunk", ["a"])
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_who_leaves_releases_its_own_claims_and_no_other(tmp_path):
    claims.leave(tmp_path)  # where there is nothing
    mine = Claims(tmp_path).take("mine", ["c"])
    other = left_by(tmp_path)
    claims.leave(tmp_path)
    assert not mine.path.exists() and other.exists()


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_claim_in_a_copy_of_its_directory_is_dead_at_once_and_in_a_moved_one_it_lives(tmp_path, how):
    (tmp_path / "out").mkdir()
    owner = Claims(tmp_path / "out")
    claim = owner.take("chunk", ["a"])
    move = {"copied": shutil.copytree, "moved": shutil.move}[how]
    move(tmp_path / "out", tmp_path / "elsewhere")
    taken = Claims(tmp_path / "elsewhere").take("chunk", ["a"])
    assert (taken is not None) == (how == "copied")
    assert owner.is_mine(claim)
    owner.release(claim)
    assert not (tmp_path / ("out" if how == "copied" else "elsewhere") / FOLDER / "chunk.claim").exists()
    assert (tmp_path / "out").exists() == (how == "copied")


@pytest.mark.parametrize("kind", ["pipe", "sparse"])
def test_what_would_wait_or_take_all_memory_in_the_place_of_a_claim_is_garbage(tmp_path, clock, kind):
    path = tmp_path / FOLDER / "chunk.claim"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 40 * 10**9)
    mine = Claims(tmp_path)
    assert mine.take("chunk", ["a"]) is None
    clock.now += LEASE + 1
    assert mine.take("chunk", ["a"]).is_mine() and path.stat().st_size < 10_000
