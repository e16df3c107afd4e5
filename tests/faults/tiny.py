"""One tiny sweep in processes of its own, which the tests of this folder kill, starve, race and lie to."""

import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jaxrl.results import store

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 900.0  # seconds for what takes five to thirty on a quiet machine
LANES, PACK, ITERATIONS = 24, 4, 12
SPEC = f"""
name = "tiny"
seeds = "0:{LANES // 2}"
[fixed]
env = "probe/chain"
bonus = "count"
num_envs = 2
num_steps = 8
steps = {ITERATIONS * 2 * 8}
hidden = [8]
epochs = 1
minibatches = 2
evals = 2
eval_episodes = 2
[grid]
coef = [0.1, 1.0]
"""


class Tiny:
    """The tiny sweep: starts processes of it, and knows what an uninterrupted one leaves behind."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.spec = folder / "spec.toml"
        self.spec.write_text(SPEC)
        self.few = folder / "few.toml"  # two chunks of the same
        self.few.write_text(SPEC.replace(f"0:{LANES // 2}", f"0:{PACK}"))
        self.cache = folder / "xla"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JAX_")},
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def command(self, out: Path, *, lanes=PACK, pause=0.0, log=os.devnull, spec: Path | None = None) -> list[str]:
        driver = [sys.executable, str(HERE / "drive.py"), str(lanes), str(pause), str(log)]
        return [*driver, "sweep", str(spec or self.spec), "--out", str(out)]

    def start(self, out: Path, environment=None, **keywords) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(out, **keywords),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self.environment, **(environment or {})},
        )

    def finish(self, out: Path, **keywords) -> str:
        """What a process says that runs to its end, which must be a good one."""
        process = self.start(out, **keywords)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        return said


def wait_for(process: subprocess.Popen, word: str) -> str:
    """Reads what a process says until a line has `word` in it; returns all that was read."""
    said = ""
    for line in process.stdout:
        said += line
        if word in line:
            return said
    raise AssertionError(f"{word!r} was never said: {said}")


def wait_until(process: subprocess.Popen, true) -> None:
    """Waits for something that a process is to bring about."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None, f"it ended too early: {process.stdout.read()}"
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL, "it was over before it was killed"


def events(log: Path, *kinds: str) -> list[dict]:
    """Events that processes logged; the line that a killed one was writing may be cut short."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [event for event in found if event["kind"] in kinds]


def same_numbers(out: Path, whole: Path, chunks: int) -> bool:
    """Whether so many chunks are there, and each as in the uninterrupted sweep."""
    found, expected = numbers(out), numbers(whole)
    return len(found) == chunks * len(store.FILES) and all(found[name] == expected[name] for name in found)


def numbers(out: Path) -> dict[str, bytes]:
    """Every file that holds numbers, by chunk and name; what is committed twice would show."""
    return {
        f"{manifest['chunk']}/{name}": store.read_file(out / manifest["chunk"], name, manifest)
        for manifest in store.chunks(out)
        for name in store.FILES
    }


def made_up_chunk(**keywords) -> store.Chunk:
    """A chunk of `tests/results`, which no program has to run for."""
    return _results_conftest().make_chunk(**keywords)


@functools.cache
def _results_conftest():
    spec = importlib.util.spec_from_file_location("results_conftest", HERE.parent / "results" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
