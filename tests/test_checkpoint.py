"""Checkpoints: what comes back is what was written, and what was damaged never does."""

import json
import os
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import checkpoint
from jaxrl.checkpoint import RECORD, STAGING, STATE, SUMS, restore, save, steps
from jaxrl.errors import UserError


class Part(NamedTuple):
    key: jax.Array
    weights: dict


def state(step=0, seed=0):
    """One of every kind of leaf; the arrays of two steps differ in every element."""
    weights = {
        "float": np.full((3, 4), step, np.float32),
        "brain": jnp.full((2, 2), step, jnp.bfloat16),
        "flag": np.full(3, bool(step % 2)),
        "byte": np.full((2, 3), step, np.uint8),
        "scalar": np.int32(step),
        "none of it": np.zeros((2, 0), np.float32),
        "broken": np.array([np.nan, -0.0, np.inf], np.float32) * np.float32(step + 1),
    }
    key = jax.random.split(jax.random.key(seed + step), 2)
    return {"part": Part(key, weights), "rest": (np.arange(step, step + 5),)}


def shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def equal(one, two):
    """Same structure, dtypes and bytes."""
    plain = lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    assert jax.tree.structure(one) == jax.tree.structure(two)
    return all(
        a.dtype == b.dtype and np.asarray(plain(a)).tobytes() == np.asarray(plain(b)).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    )


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints 1 and 2."""
    for step in (1, 2):
        save(tmp_path, step, state(step), {"step was": step})
    return tmp_path


def files_of(path):
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def test_every_leaf_comes_back_bit_for_bit(two):
    for like in (state(), shapes(state())):
        found = restore(two, like)
        assert (found.step, found.record) == (2, {"step was": 2})
        assert equal(found.state, state(2)) and not equal(found.state, state(1))


def test_keys_of_another_generator_come_back_as_such(tmp_path):
    key = {"key": jax.random.split(jax.random.key(3, impl="rbg"), 2)}
    save(tmp_path, 1, key, {})
    found = restore(tmp_path, shapes(key)).state["key"]
    assert found.dtype == key["key"].dtype
    np.testing.assert_array_equal(jax.random.bits(found[0]), jax.random.bits(key["key"][0]))


def test_where_there_is_none_there_is_none(tmp_path):
    assert restore(tmp_path / "nowhere", state()) is None and steps(tmp_path / "nowhere") == []
    (tmp_path / f"{STAGING}7").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "00000009").write_text("a file")
    (tmp_path / "00000008").symlink_to(tmp_path / "notes")
    assert restore(tmp_path, state()) is None


def test_the_newest_two_are_kept_and_the_dead_writers_rest_goes(two):
    (two / f"{STAGING}dead" / STATE).mkdir(parents=True)
    save(two, 11, state(11), {})
    assert sorted(path.name for path in two.iterdir()) == ["00000002", "00000011"]


def test_any_changed_file_is_passed_over_with_a_sentence_that_names_it(two):
    path = two / "00000002"
    names = files_of(path)
    assert {RECORD, SUMS} < set(names) and len(names) > 8
    for name in names:
        intact = (path / name).read_bytes()
        (path / name).write_bytes(bytes([intact[0] ^ 1]) + intact[1:] if intact else b"x")
        told = []
        found = restore(two, state(), told.append)
        assert found.step == 1 and equal(found.state, state(1)), name
        (sentence,) = told
        assert str(path) in sentence and name in sentence and "passed over" in sentence
        (path / name).write_bytes(intact)
    assert restore(two, state(), pytest.fail).step == 2


def test_two_damaged_checkpoints_are_none(two):
    for step in (1, 2):
        (two / f"{step:08d}" / RECORD).write_bytes(b"")
    told = []
    assert restore(two, state(), told.append) is None and len(told) == 2


def test_after_a_fall_back_two_good_checkpoints_are_kept_not_the_damaged_one(two):
    (two / "00000002" / SUMS).unlink()
    save(two, 10, state(10), {})
    (two / "00000010" / SUMS).write_text("{}")
    assert restore(two, state()) is None  # 2 and 10
    save(two, 3, state(3), {})
    save(two, 4, state(4), {})
    assert steps(two) == [3, 4]


def test_the_step_of_a_damaged_checkpoint_can_be_saved_again(two):
    (two / "00000002" / RECORD).unlink()
    save(two, 2, state(2), {"again": True})
    assert restore(two, state(), pytest.fail).record == {"again": True}


@pytest.mark.parametrize("link", ["of a file", "of a folder", "of the sums", "beside the rest"])
def test_links_are_damage(two, link):
    path = two / "00000002"
    target = {
        "of a file": path / RECORD,
        "of a folder": path / STATE,
        "of the sums": path / SUMS,
        "beside the rest": path / STATE / "more",
    }[link]
    if target.exists():
        target.rename(two / "moved")
    target.symlink_to(two / "moved")
    told = []
    assert restore(two, state(), told.append).step == 1 and len(told) == 1


def _other(change):
    other = shapes(state())
    weights = other["part"].weights
    if change == "shape":
        weights["float"] = jax.ShapeDtypeStruct((3, 5), np.float32)
    elif change == "dtype":
        weights["brain"] = jax.ShapeDtypeStruct((2, 2), np.float16)
    elif change == "more":
        weights["new"] = jax.ShapeDtypeStruct((), np.float32)
    else:
        del weights["flag"]
    return other


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("shape", r"part\.weights\.float is float32\[3, 4\] in the checkpoint and float32\[3, 5\] in this run"),
        ("dtype", r"part\.weights\.brain is bfloat16\[2, 2\] in the checkpoint and float16\[2, 2\] in this run"),
        ("more", r"part\.weights\.new is only in this run"),
        ("less", r"part\.weights\.flag is only in the checkpoint"),
    ],
)
def test_another_programs_checkpoint_is_refused_with_the_difference(two, change, difference):
    with pytest.raises(UserError, match=difference) as refusal:
        restore(two, _other(change))
    assert str(two / "00000002") in str(refusal.value) and ";" not in str(refusal.value)


def test_of_many_differences_the_first_are_shown_and_the_rest_counted(two):
    with pytest.raises(UserError, match="and 4 more"):
        restore(two, {"x": np.zeros(1)})


def test_a_disk_that_refuses_leaves_what_was_there(two, monkeypatch):
    real = checkpoint._write

    def full(path, content):
        if path.name == SUMS:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        save(two, 3, state(3), {})
    assert sorted(path.name for path in two.iterdir()) == ["00000001", "00000002"]
    assert equal(restore(two, state(), pytest.fail).state, state(2))


def test_everything_is_on_the_disk_before_the_name_and_the_sums_are_last(tmp_path, monkeypatch):
    """Each file and folder is flushed after its last change, then the move, then the folder that holds the name."""
    order, real_fsync, real_rename = [], os.fsync, os.rename
    whole = {}

    def fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        order.append(path)
        if os.path.isfile(path):
            whole[path] = os.path.getsize(path)
        real_fsync(descriptor)

    def rename(source, target):
        if STAGING in str(source) and os.path.dirname(source) == str(tmp_path / "all"):
            order.append("the move")
            for path, size in whole.items():
                assert os.path.getsize(path) == size, "written to after it was flushed"
        real_rename(source, target)

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    monkeypatch.setattr(checkpoint.os, "rename", rename)
    final = save(tmp_path / "all", 1, state(1), {})
    moved = order.index("the move")
    (staging,) = {path for path in order[:moved] if os.path.basename(path).startswith(STAGING)}
    flushed = {os.path.relpath(path, staging) for path in order[:moved]}
    assert flushed >= {".", STATE, *files_of(final)}
    assert flushed >= {folder.relative_to(final).as_posix() for folder in final.rglob("*") if folder.is_dir()}
    assert order[moved - 2 : moved] == [f"{staging}/{SUMS}", staging]
    assert order[moved + 1 :] == [str(tmp_path / "all")]


def test_the_sums_are_those_of_every_other_file(two):
    path = two / "00000002"
    sums = json.loads((path / SUMS).read_text())
    assert sorted([*sums, SUMS]) == files_of(path)
    assert all(entry["bytes"] == (path / name).stat().st_size for name, entry in sums.items())


@pytest.mark.parametrize("what", ["pipe", "sparse", "sparse sums"])
def test_what_would_wait_or_take_all_memory_is_passed_over(two, what):
    file = two / "00000002" / (SUMS if what == "sparse sums" else RECORD)
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    else:
        file.touch()
        os.truncate(file, 40 * 10**9)
    told = []
    assert restore(two, state(), told.append).step == 1 and len(told) == 1 and file.name in told[0]


def test_nothing_is_deleted_but_checkpoints_and_nothing_through_a_link(two, tmp_path_factory):
    data = two / "20240131"
    data.mkdir()
    (data / "measured.csv").write_text("1")
    outside = tmp_path_factory.mktemp("outside")
    for name in ("20240131", f"{STAGING}1"):
        (outside / name).mkdir()
        (outside / name / RECORD).write_text("{}")
    (two / "link").symlink_to(outside)
    save(two, 3, state(3), {})
    assert steps(two) == [2, 3] and (data / "measured.csv").exists()
    told = []
    assert restore(two / "link", state(), told.append) is None and "is a symbolic link" in told[0]
    with pytest.raises(OSError, match="symbolic link"):
        save(two / "link", 1, state(), {})
    checkpoint.forget(two / "link")
    checkpoint.forget(two)
    assert sorted(path.name for path in outside.iterdir()) == [f"{STAGING}1", "20240131"]
    assert sorted(path.name for path in two.iterdir()) == ["20240131", "link"]


def resealed(path, **changes):
    record = json.loads((path / RECORD).read_text())
    (path / RECORD).write_text(json.dumps({**record, **changes}))
    (path / SUMS).write_text(json.dumps(checkpoint._sums(path)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": "2"}, "field step is '2', expected a whole number"),
        ({"step": 7}, "field step of record.json is 7, and the directory bears 2"),
        ({"record": []}, "field record is \\[\\], expected a mapping"),
        ({"record": {}}, "field record.step was is missing"),
        ({"arrays": 5}, "field arrays is 5, expected a mapping"),
    ],
)
def test_a_record_that_was_changed_and_sealed_again_is_passed_over_with_its_field(two, changes, said):
    resealed(two / "00000002", **changes)
    told = []
    assert restore(two, state(), told.append, {"step was": int}).step == 1
    assert len(told) == 1 and re.search(said, told[0])


@pytest.mark.parametrize("entry", [[], [[1]], ["x", "y", "z"]])
def test_an_array_of_no_shape_is_a_difference(two, entry):
    arrays = json.loads((two / "00000002" / RECORD).read_text())["arrays"]
    resealed(two / "00000002", arrays={**arrays, "rest.0": entry})
    with pytest.raises(UserError, match="does not fit: rest.0 is"):
        restore(two, state())
