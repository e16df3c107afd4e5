"""SIGTERM and SIGINT: a checkpoint within 25 seconds, the exit code that says why, and not a bit of difference."""

import signal
import subprocess
import sys
import time

import pytest
from tiny import PATIENCE, events, same_numbers, wait_for, wait_until

from jaxrl import checkpoint
from jaxrl.results import store
from jaxrl.sweep.claims import FOLDER

pytestmark = pytest.mark.faults

NOTICE = 25.0  # seconds that a preempted machine leaves


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_sweep_that_is_told_to_end_saves_and_goes_on_bit_for_bit(tiny, whole, tmp_path, number, code):
    out, log = tmp_path / "out", tmp_path / "log"
    process = tiny.start(out, log=log, pause=0.1, spec=tiny.few)
    wait_until(process, lambda: len(events(log, "progress")) >= 16)
    told = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "Traceback" in said) == (code, False), said
    assert time.monotonic() - told < NOTICE
    assert "run the same command again" in said
    assert list((out / FOLDER).glob("*.claim")) == []  # nobody has to wait for it
    made = len(events(log, "progress"))
    (folder,) = (folder for folder in (out / FOLDER).iterdir() if folder.is_dir())
    done = made - 12 * len(store.chunks(out))  # iterations of the chunk that it ran
    assert checkpoint.steps(folder)[-1] == events(log, "checkpoint")[-1]["iteration"] == done
    tiny.finish(out, log=log, spec=tiny.few)
    assert len(events(log, "progress")) == 2 * 12  # not an iteration twice
    assert same_numbers(out, whole, 2)


def test_the_default_pace_of_segments_leaves_time_to_save(tiny, tmp_path):
    """A long run as users start it, without anything patched."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jaxrl", "train", "--env", "DeepSea-bsuite", "--bonus", "count", "--seeds", "4",
               "--steps", "50_000_000", "--evals", "0", "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=tiny.environment)  # fmt: skip
    wait_for(process, "steps/s")  # ten seconds of running: segments have their full length
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, said
    assert time.monotonic() - told < NOTICE
    (folder,) = (folder for folder in (out / FOLDER).iterdir() if folder.is_dir())
    assert checkpoint.steps(folder)


@pytest.mark.parametrize("moment", ["importing", "compiling"])
def test_a_signal_with_nothing_to_save_ends_at_once(tiny, tmp_path, moment):
    out = tmp_path / "out"
    process = tiny.start(out, environment={"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cold")})
    if moment == "compiling":
        wait_for(process, "plan:")
    else:
        wait_until(process, out.exists)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE)
    # A signal that comes in a callback of the interpreter's is told of there, and heard a moment later all the same.
    assert process.returncode == 143 and ("Traceback" not in said or "Exception ignored in" in said), said
    assert time.monotonic() - told < NOTICE
    assert not out.exists() or store.chunks(out) == []  # what stays empty is not left behind
