"""What a signal does to a process that is guarded and to one that is not; the real commands are in tests/faults."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxrl.executors import signals
from jaxrl.executors.signals import Told, Wish, listening

ROOT = Path(signals.__file__).parents[2]
BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def guarded(body):
    """A guarded process that runs `body` and has printed "ready"."""
    code = f"""
import os, signal, sys, time
from jaxrl.executors import signals
signals.guard()
def ready(): print("ready", flush=True)
{body}
"""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, **given)
    assert process.stdout.readline() == "ready\n"
    return process


def told(process, number):
    """(exit code, what it said, seconds) after a signal."""
    clock = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - clock


# Each keeps the main thread from running a handler, or from ending because of one.
BODIES = {
    "in C": "import ctypes; ready()\nwhile True: ctypes.CDLL(None).sleep(60)",
    "busy": "ready()\nwhile True: pass",
    "deaf": "ready()\nwhile True:\n    try: time.sleep(1)\n    except BaseException: pass",
    "destructor": """
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT); time.sleep(0.5)
with signals.listening():
    late = Late(); ready(); del late; time.sleep(60)
""",
}


@pytest.mark.parametrize(("number", "code"), BOTH)
@pytest.mark.parametrize("body", ["in C", "busy", "deaf"])
def test_a_guarded_process_ends_with_one_line_wherever_its_main_thread_is(body, number, code):
    ended, said, seconds = told(guarded(BODIES[body]), number)
    assert (ended, said) == (code, "jaxrl: interrupted\n") and seconds < 5


def test_a_signal_raised_where_it_cannot_get_out_ends_it_too_and_prints_no_traceback():
    process = guarded(BODIES["destructor"])
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "jaxrl: interrupted\n")


def test_it_waits_for_what_is_saved_and_then_for_the_main_thread_but_not_for_ever():
    saving = """
with signals.listening(unwind=False) as wish:
    wish.saving = True
    wish.farewells.append(lambda: print("farewell", flush=True))
    ready(); until = time.monotonic() + 2
    while time.monotonic() < until: time.sleep(0.1)
    print("saved", flush=True); wish.saving = False
    time.sleep(60)
"""
    ended, said, seconds = told(guarded(saving), signal.SIGTERM)
    assert (ended, said) == (143, "saved\nfarewell\njaxrl: interrupted\n") and seconds < 2 + signals.GRACE + 3


def test_a_second_signal_does_not_wait_for_what_is_saved():
    process = guarded("with signals.listening(unwind=False) as wish:\n    wish.saving = True; ready(); time.sleep(60)")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    ended, said, seconds = told(process, signal.SIGINT)
    assert (ended, said) == (130, "jaxrl: interrupted\n") and seconds < signals.GRACE + 2


def test_a_fork_hears_signals_of_its_own():
    process = guarded("""
if (child := os.fork()) == 0:
    time.sleep(60)
time.sleep(0.5)
os.kill(child, signal.SIGTERM)
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
ready(); time.sleep(0.5); print(ended, flush=True); time.sleep(60)
""")
    assert process.stdout.readline() == "-15\n"
    assert told(process, signal.SIGINT)[:2] == (130, "jaxrl: interrupted\n")


def test_nothing_is_guarded_in_python():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with listening() as wish, pytest.raises(KeyboardInterrupt) as raised:
        os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(raised.value, Told) and raised.value.number == wish.number == signal.SIGTERM
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert signals._command is None and signals.ended_by(raised.value) == 143 and signals.ended_by(ValueError()) == 0


def test_something_is_unsaved_while_any_chunk_runs(tmp_path):
    """Of several workers one begins while another one commits."""
    wish, seen = Wish(), []
    for event in (
        {"kind": "begin", "chunk": "a"},
        {"kind": "begin", "chunk": "b"},
        {"kind": "end of chunk", "chunk": "a"},
        {"kind": "chunk", "path": tmp_path / "a", "lanes": 1, "diverged": ()},
        {"kind": "note", "text": ""},
        {"kind": "end of chunk", "chunk": "b"},
    ):
        wish.follow(event)
        seen.append(wish.saving)
    assert seen == [True, True, True, True, True, False]
