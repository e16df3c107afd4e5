"""kill -9 of whoever writes a checkpoint or a chunk: whole or not there, at every call and at random moments."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dying import write_plainly
from tiny import HERE, ROOT, made_up_chunk

from jaxrl import checkpoint
from jaxrl.results import store

pytestmark = pytest.mark.faults

ROUNDS = 20
# Imports once and forks the children that are killed; waits for a line before every round.
SAVER = """
import os, random, signal, sys, time
import numpy as np, orbax.checkpoint
from jaxrl import checkpoint
folder, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
for line in sys.stdin:
    newest = max(checkpoint.steps(folder), default=0)
    child = os.fork()
    if child == 0:
        for step in range(newest + 1, 10**6):
            checkpoint.save(folder, step, {f"a{i}": np.full((64, 64), step, np.float32) for i in range(8)}, {"n": step})
    while max(checkpoint.steps(folder), default=0) == newest:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.3))
    seen = max(checkpoint.steps(folder))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(seen, flush=True)
"""

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from tiny import made_up_chunk, store
store.git_state = lambda: {"commit": None, "dirty": None}
print("begun", flush=True)
for seed in range(10**6):
    store.write_chunk(sys.argv[2], made_up_chunk(seeds=[seed]))
"""


class Server:
    """A process that is asked and answers by lines."""

    def __init__(self, *command):
        self.process = subprocess.Popen([sys.executable, *map(str, command)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)  # fmt: skip

    def ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(60) == 0 or error[0]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONHASHSEED", "0")


def test_the_newest_checkpoint_is_whole_and_of_one_step_after_every_one_of_twenty_kills(tmp_path):
    like = {f"a{i}": np.zeros((64, 64), np.float32) for i in range(8)}
    left = 0
    with Server("-c", SAVER, tmp_path, 0) as saver:
        for _ in range(ROUNDS):
            seen = int(saver.ask("go"))
            found = checkpoint.restore(tmp_path, like, pytest.fail)
            assert found.step >= seen and found.record == {"n": found.step}
            for array in found.state.values():
                np.testing.assert_array_equal(array, found.step)
            unfinished = list(tmp_path.glob(f"{checkpoint.STAGING}*"))
            assert len(unfinished) <= 1, "what dead writers left is piling up"
            left += len(unfinished)
    assert left >= ROUNDS // 4, "hardly a kill came in the middle of writing"
    assert len(checkpoint.steps(tmp_path)) in (2, 3)  # the third, when the last kill came before the old one went


def test_a_checkpoint_whose_writer_dies_at_any_call_is_whole_or_the_one_before_is(tmp_path, monkeypatch):
    def read_plainly(path: Path, *_) -> dict:
        return {"a": np.fromfile(path / "a.npy"), "b": np.fromfile(path / "b.npy", np.int64)}

    monkeypatch.setattr(checkpoint, "_read_with_orbax", read_plainly)
    made = lambda step: {"a": np.full(64, float(step)), "b": np.full(8, step)}
    template = tmp_path / "template"
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_write_with_orbax", write_plainly)
        for step in (1, 2):
            checkpoint.save(template, step, made(step), {"step was": step})
    found = []
    with Server(HERE / "dying.py", "checkpoint") as server:
        for call in range(1, 200):
            folder = tmp_path / str(call)
            shutil.copytree(template, folder)
            answer = server.ask(f"{call} {folder}")
            restored = checkpoint.restore(folder, made(0), pytest.fail)
            found.append(restored.step)
            assert restored.record == {"step was": restored.step}
            for name, array in made(restored.step).items():
                np.testing.assert_array_equal(restored.state[name], array)
            if answer == "survived":
                break
            assert answer == "killed"
    assert answer == "survived" and call > 20
    assert found == sorted(found) and found[0] == 2 and found[-1] == 3
    assert found.count(3) >= 3  # the old one is deleted only after the new one has its name
    assert checkpoint.steps(folder) == [2, 3]


def test_a_chunk_whose_writer_dies_at_any_call_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "git_state", lambda: {"commit": None, "dirty": None})
    expected = store.read_chunk(store.write_chunk(tmp_path / "alive", made_up_chunk()))
    there = []
    with Server(HERE / "dying.py", "chunk") as server:
        for call in range(1, 200):
            root = tmp_path / str(call)
            root.mkdir()
            answer = server.ask(f"{call} {root}")
            there.append(len(store.chunks(root)))
            for _ in range(2):  # as the dead left it, and after the next run
                for manifest in store.chunks(root):
                    found = store.read_chunk(root / manifest["chunk"])
                    assert found.lanes == expected.lanes
                    for name, curve in expected.curves.items():
                        np.testing.assert_array_equal(found.curves[name], curve)
                store.write_chunk(root, made_up_chunk())
                assert len(store.committed(root)) == len(expected.lanes) and len(store.chunks(root)) == 1
            if answer == "survived":
                break
            assert answer == "killed"
    assert answer == "survived" and call > 25  # five files: opened, written in halves, flushed, closed; and the rest
    assert there == sorted(there) and sum(there) >= 2  # at least the call that flushes the parent folder comes after


def test_readers_see_no_half_of_a_chunk_while_writers_are_killed(tmp_path):
    """Two writers of the same chunks, killed at random; the reader looks all the while."""
    rng = random.Random(1)
    command = [sys.executable, "-c", WRITER, str(HERE), str(tmp_path / "root")]
    (tmp_path / "root").mkdir()
    counts = [0]
    for _ in range(4):
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for writer in writers:
            writer.stdout.readline()
        end = time.monotonic() + rng.uniform(0.2, 0.8)
        before = counts[-1]
        while time.monotonic() < end or counts[-1] < before + 3:
            found = store.chunks(tmp_path / "root")
            for manifest in found[-3:]:
                assert len(store.read_chunk(tmp_path / "root" / manifest["chunk"]).lanes) == 1
            assert len(found) >= counts[-1], "a committed chunk vanished"
            counts.append(len(found))
        for writer in writers:
            writer.kill()
            writer.wait(60)
            writer.stdout.close()
    assert counts[-1] > 10
    assert len(store.committed(tmp_path / "root")) == len(store.chunks(tmp_path / "root"))
