"""Hosts: what the flags mean, how lanes are shared, how all end together; and real runs of two processes."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import checkpoint, cli
from jaxrl.envs import AutoReset
from jaxrl.errors import UserError
from jaxrl.executors import hosts
from jaxrl.executors.hosts import Hosts, Wanted, share, wanted
from jaxrl.results.store import chunks, read_tables
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes
from jaxrl.types import Discrete

ROOT = Path(__file__).parents[2]


class Slow(AutoReset):
    """A coin: guess it, ten times an episode; a step takes about a millisecond."""

    actions, max_steps = Discrete(2), 10

    def reset_env(self, key, params):
        return jnp.zeros(1), jnp.int32(0)

    def step_env(self, key, time, action, params):
        work = jax.lax.fori_loop(0, 20_000, lambda i, x: jnp.sin(x + i), 0.1 * action)
        coin = jax.random.bernoulli(key)
        return jnp.zeros(1) + 0 * work, time + 1, coin == action, False, time >= 9, {}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("2",), "hosts = 2 needs --coordinator HOST:PORT"),
        (("2", "a:1"), "and --process 0 to 1"),
        (("2", "a:1", 2), r"process = 2: must be in [0, 1]"),
        (("2", "a", 0), "coordinator = 'a': expected HOST:PORT"),
        (("2", "a:b", 0), "coordinator = 'a:b': expected HOST:PORT"),
        (("2", ":8476", 0), "coordinator = ':8476': expected HOST:PORT"),
        (("2", "a:65536", 0), "coordinator = 'a:65536': expected HOST:PORT"),
        (("0",), "hosts = '0': expected 'auto' or the number"),
        (("two",), "hosts = 'two': expected 'auto' or the number"),
        (("auto", "a:1"), "leave --coordinator and --process out"),
        ((None, "a:1"), "coordinator = 'a:1' needs --hosts"),
        ((None, None, 0), "process = 0 needs --hosts"),
        (("2", "a:1", 0, 0), "heartbeat = 0: must be at least 1 second"),
    ],
)
def test_a_mistaken_flag_is_a_sentence(flags, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        wanted(*flags)


def test_flags_say_what_is_wanted():
    assert wanted(None) is None and wanted("1") is None
    assert wanted("auto", heartbeat=20) == Wanted(None, None, None, 20)
    assert wanted("2", "[::1]:8476", 1) == Wanted(2, "[::1]:8476", 1)


@pytest.mark.parametrize("command", [["train"], ["sweep", "spec.toml"]])
def test_the_command_line_refuses_a_mistake_before_it_writes(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text("seeds = 2")
    assert cli.main([*command, "--hosts", "2", "--coordinator", "127.0.0.1:1"]) == 2
    assert "--process 0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_coordinator_must_be_an_address_of_this_machine():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match="cannot listen there: Address already in use"):
            hosts._own_address(f"127.0.0.1:{port}")
    assert hosts._own_address(f"localhost:{port}") == f"127.0.0.1:{port}"
    with pytest.raises(UserError, match="process 0, this one, cannot listen there"):
        hosts._own_address("192.0.2.1:8476")  # reserved for documentation


def test_a_name_that_is_not_published_yet_is_waited_for(monkeypatch):
    answers = iter([socket.gaierror(-2, "Name or service not known"), [(socket.AF_INET, 0, 0, "", ("127.0.0.1", 0))]])

    def resolve(*arguments, **keywords):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(hosts.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(hosts.time, "sleep", lambda seconds: None)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", hosts._own_address(f"pod-0.sweep:{free_port()}"))
    monkeypatch.setattr(hosts, "NAME_SECONDS", -1.0)
    answers = iter([socket.gaierror(-2, "Name or service not known")])
    with pytest.raises(UserError, match="coordinator = 'pod-0.sweep:1': Name or service not known"):
        hosts._own_address("pod-0.sweep:1")


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_lanes_are_shared_evenly_in_every_program(processes):
    grid = {"hidden": [(2,), (3,), (4,)], "coef": (0.1, 1.0, 10.0)}
    found = lanes(spec(env="probe/chain", bonus="count", seeds=3, grid=grid))
    shares = [share(found, Hosts(process, processes)) for process in range(processes)]
    ids = [lane.id for part in shares for lane in part]
    assert len(ids) == len(set(ids)) == len(found) == 27
    for picked in ([lane.program["hidden"] for lane in part] for part in shares):
        assert 27 // processes <= len(picked) <= -(-27 // processes)
        for hidden in ((2,), (3,), (4,)):
            assert 9 // processes <= picked.count(hidden) <= -(-9 // processes)


class Words:
    """What the coordinator keeps, as its client reads and writes it."""

    def __init__(self):
        self.said = {}

    def key_value_set(self, name, value):
        if name in self.said:
            raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {name}")
        self.said[name] = value

    def key_value_try_get(self, name):
        if name not in self.said:
            raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {name}")
        return self.said[name]

    def key_value_dir_get(self, folder):
        return [(name, value) for name, value in self.said.items() if name.startswith(f"{folder}/")]


class Gone:
    """A coordinator that has died."""

    def __getattr__(self, name):
        def fail(*arguments):
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: connection refused")

        return fail


@pytest.fixture
def words(monkeypatch):
    made = Words()
    monkeypatch.setattr(hosts, "_store", lambda: made)
    return made


def test_all_end_when_one_is_told(words):
    asked = []
    here, there = hosts.told_anywhere(lambda: bool(asked)), hosts.told_anywhere(lambda: False)
    assert not here() and not there()
    asked.append(signal.SIGTERM)
    assert not there()  # nobody has looked yet
    assert here() and there() and here()


def test_without_a_coordinator_a_process_still_ends_when_told(monkeypatch):
    monkeypatch.setattr(hosts, "_store", Gone)
    monkeypatch.setattr(hosts, "PATIENCE", 0.0)
    assert hosts.told_anywhere(lambda: True)() and not hosts.told_anywhere(lambda: False)()
    assert hosts.agree(Hosts(0, 2), 7) == 7


def test_the_furthest_iteration_is_agreed_upon(words, monkeypatch):
    words.said[f"{hosts.AT}/1"] = "12"
    assert hosts.agree(Hosts(0, 2), 9) == 12
    assert words.said[f"{hosts.AT}/0"] == "9"
    assert hosts.agree(Hosts(1, 2), 12) == 12


def test_nobody_waits_for_ever_for_a_process_that_says_nothing(words, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(hosts.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(hosts.time, "sleep", lambda seconds: None)
    assert hosts.agree(Hosts(0, 2), 9) == 9
    assert hosts.PATIENCE <= next(ticks) <= hosts.PATIENCE + 3


def test_a_process_without_lanes_keeps_nobody_waiting(words, monkeypatch):
    monkeypatch.setattr(hosts, "PATIENCE", 1e9)
    hosts._have_no_lane_left(Hosts(1, 2))
    assert hosts.agree(Hosts(0, 2), 9) == 9
    assert not hosts._others_are_done(Hosts(1, 2), lambda: True)  # the other is not done, but told to end
    hosts._have_no_lane_left(Hosts(0, 2))
    assert hosts._others_are_done(Hosts(1, 2), lambda: False)


def test_a_process_that_is_not_the_first_saves_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda *backend: 1)
    state = {"a": np.arange(5.0), "key": jax.random.key(1)}
    checkpoint.save(tmp_path, 3, state, {"x": 1})
    step, restored, record = checkpoint.restore(tmp_path, state)
    assert (step, record) == (3, {"x": 1})
    np.testing.assert_array_equal(restored["a"], state["a"])
    np.testing.assert_array_equal(jax.random.key_data(restored["key"]), jax.random.key_data(state["key"]))


SPEC = """
name = "coin"
seeds = 4
[fixed]
env = "test_hosts:Slow"
bonus = "count"
num_envs = 2
num_steps = 8
hidden = [4]
epochs = 1
minibatches = 1
evals = 1
eval_episodes = 1
steps = {steps}
"""
# `jaxrl` with shorter segments, and with hosts that begin their lanes in step, as machines of one kind do.
DRIVER = """
import sys
from jaxrl.cli import main
from jaxrl.executors import hosts
from jaxrl.sweep import chunk, run
chunk.SEGMENT_SECONDS, run_chunk = 1.0, run.run_chunk
def in_step(*arguments):
    hosts._store().wait_at_barrier("begin", 400_000)
    print("runs", flush=True)
    return run_chunk(*arguments)
if {in_step} and "--hosts" in sys.argv:
    run.run_chunk = in_step
sys.exit(main(sys.argv[1:]))
"""
HEARTBEAT = 10


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Pair:
    """Two processes of one run, two CPU devices each; `printed` is what each has said."""

    def __init__(self, folder, steps, in_step=True):
        (folder / "coin.toml").write_text(SPEC.format(steps=steps))
        (folder / "driver.py").write_text(DRIVER.format(in_step=in_step))
        path = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": path}
        cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
        self.port = port = free_port()
        self.outputs = [folder / f"{port}.{index}" for index in range(2)]
        self.processes = []
        for index, output in enumerate(self.outputs):
            place = ["--hosts", "2", "--coordinator", f"127.0.0.1:{port}", "--process", str(index)]
            command = [sys.executable, "driver.py", "sweep", "coin.toml", *place, "--heartbeat", str(HEARTBEAT)]
            with open(output, "w") as file:
                self.processes.append(
                    subprocess.Popen(
                        command, cwd=folder, env={**os.environ, **flags, **cache}, stdout=file, stderr=file
                    )
                )

    def printed(self):
        return [output.read_text() for output in self.outputs]

    def until_both_run(self, seconds=2.0):
        give_up = time.monotonic() + 400
        while not all("runs" in text for text in self.printed()):
            assert time.monotonic() < give_up and all(p.poll() is None for p in self.processes), self.printed()
            time.sleep(0.1)
        time.sleep(seconds)

    def codes(self, timeout=400):
        return [process.wait(timeout) for process in self.processes]


def metrics_of(out):
    """{lane: its rows}, and which lanes each chunk holds."""
    tables = [read_tables(out / manifest["chunk"], manifest)[1] for manifest in chunks(out)]
    rows = {}
    for table in tables:
        for row in table.to_pylist():
            rows.setdefault(row.pop("lane"), []).append(row)
    return rows, [set(table["lane"].to_pylist()) for table in tables]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


STEPS = 16 * 1000


@pytest.fixture(scope="module")
def whole(folder):
    """Where two processes ran all lanes without a break."""
    pair = Pair(folder, STEPS)
    assert pair.codes() == [0, 0], pair.printed()
    assert all("has no lane left to run" in text for text in pair.printed())
    (folder / "results").rename(folder / "whole")
    return folder / "whole" / "coin"


def checkpoints_in(folder):
    return sorted(int(path.name) for path in (folder / "results/coin/.running").glob("*/*") if path.name.isdecimal())


@pytest.mark.slow
def test_two_processes_run_every_lane_once_and_as_one_process_would(whole, folder):
    rows, held = metrics_of(whole)
    assert len(held) == 2 and not held[0] & held[1] and [len(part) for part in held] == [2, 2]
    path = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": path}
    command = [sys.executable, "driver.py", "sweep", "coin.toml", "--out", "alone"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **flags}, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    alone, (all_lanes,) = metrics_of(folder / "alone")
    assert all_lanes == held[0] | held[1] and len(all_lanes) == 4
    assert repr(rows) == repr({lane: alone[lane] for lane in rows})  # repr: what was not measured is NaN or None


def listening(pid):
    """(address, port) of every TCP socket that a process listens on; addresses in hex, as the kernel prints them."""
    inodes = {os.readlink(path)[8:-1] for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    text = "".join(Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
    lines = [line.split() for line in text.splitlines()]
    return {tuple(line[1].split(":")) for line in lines if line[3] == "0A" and line[9] in inodes}


@pytest.mark.slow
def test_one_that_is_told_to_end_lets_both_save_the_same_iteration(whole, folder):
    pair = Pair(folder, STEPS)
    pair.until_both_run()
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    heard = [listening(process.pid) for process in pair.processes]
    assert {port for _, port in heard[0]} == {f"{pair.port:04X}"} and not heard[1]
    assert {address for address, _ in heard[0]} <= loopback
    told = time.monotonic()
    pair.processes[1].send_signal(signal.SIGTERM)
    assert pair.codes() == [143, 143], pair.printed()
    assert time.monotonic() - told < 25
    one, other = checkpoints_in(folder)
    assert one == other and 0 < one < STEPS // 16
    assert Pair(folder, STEPS).codes() == [0, 0]
    assert_like_whole(whole, folder)


@pytest.mark.slow
def test_one_that_is_killed_ends_the_other_and_a_restart_completes(whole, folder):
    pair = Pair(folder, STEPS)
    pair.until_both_run()
    killed = time.monotonic()
    pair.processes[1].kill()
    codes = pair.codes()
    assert codes[1] == -signal.SIGKILL and codes[0] not in (0, 143), pair.printed()
    assert time.monotonic() - killed < 2 * HEARTBEAT
    # Not in step: a fast survivor has committed all of its lanes before it was ended, and begins none now.
    assert Pair(folder, STEPS, in_step=False).codes() == [0, 0]
    assert_like_whole(whole, folder)


def assert_like_whole(whole, folder):
    """The same chunks with the same metric bytes; moves the results out of the way."""
    out = folder / "results" / "coin"
    assert {path.parent.name for path in out.glob("*/manifest.json")} == {
        path.parent.name for path in whole.glob("*/manifest.json")
    }
    for path in whole.glob("*/metrics.parquet"):
        assert (out / path.parent.name / path.name).read_bytes() == path.read_bytes()
    assert not checkpoints_in(folder)
    (folder / "results").rename(folder / f"results-{time.monotonic_ns()}")
