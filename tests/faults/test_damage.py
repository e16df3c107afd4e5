"""Bytes that changed on the disk, in checkpoints and in results: told of by name, and never among the numbers."""

import json
import random
import shutil

import numpy as np
import pytest
from tiny import PACK, PATIENCE, events, kill, numbers, same_numbers, wait_until

from jaxrl import checkpoint
from jaxrl.results import store
from jaxrl.sweep.claims import FOLDER

pytestmark = pytest.mark.faults


def flipped(content: bytes) -> bytes:
    place = random.Random(len(content)).randrange(len(content))
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


DAMAGE = {
    "flipped": lambda file: file.write_bytes(flipped(file.read_bytes()) if file.stat().st_size else b"\0"),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]) if file.stat().st_size else file.unlink(),
    "emptied": lambda file: file.write_bytes(b"") if file.stat().st_size else file.unlink(),
    "deleted": lambda file: file.unlink(),
    "another's": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
}


def files_of(path):
    return sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_file_of_a_checkpoint_is_watched(tmp_path, damage):
    made = lambda step: {f"a{i}": np.full((32, 32), step + i, np.float32) for i in range(4)}
    for step in (1, 2):
        checkpoint.save(tmp_path, step, made(step), {})
    names = files_of(tmp_path / "00000002")
    assert len(names) > 8
    shutil.copytree(tmp_path / "00000002", tmp_path / "intact")
    for name in names:
        DAMAGE[damage](tmp_path / "00000002" / name)
        told = []
        found = checkpoint.restore(tmp_path, made(0), told.append)
        assert found.step == 1 and len(told) == 1 and "passed over" in told[0], name
        assert name.as_posix() in told[0] or damage == "deleted" or name.name == checkpoint.SUMS
        for array, expected in zip(found.state.values(), made(1).values(), strict=True):
            np.testing.assert_array_equal(array, expected)
        shutil.rmtree(tmp_path / "00000002")
        shutil.copytree(tmp_path / "intact", tmp_path / "00000002")
    assert checkpoint.restore(tmp_path, made(0), pytest.fail).step == 2


def running(tiny, out, log, least: int):
    """The folder of checkpoints of a sweep that was killed once its chunk had made so many of them."""
    process = tiny.start(out, log=log, pause=0.05, spec=tiny.few)
    heard = len(events(log, "checkpoint"))
    wait_until(process, lambda: len(events(log, "checkpoint")) >= heard + least)
    kill(process)
    return next(folder for folder in (out / FOLDER).iterdir() if folder.is_dir())


def test_a_sweep_with_damaged_checkpoints_falls_back_says_so_and_ends_with_the_same_numbers(tiny, whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    folder = running(tiny, out, log, 3)
    before, newest = checkpoint.steps(folder)[-2:]
    files = [file for file in (folder / f"{newest:08d}").rglob("*") if file.is_file()]
    DAMAGE["flipped"](max(files, key=lambda file: file.stat().st_size))  # numbers: orbax would hand them out
    process = tiny.start(out, log=log, pause=0.05, spec=tiny.few)
    wait_until(process, lambda: events(log, "checkpoint")[-1]["iteration"] > before + 2)
    kill(process)
    notes = [event["text"] for event in events(log, "note")]
    assert sum("is damaged and passed over" in note for note in notes) == 1
    assert any(f"goes on after iteration {before} " in note for note in notes)

    for step in checkpoint.steps(folder):
        DAMAGE["emptied"](folder / f"{step:08d}" / checkpoint.RECORD)
    said = tiny.finish(out, log=log, spec=tiny.few)
    assert said.count("is damaged and passed over") == 2 and "goes on after" not in said
    assert same_numbers(out, whole, 2)
    first = store.read_manifest(out / folder.name)
    assert first["timing"]["resumed_after"] == []  # begun anew


def test_a_checkpoint_of_another_program_is_refused_with_the_difference(tiny, whole, tmp_path):
    out = tmp_path / "out"
    folder = running(tiny, out, tmp_path / "log", 1)
    path = folder / f"{checkpoint.steps(folder)[-1]:08d}"
    there = json.loads((path / checkpoint.RECORD).read_text())["arrays"]
    name, (shape, dtype) = next((name, entry) for name, entry in there.items() if len(entry[0]) > 2)
    wider = {key: np.zeros(shape, dtype) for key, (shape, dtype) in there.items()}
    wider[name] = np.zeros((*shape[:-1], shape[-1] + 1), dtype)
    nested: dict = {}  # not the tree that it was, but the same names
    for key, array in wider.items():
        *parents, leaf = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = array
    checkpoint.save(folder, 11, nested, {})
    process = tiny.start(out, spec=tiny.few)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in said
    assert "does not fit" in said and name in said and f"{shape[-1] + 1}]" in said


def test_damaged_results_are_named_and_come_back_with_the_next_sweep(tiny, whole, tmp_path):
    from jaxrl.cli import main

    out = tmp_path / "out"
    shutil.copytree(whole, out)
    chunk = store.chunks(out)[2]["chunk"]
    for name in (*store.FILES, store.MANIFEST):
        intact = (out / chunk / name).read_bytes()
        DAMAGE["flipped"](out / chunk / name)
        with pytest.raises(store.UserError, match=f"{chunk}/{name} is damaged.*run the sweep again"):
            store.read_chunk(out / chunk)
        (out / chunk / name).write_bytes(intact)
    DAMAGE["flipped"](out / chunk / "metrics.parquet")
    assert main(["report", str(out), "--strict"]) == 2
    assert main(["report", str(out)]) == 0
    DAMAGE["flipped"](out / chunk / store.MANIFEST)
    said = tiny.finish(out)
    assert f"{chunk}/manifest.json is damaged" in said.replace("\n", "") and "Traceback" not in said
    assert f"committed {PACK} lanes" in said
    assert numbers(out) == numbers(whole)
