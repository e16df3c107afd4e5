import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxrl.errors import UserError
from jaxrl.results import commit, store
from jaxrl.results.store import chunks, committed, load_params, read_chunk, unfinished, write_chunk
from jaxrl.sweep.plan import chunk_id

ALL_FILES = (*store.FILES, store.MANIFEST)


def test_a_chunk_comes_back_as_it_was_written(tmp_path, chunk):
    written = chunk("rnd", coefs=(0.1, 1.0), diverged={(1.0, 2)})
    # A transposed view: its memory does not lie in the order of its axes.
    written.params["value/kernel"] = np.arange(60, dtype=np.float32).reshape(2, 5, 6).T
    path = write_chunk(tmp_path, written)
    read = read_chunk(path)
    assert path.name == chunk_id(lane["lane"] for lane in written.lanes)
    assert read.lanes == written.lanes
    assert read.program == {**written.program, "hidden": [64, 64]}
    assert (read.code, read.timing, read.packing) == (written.code, written.timing, written.packing)
    np.testing.assert_array_equal(read.iterations, written.iterations)
    np.testing.assert_array_equal(read.steps, written.steps)
    for stored, original in ((read.curves, written.curves), (read.params, written.params)):
        assert stored.keys() == original.keys()
        for name, array in original.items():
            assert stored[name].dtype == array.dtype
            np.testing.assert_array_equal(stored[name], array)  # NaN equals NaN here


def test_load_params_gives_the_row_of_the_lane(tmp_path, chunk):
    written = chunk()
    write_chunk(tmp_path, written)
    for row, lane in enumerate(written.lanes):
        params = load_params(tmp_path, lane["lane"])
        np.testing.assert_array_equal(params["policy/dense/kernel"], written.params["policy/dense/kernel"][row])
        again = load_params(tmp_path, lane["lane"][:8])  # as much of an id as no other lane has is enough
        np.testing.assert_array_equal(again["policy/dense/kernel"], params["policy/dense/kernel"])
    whole = written.lanes[0]["lane"]
    near = ("0" if whole[0] != "0" else "1") + whole[1:]
    with pytest.raises(UserError, match=f"unknown lane in .* '{near}': did you mean"):
        load_params(tmp_path, near)


@pytest.mark.parametrize(("given", "found"), [("ab12", "ab12"), ("ab1234", "ab1234"), ("ab2", "ab21"), ("ab2199", None),
                                              ("ab", None), ("", None), ("c", None)])  # fmt: skip
def test_a_lane_is_named_by_as_much_of_its_id_as_no_other_has(given, found):
    lanes = ["ab12", "ab1234", "ab21"]
    if found:
        assert store.whole_id(given, lanes, "here") == found
    else:
        with pytest.raises(UserError, match="any of 3 in here: ab12, ab1234" if given == "ab" else "unknown"):
            store.whole_id(given, lanes, "here")


def test_equal_runs_give_equal_bytes_whatever_they_took(tmp_path, chunk):
    first = write_chunk(tmp_path / "a", chunk())
    second = write_chunk(tmp_path / "b", chunk(timing={"run_seconds": 99.0}))
    for name in store.FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert json.loads((second / store.MANIFEST).read_text())["timing"] == {"run_seconds": 99.0}


def test_not_measured_is_null_so_that_averages_skip_it(tmp_path, chunk):
    import pyarrow.parquet as pq

    table = pq.read_table(write_chunk(tmp_path, chunk()) / "metrics.parquet")
    assert table["eval_return"].null_count == 3 * 30
    assert table.schema.field("eval_return").type == "float"


class Killed(BaseException):
    """Not an ``Exception``: nothing may catch it on the way."""


def test_a_writer_killed_between_any_two_steps_leaves_nothing_to_see(tmp_path, chunk, monkeypatch):
    steps = 0
    die_at = None

    def dangerous(name):
        real = getattr(os, name)

        def step(*arguments, **keywords):
            nonlocal steps
            steps += 1
            if steps == die_at:
                raise Killed
            return real(*arguments, **keywords)

        monkeypatch.setattr(store.os, name, step)

    for name in ("mkdir", "fsync", "rename"):
        dangerous(name)
    monkeypatch.setattr(store.shutil, "rmtree", lambda *arguments, **keywords: None)  # the dead tidy nothing up

    (tmp_path / "alive").mkdir()
    steps = 0
    write_chunk(tmp_path / "alive", chunk())
    total, seen = steps, []
    for step in range(1, total + 1):
        root = tmp_path / str(step)
        root.mkdir()
        steps, die_at = 0, step
        with pytest.raises(Killed):
            write_chunk(root, chunk())
        die_at = None
        seen.append(len(chunks(root)))
        if seen[-1]:
            assert read_chunk(root / chunks(root)[0]["chunk"]).lanes == chunk().lanes
        path = write_chunk(root, chunk())  # the next run is not disturbed by what the dead left
        assert list(committed(root).values()) == [path] * 3
        assert read_chunk(path).lanes == chunk().lanes
    # Only the last step, flushing the parent directory, comes after the chunk exists; before it, nothing does.
    assert total >= 8 and seen == [0] * (total - 1) + [1]
    assert len(unfinished(tmp_path / str(total - 1))) == 1


def test_every_step_reaches_the_disk_before_the_chunk_appears(tmp_path, chunk, monkeypatch):
    order = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor):
        order.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fsync(descriptor)

    def rename(source, target):
        order.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(store.os, "fsync", fsync)
    monkeypatch.setattr(store.os, "rename", rename)
    write_chunk(tmp_path / "root", chunk())
    assert order[:5] == list(ALL_FILES)
    assert order[5].startswith(store.STAGING) and order[6:] == ["rename", "root"]


@pytest.mark.parametrize("name", ALL_FILES)
def test_any_changed_byte_is_an_error_that_names_the_file(tmp_path, chunk, name):
    path = write_chunk(tmp_path, chunk())
    intact = (path / name).read_bytes()
    positions = np.unique(np.linspace(0, len(intact) - 1, 60).astype(int))
    for position in positions:
        for bit in (1, 0x20):
            changed = bytearray(intact)
            changed[position] ^= bit
            (path / name).write_bytes(changed)
            with pytest.raises(UserError, match=rf"{name} is damaged"):
                read_chunk(path)
    for changed in (intact[:-1], intact + b"\n", b""):
        (path / name).write_bytes(changed)
        with pytest.raises(UserError, match=rf"{name} is damaged"):
            read_chunk(path)
    (path / name).write_bytes(intact)
    assert read_chunk(path).lanes == chunk().lanes


def test_a_missing_file_is_named(tmp_path, chunk):
    path = write_chunk(tmp_path, chunk())
    (path / "lanes.parquet").unlink()
    with pytest.raises(UserError, match="cannot read .*lanes.parquet"):
        read_chunk(path)


def test_of_two_writers_of_one_chunk_the_first_wins_whole(tmp_path, chunk, monkeypatch):
    """The second finishes while the first is between its manifest and its name."""
    real, other = os.rename, chunk(timing={"run_seconds": 2.0})
    other.curves["return"][:] = 7  # a writer on other hardware need not agree to the last bit

    def late(source, target):
        monkeypatch.setattr(store.os, "rename", real)
        write_chunk(tmp_path, other)
        real(source, target)

    monkeypatch.setattr(store.os, "rename", late)
    path = write_chunk(tmp_path, chunk())
    assert read_chunk(path).timing == {"run_seconds": 2.0}
    assert (read_chunk(path).curves["return"] == 7).all()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_two_processes_write_the_same_chunks_and_neither_fails(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from conftest import make_chunk, write_chunk\n"
        "for seed in range(12): write_chunk(sys.argv[2], make_chunk(seeds=[seed]))"
    )
    command = [sys.executable, "-c", script, os.path.dirname(__file__), str(tmp_path)]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(committed(tmp_path)) == len(chunks(tmp_path)) == 12
    for manifest in chunks(tmp_path):
        read_chunk(tmp_path / manifest["chunk"])


def test_half_a_copy_does_not_count_and_is_replaced(tmp_path, chunk):
    path = write_chunk(tmp_path, chunk())
    (path / store.MANIFEST).unlink()
    assert chunks(tmp_path) == [] and committed(tmp_path) == {}
    assert unfinished(tmp_path) == [path]
    write_chunk(tmp_path, chunk())
    assert read_chunk(path).lanes == chunk().lanes
    assert len(unfinished(tmp_path)) == 1


def test_other_directories_are_nobodys_business(tmp_path, chunk):
    write_chunk(tmp_path, chunk())
    (tmp_path / "figures").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    assert len(chunks(tmp_path)) == 1 and unfinished(tmp_path) == []


def test_a_lane_committed_twice_counts_once_and_the_first_counts(tmp_path, chunk):
    first = write_chunk(tmp_path, chunk(seeds=[0, 1]))
    second = write_chunk(tmp_path, chunk(seeds=[1, 2]))
    lanes = {lane["seed"]: lane["lane"] for lane in chunk(seeds=[0, 1, 2]).lanes}
    assert committed(tmp_path) == {lanes[0]: first, lanes[1]: first, lanes[2]: second}


def test_committed_can_be_asked_for_one_code(tmp_path, chunk):
    write_chunk(tmp_path, chunk(code="old"))
    write_chunk(tmp_path, chunk(code="new", seeds=[5]))
    assert (len(committed(tmp_path)), len(committed(tmp_path, "new")), committed(tmp_path, "none")) == (4, 1, {})


def forge(path, **changes):
    """Rewrite a manifest the way an attacker would: with a correct checksum."""
    manifest = json.loads((path / store.MANIFEST).read_text())
    del manifest["checksum"]
    (path / store.MANIFEST).write_bytes(store.seal({**manifest, **changes}))


def test_hostile_manifests_are_refused(tmp_path, chunk):
    path = write_chunk(tmp_path / "root", chunk())
    (tmp_path / "secret").write_bytes(b"x")
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    files = read_files = json.loads((path / store.MANIFEST).read_text())["files"]
    for changes, sentence in (
        ({"files": {**files, "../../secret": entry}}, "but the files of a chunk are"),
        ({"files": {name: files[name] for name in ("config.json",)}}, "but the files of a chunk are"),
        ({"chunk": "../elsewhere"}, "a chunk's directory bears the chunk's id"),
        ({"lanes": ["../../secret", "a", "b"]}, "a lane id matches"),
        ({"schema": 99}, "has schema 99"),
    ):
        forge(path, **changes)
        with pytest.raises(UserError, match=sentence):
            chunks(tmp_path / "root", strict=True)
        forge(path, files=read_files, chunk=path.name, lanes=[lane["lane"] for lane in chunk().lanes], schema=1)
    assert len(chunks(tmp_path / "root")) == 1
    (path / store.MANIFEST).write_text("[" * 100_000)
    with pytest.raises(UserError, match="manifest.json is damaged"):
        chunks(tmp_path / "root", strict=True)


def test_links_are_not_followed(tmp_path, chunk):
    path = write_chunk(tmp_path / "root", chunk())
    outside = tmp_path / "outside.parquet"
    shutil.move(path / "metrics.parquet", outside)
    (path / "metrics.parquet").symlink_to(outside)
    with pytest.raises(UserError, match=r"metrics.parquet is a symbolic link"):
        read_chunk(path)
    (path / "metrics.parquet").unlink()
    shutil.move(outside, path / "metrics.parquet")
    shutil.move(path, tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(UserError, match="is a symbolic link"):
        chunks(tmp_path / "root", strict=True)


def test_a_pickle_in_place_of_the_parameters_is_never_loaded(tmp_path, chunk):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path, bomb = write_chunk(tmp_path / "root", chunk()), pickle.dumps(Bomb())
    (path / "params.safetensors").write_bytes(bomb)
    entry = {"bytes": len(bomb), "sha256": hashlib.sha256(bomb).hexdigest()}
    forge(path, files={**json.loads((path / store.MANIFEST).read_text())["files"], "params.safetensors": entry})
    with pytest.raises(Exception, match="[Hh]eader"):
        load_params(tmp_path / "root", chunk().lanes[0]["lane"])
    assert not (tmp_path / "exploded").exists()


def test_secrets_are_not_written_down(tmp_path, chunk):
    harmless = {"tokens": 5, "env_args": {"key_colour": "red", "tokenizer": "words"}}
    secret = {"tracker": {"api_key": "hunter2", "WANDB_TOKEN": "hunter2"}}
    path = write_chunk(tmp_path, chunk(program={**secret, **harmless}))
    assert not [name for name in ALL_FILES if b"hunter2" in (path / name).read_bytes()]
    assert json.loads((path / store.MANIFEST).read_text())["environment"]["API_KEY"] == "[redacted]"
    assert read_chunk(path).program.items() >= harmless.items()


def git(folder, *command):
    subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)


def test_the_manifest_names_the_commit_and_whether_the_tree_is_dirty(tmp_path, monkeypatch):
    (tmp_path / "file.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(commit, "FILE", tmp_path / "file.py")
    clean = store.git_state()
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    (tmp_path / "file.py").write_text("2")
    assert store.git_state() == {**clean, "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert store.git_state() == {"commit": None, "dirty": None}


def test_the_commit_of_a_repository_that_jaxrl_is_installed_in_is_not_jaxrls(tmp_path, monkeypatch):
    """As in a virtual environment inside of somebody's project."""
    (tmp_path / "paper.tex").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    installed = tmp_path / ".venv" / "jaxrl" / "results" / "commit.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("1")
    monkeypatch.setattr(commit, "FILE", installed)
    assert store.git_state() == {"commit": None, "dirty": None}


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, chunk, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write results to .*No space left on device \(\d+ bytes free\)"):
        write_chunk(tmp_path, chunk())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"steps": np.arange(3)},
        {"curves": {"return": np.zeros((3, 39))}},
        {"params": {"w": np.zeros((2, 4))}},
        {"program": {"lane": "x"}},
        {"lanes": []},
    ],
)
def test_a_chunk_that_does_not_fit_together_is_refused(tmp_path, chunk, change):
    with pytest.raises(ValueError):
        write_chunk(tmp_path, chunk(**({} if "program" in change else change), program=change.get("program")))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no results directory"):
        chunks(tmp_path / "nowhere")


def test_results_import_neither_jax_nor_pyarrow_until_used():
    script = (
        "import sys, jaxrl.results as r; assert not {'jax', 'pyarrow', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "[getattr(r, name) for name in dir(r)]; assert callable(r.curves) and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_of_several_commits_of_a_lane_the_one_that_is_furthest_counts_whichever_came_first(chunk, tmp_path):
    whole = chunk()
    ids = [lane["lane"] for lane in whole.lanes]

    def stopped(after):
        rows = [{**lane, "status": "stopped", "first_bad_iteration": None} for lane in whole.lanes]
        curves = {name: curve[:, :after] for name, curve in whole.curves.items()}
        return whole._replace(
            lanes=rows, iterations=whole.iterations[:after], steps=whole.steps[:after], curves=curves
        )

    later, earlier = (store.write_chunk(tmp_path, stopped(after)) for after in (3, 2))
    assert [path.name.rpartition("-")[2] for path in (later, earlier)] == ["3", "2"]
    assert store.committed(tmp_path) == {} == store.committed(tmp_path, until=4)
    assert store.committed(tmp_path, until=0) == dict.fromkeys(ids, later) == store.committed(tmp_path, until=3)
    assert [manifest["stopped"] for manifest in store.chunks(tmp_path)] == [3, 2]
    finished = store.write_chunk(tmp_path, whole)
    store.write_chunk(tmp_path, stopped(4))
    assert store.committed(tmp_path) == dict.fromkeys(ids, finished) == store.committed(tmp_path, until=0)
