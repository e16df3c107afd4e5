"""SIGINT and SIGTERM at any moment of a command: one line, 130 or 143, no traceback, and soon.

The bounds are those of a user on a quiet machine, five seconds or a segment, and `SLACK` for one that is loaded.
"""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny import PATIENCE, kill, made_up_chunk, wait_for, wait_until

from jaxrl import checkpoint
from jaxrl.results import store
from jaxrl.sweep.claims import FOLDER

pytestmark = pytest.mark.faults

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOON, SEGMENT, SLACK = 5.0, 10.0, 10.0  # seconds
BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
SMALL = ["--seeds", "1", "--steps", "100000", "--num-envs", "2", "--num-steps", "8", "--hidden", "8", "--epochs", "1",
         "--minibatches", "1"]  # fmt: skip


@pytest.fixture
def start(tiny, tmp_path):
    """Starts `jaxrl ARGUMENTS`, its output in one pipe; what was not compiled before is compiled."""

    def begin(*arguments, log_compiles=False, **options):
        path = os.pathsep.join(map(str, (ROOT, HERE)))
        own = {"PYTHONPATH": path, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cold")}
        environment = {**tiny.environment, **own, **({"JAX_LOG_COMPILES": "1"} if log_compiles else {})}
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path}
        return subprocess.Popen(
            [sys.executable, "-m", "jaxrl", *map(str, arguments)], env=environment, **{**given, **options}
        )

    return begin


def told(process, number):
    """(seconds until it ended, what it said after it was told) of a process that is sent a signal."""
    begun = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE)
    return time.monotonic() - begun, said


def assert_one_line(said):
    assert said.count("interrupted") == 1 and said.rstrip().splitlines()[-1].find("interrupted") >= 0, said
    assert "Traceback" not in said and "Error" not in said and "Exception" not in said, said


@pytest.mark.parametrize(("number", "code"), BOTH)
@pytest.mark.parametrize("command", [["list", "envs"], ["doctor"], ["train", "--help"], ["report", "out"]])
def test_a_command_that_has_just_begun_ends_with_one_line(start, tmp_path, command, number, code):
    (tmp_path / "out").mkdir()
    store.write_chunk(tmp_path / "out", made_up_chunk())
    process = start(*command)
    wait_until(process, lambda: guarded(process))
    seconds, said = told(process, number)
    assert process.returncode == code, said
    assert_one_line(said)
    assert seconds < SOON + SLACK


def guarded(process):
    """Whether a process has handlers of its own for both signals, which it has before it imports anything slow."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return all(caught >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM))


@pytest.mark.parametrize(("number", "code"), BOTH)
@pytest.mark.parametrize("library", ["numpy", "jaxlib"])
def test_a_signal_while_a_library_is_imported(start, tmp_path, library, number, code):
    process = start("train", *SMALL, "--out", "out")
    wait_until(process, lambda: f"/{library}/" in Path(f"/proc/{process.pid}/maps").read_text())
    seconds, said = told(process, number)
    assert process.returncode == code, said
    assert_one_line(said)
    assert seconds < SOON + SLACK and store.chunks(tmp_path / "out") == []


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_a_signal_while_xla_compiles_for_minutes_leaves_no_claim(start, tmp_path, number, code):
    out = tmp_path / "out"
    command = ["train", "--env", "worlds_that_take_long:Compiling", *SMALL, "--evals", "0", "--out", out]
    process = start(*command, log_compiles=True)
    wait_for(process, "MLIR module conversion jit(<lambda>)")  # of a segment; XLA has it now
    idle_for(process, 3.0)
    assert list(out.glob(f"{FOLDER}/*.claim"))
    seconds, said = told(process, number)
    assert process.returncode == code, said
    assert_one_line(said)
    assert "run the same command again to go on" in said and seconds < SOON + SLACK
    assert list(out.glob(f"{FOLDER}/*.claim")) == []


def idle_for(process, seconds):
    """Waits, and the process must go on."""
    time.sleep(seconds)
    assert process.poll() is None, process.stdout.read()


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_a_signal_while_another_process_runs_the_lanes(start, tmp_path, number, code):
    out = tmp_path / "out"
    command = ["train", "--env", "worlds_that_take_long:Slow", *SMALL, "--out", out]
    owner = start(*command)
    try:
        wait_until(owner, lambda: list(out.glob(f"{FOLDER}/*.claim")))
        (claim,) = out.glob(f"{FOLDER}/*.claim")
        process = start(*command)
        wait_for(process, "waiting for 1 lanes")
        seconds, said = told(process, number)
        assert process.returncode == code, said
        assert_one_line(said)
        assert seconds < SOON + SLACK and claim.exists() and owner.poll() is None
    finally:
        kill(owner)


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_the_first_segment_of_a_slow_environment_is_short_and_what_it_made_is_saved(start, tmp_path, number, code):
    """100,000 steps would take a quarter of an hour, and were the first segment once."""
    out = tmp_path / "out"
    process = start("train", "--env", "worlds_that_take_long:Slow", *SMALL, "--out", out)
    wait_for(process, "compiled program 1")
    idle_for(process, 4.0)
    seconds, said = told(process, number)
    assert process.returncode == code, said
    assert_one_line(said)
    assert seconds < SEGMENT + SOON + SLACK
    (folder,) = (folder for folder in (out / FOLDER).iterdir() if folder.is_dir())
    assert checkpoint.steps(folder) and list(out.glob(f"{FOLDER}/*.claim")) == []


def test_a_process_that_waits_for_the_hosts_of_its_run_hears_of_it(start, tmp_path):
    (tmp_path / "spec.toml").write_text('seeds = 2\n[fixed]\nenv = "probe/chain"\n')
    coordinator = ["--hosts", "2", "--coordinator", "127.0.0.1:1", "--process", "1"]  # where nobody listens
    process = start("sweep", "spec.toml", "--out", "out", *coordinator)
    wait_until(process, lambda: "/jaxlib/" in Path(f"/proc/{process.pid}/maps").read_text())
    idle_for(process, 10.0)
    seconds, said = told(process, signal.SIGTERM)
    assert process.returncode == 143, said
    assert said.count("interrupted") == 1 and "Traceback" not in said
    assert seconds < SOON + SLACK


def test_a_terminal_gets_its_cursor_back(start, tmp_path):
    """The Ctrl-C is typed, while XLA compiles under a progress bar."""
    ours, theirs = pty.openpty()
    out = tmp_path / "out"
    command = ["train", "--env", "worlds_that_take_long:Compiling", *SMALL, "--out", out]
    process = start(*command, stdin=theirs, stdout=theirs, stderr=theirs, text=False, preexec_fn=_of_a_terminal)
    os.close(theirs)
    said = bytearray()
    reader = threading.Thread(target=_read, args=(ours, said))  # a terminal that nobody reads blocks who writes
    reader.start()
    wait_until(process, lambda: list(out.glob(f"{FOLDER}/*.claim")))
    time.sleep(3.0)
    os.write(ours, b"\x03")
    reader.join(PATIENCE)
    assert process.wait(PATIENCE) == 130, said
    assert said.count(b"interrupted:") == 1 and b"Traceback" not in said
    assert said.rfind(b"\x1b[?25h") > said.rfind(b"\x1b[?25l") >= 0  # shown again after it was hidden


def _read(descriptor, said):
    with contextlib.suppress(OSError):  # once the other side is closed
        while True:
            said += os.read(descriptor, 4096)


def _of_a_terminal():
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
