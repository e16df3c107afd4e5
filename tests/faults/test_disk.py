"""Disks that are full, or may not be written: said in a sentence, and no result that was there is harmed."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from tiny import HERE, PATIENCE, numbers

from jaxrl.sweep.claims import FOLDER

pytestmark = pytest.mark.faults

MOUNT = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'
OWN_FILE_SYSTEM = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT]


def can_mount(folder) -> bool:
    try:
        return subprocess.run([*OWN_FILE_SYSTEM, folder, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module", params=["real", "injected"])
def starts(request, tiny, whole, tmp_path_factory):
    """What four starts of a sweep on a disk that fills said; the real one has a file system of 8 MiB to itself."""
    root = tmp_path_factory.mktemp("disk")
    if can_mount(root) != (request.param == "real"):
        pytest.skip("this machine does not let a small file system be mounted" if request.param == "real"
                    else "a small file system really fills up instead")  # fmt: skip
    command = [sys.executable, str(HERE / "full.py"), request.param, str(root), str(tiny.few)]
    if request.param == "real":
        command = [*OWN_FILE_SYSTEM, str(root), *command]
    done = subprocess.run(command, capture_output=True, text=True, env=tiny.environment, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(root), *map(json.loads, done.stdout.splitlines())


@pytest.fixture(scope="module")
def hashes(whole):
    return {name: hashlib.sha256(content).hexdigest() for name, content in numbers(whole).items()}


def as_in(found, hashes) -> bool:
    """Two chunks, each as in the uninterrupted sweep."""
    return len(found) == 8 and all(hashes[name] == value for name, value in found.items())


def test_a_checkpoint_that_cannot_be_written_is_a_note_and_the_commit_a_sentence(starts):
    root, stayed, *_ = starts
    assert stayed["code"] == 2 and "Traceback" not in stayed["said"]
    assert stayed["events"]["checkpoint"] == 3 and stayed["events"]["progress"] == 12  # it ran to the chunk's end
    refused = [note for note in stayed["notes"] if "cannot write a checkpoint" in note]
    # After each of 11 iterations and the evaluation among them, less the three that were written.
    assert len(refused) == 9 and all("runs on without" in note and root in note for note in refused)
    assert all("bytes free)" in note for note in refused)
    sentence = stayed["said"].strip().splitlines()[-1]
    assert sentence.startswith(f"jaxrl: cannot write results to {root}") and "bytes free)" in sentence
    assert "o space left on device" in sentence
    assert stayed["left"] == [] and stayed["numbers"] == {}


def test_the_checkpoints_made_before_serve_the_next_start(starts, hashes):
    _, stayed, again, *_ = starts
    assert stayed["checkpoints"] == [[2, 3]]
    assert again["code"] == 0 and any("goes on after iteration 3 of 12" in note for note in again["notes"])
    assert as_in(again["numbers"], hashes)


def test_a_disk_that_empties_again_costs_nothing(starts, hashes):
    *_, emptied, _ = starts
    assert emptied["code"] == 0 and sum("cannot write a checkpoint" in note for note in emptied["notes"]) == 3
    assert emptied["events"]["progress"] == 2 * 12
    assert as_in(emptied["numbers"], hashes)


def test_a_disk_that_is_full_when_work_begins_is_a_sentence_too(starts):
    *_, last = starts
    assert last["code"] == 2 and "Traceback" not in last["said"] and "bytes free)" in last["said"]
    assert last["left"] == [] and last["numbers"] == {}


@pytest.mark.parametrize("kind", ["a file in its place", "no permission", "a link out", "vanishes"])
def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tiny, whole, tmp_path, kind):
    """Before anything is compiled; permissions bind root only where the file system is read-only."""
    out, prefix = tmp_path / "out", []
    if kind == "a file in its place":
        out.write_text("")
    elif kind == "no permission":
        out.mkdir()
        out.chmod(0o500)
        if os.geteuid() == 0:
            if not can_mount(out):
                pytest.skip("root may write everywhere, and this machine mounts nothing")
            prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c",
                      'mount -t tmpfs -o size=1m,ro tmpfs "$0" && exec "$@"', str(out)]  # fmt: skip
    elif kind == "a link out":
        (tmp_path / "elsewhere").mkdir()
        out.mkdir()
        (out / FOLDER).symlink_to(tmp_path / "elsewhere")
    else:
        out.symlink_to(tmp_path / "unplugged")
    command = [*prefix, *tiny.command(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=tiny.environment, timeout=PATIENCE, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and str(out) in done.stderr and len(done.stderr.splitlines()) == 1
    assert "compiled" not in done.stdout
    assert kind != "a link out" or list((tmp_path / "elsewhere").iterdir()) == []
