"""An adapter that misbehaves on request, a server that is really out of order, and a process that tracks a run."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import jaxrl
from jaxrl import trackers
from jaxrl.trackers.feed import Run

ROOT = Path(jaxrl.__file__).parents[1]
# Emits the events of one chunk to a tracker, waits for its first error if told to, and says how long everything took.
EMIT = """
import json, sys, time
from pathlib import Path
from jaxrl.results import store  # as a run has done
from jaxrl.trackers import tracking

name, out, patience, events = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), json.loads(sys.stdin.read())
notes, clock, worked = [], time.perf_counter(), time.thread_time()
with tracking([name], out, lambda note: notes.append(note["text"])) as follow:
    for event in events:
        follow(event)
    emitted, worked = time.perf_counter() - clock, time.thread_time() - worked
    while not notes and time.perf_counter() - clock < patience:
        time.sleep(0.1)
        follow({"kind": "progress"})
    clock = time.perf_counter()
print(json.dumps({"notes": notes, "emitted": emitted, "worked": worked, "closed": time.perf_counter() - clock,
                  "ended": time.time()}))
"""


@pytest.fixture
def adapter(monkeypatch):
    """Installs the tracker "own": `write` and `refuse` may sleep or raise; returns the list of what was done."""

    def install(write=lambda step: None, start=lambda: None):
        done = []

        def open_run(chunk, configuration, step):
            start()
            done.append(("start", chunk, configuration, step))

            def record(values, step):
                write(step)
                done.append(("write", chunk, step, values))

            return Run(record, lambda committed: done.append(("finish", chunk, committed)))

        monkeypatch.setitem(trackers.CATALOGUE, "own", "own_tracker:own")
        monkeypatch.setitem(trackers.LIBRARIES, "own", ())
        monkeypatch.setitem(sys.modules, "own_tracker", types.SimpleNamespace(own=lambda out: open_run))
        return done

    return install


class _Broken(BaseHTTPRequestHandler):
    def answer(self):
        self.server.requests.append(self.path)
        self.server.released.wait(self.server.seconds)
        with contextlib.suppress(OSError):  # whoever asked has given up
            self.send_error(500)

    do_GET = do_POST = do_PUT = do_PATCH = answer

    def log_message(self, *_): ...


@pytest.fixture
def broken_server():
    """Starts a server on the loopback that answers 500, after `seconds`; `requests` holds the paths asked for."""
    servers = []

    def start(seconds):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Broken)
        server.requests, server.released, server.seconds = [], threading.Event(), seconds
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def emit(tmp_path):
    """Runs `EMIT` in a process of its own, because W&B stays in the one it is imported into."""

    def run(name, events, patience=0.0, **environment):
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "MLFLOW_"))}
        environment = {**clean, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), **environment}
        command = [sys.executable, "-c", EMIT, name, str(tmp_path / "out"), str(patience)]
        done = subprocess.run(
            command,
            input=json.dumps(events, default=str),
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        *printed, last = done.stdout.strip().splitlines()
        return types.SimpleNamespace(**json.loads(last), printed=printed, errors=done.stderr)

    return run
