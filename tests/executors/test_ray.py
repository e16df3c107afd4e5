"""The Ray executor: the same bytes as in this process, whoever is killed, and nothing that others can reach."""

import importlib.util
import json
import linecache
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxrl import cli
from jaxrl.errors import UserError
from jaxrl.executors import ray as executor
from jaxrl.executors import ray_cluster, ray_worker
from jaxrl.executors.execute import execute
from jaxrl.executors.ray_cluster import Wanted, Workers, wanted
from jaxrl.executors.ray_tasks import Expected, merged
from jaxrl.executors.ray_worker import Errand, Home
from jaxrl.results import store
from jaxrl.signatures import source_fingerprint
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import Lane
from jaxrl.sweep.run import run as run_here
from jaxrl.types import IntrinsicReward

ROOT = Path(__file__).parents[2]
COMPARED = ("metrics.parquet", "lanes.parquet", "config.json", "params.safetensors")
SMALL = {
    "env": "DeepSea-bsuite",
    "env_args": {"size": 4},
    "num_envs": 2,
    "num_steps": 8,
    "steps": 64,
    "hidden": (8,),
    "epochs": 1,
    "minibatches": 1,
    "evals": 1,
    "eval_episodes": 2,
}
SECONDS = 100_000  # environment steps that take some seconds, of two lanes


def visits_by_value():
    """A bonus that no worker can import."""

    def visits(scale=1.0):
        def init(key, example):
            return jnp.zeros(example.obs.reshape(example.obs.shape[0], -1).shape[1]), ()

        def label(state, memory, batch):
            seen = batch.next_obs.reshape(*batch.reward.shape, -1) @ state
            return (), scale / jnp.sqrt(seen + 1), ()

        def update(key, state, memory, batch, trace):
            return state + batch.next_obs.reshape(*batch.reward.shape, -1).sum((0, 1)), {}

        return IntrinsicReward(init, label, update)

    return visits


def contents(out):
    """{"chunk/file": bytes} of all that equal runs write alike."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in out.glob("*/*") if path.name in COMPARED}


def times(out):
    return {path: path.stat().st_mtime_ns for path in out.glob("[!.]*/*")}


def wait_for(condition, seconds=120):
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, "nothing happened"
        time.sleep(0.05)
    return found


def lanes_of(counts):
    """Groups of so many lanes, without a program."""
    return [tuple(Lane(f"{group}-{i}", {}, {}, i, {}) for i in range(count)) for group, count in enumerate(counts)]


def errand(out, lanes=("no such lane",), mark="mark"):
    return Errand("chunk", lanes, out, mark, None, 2, Home((), None, {}))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("here", "auto", None, None), "address = 'auto' needs --executor ray"),
        (("here", None, 2, None), "worker-cpus = 2 needs --executor ray"),
        (("here", None, None, 0), "worker-gpus = 0 needs --executor ray"),
        (("ray", None, 0, None), "worker-cpus = 0: must be at least 1"),
        (("ray", None, None, -1), "worker-gpus = -1: must be at least 0"),
        (("ray", "somewhere", None, None), "address = 'somewhere': expected 'auto' or HOST:PORT"),
        (("ray", "ray://head:10001", None, None), "expected 'auto' or HOST:PORT"),
    ],
)
def test_flags_that_are_wrong_or_do_not_go_together(flags, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        wanted(*flags)


def test_flags_that_are_right():
    assert wanted("here", None, None, None) is None
    assert wanted("ray", None, None, None) == Wanted(None, None, None)
    assert wanted("ray", "head:6379", 4, 1) == Wanted("head:6379", 4, 1)


def test_without_ray_one_line_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'jaxrl[sweep]'")):
        wanted("ray", None, None, None)


def test_hosts_and_ray_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="exclude each other"):
        execute(spec(**SMALL), tmp_path, place=object(), on_ray=Wanted())


def test_an_address_where_nothing_answers_is_refused_before_ray_is_imported(tmp_path):
    command = [sys.executable, "-c", "import sys, jaxrl.executors.ray_cluster as cluster; "
               "cluster.connected('127.0.0.1:1', print).__enter__()"]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert "UserError: address = '127.0.0.1:1': no Ray cluster answers there" in ended.stderr


def test_a_ray_that_could_not_be_told_to_stay_private_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UserError, match="imported before"), ray_cluster.connected(None, print):
        pass
    assert "RAY_AUTH_MODE" not in os.environ


@pytest.mark.parametrize(
    ("counts", "workers", "most", "expected"),
    [
        ([5], Workers(2, 0, 1), 4, [4, 1]),  # as in one process
        ([64], Workers(2, 0, 4), 100, [16, 16, 16, 16]),
        ([10], Workers(2, 0, 4), 100, [4, 4, 2]),  # whole devices
        ([10], Workers(1, 1, 4), 100, [3, 3, 3, 1]),  # a GPU is one device
        ([4, 4, 4, 4], Workers(2, 0, 4), 100, [4, 4, 4, 4]),  # enough chunks as it is
        ([1], Workers(8, 0, 16), 100, [1]),
    ],
)
def test_lanes_are_cut_so_that_no_worker_is_idle(counts, workers, most, expected):
    groups = lanes_of(counts)
    chunks = executor.cut(groups, (), workers, most)
    assert [len(chunk.lanes) for chunk in chunks] == expected
    half = {lane.id for group in groups for lane in group[::2]}
    left = [tuple(lane for lane in chunk.lanes if lane.id not in half) for chunk in chunks]
    assert [chunk.lanes for chunk in executor.cut(groups, half, workers, most)] == [lanes for lanes in left if lanes]


def test_a_machine_that_does_not_see_the_directory_says_so(tmp_path):
    with pytest.raises(UserError, match="all machines share"):
        ray_worker._run(errand(tmp_path), lambda: spec(**SMALL), lambda: False, print)


def test_a_machine_with_other_code_runs_nothing_and_says_so(tmp_path):
    with executor._marked(tmp_path) as mark, pytest.raises(UserError, match="another jaxrl"):
        ray_worker._run(errand(tmp_path, mark=mark), lambda: spec(**SMALL), lambda: False, lambda event: None)
    assert not list(tmp_path.glob(".running/*"))


def test_the_source_of_a_notebook_cell_travels(monkeypatch):
    """A cell's file exists in the notebook's process only."""
    name, text = "<a cell of a notebook>", "def idea(scale=1.0):\n    return scale\n"
    names = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(True), name))
    expected, mine = source_fingerprint(names["idea"]), ray_worker.home({"__main__:idea": names["idea"]})
    del linecache.cache[name]
    with pytest.raises(UserError, match="cannot be read"):
        source_fingerprint(names["idea"])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "elsewhere.py", raising=False)
    ray_worker.settle(mine._replace(main="the/driver.py", paths=("not/there/before",)))
    assert source_fingerprint(names["idea"]) == expected
    assert sys.modules["__main__"].__file__ == "the/driver.py" and sys.path[-1] == "not/there/before"
    sys.path.remove("not/there/before")


def test_progress_is_that_of_all_tasks_and_a_note_is_told_once():
    events = []
    tell = merged({"a": Expected(1, 100), "b": Expected(2, 50)}, events.append)
    progress = lambda done, pace: {"kind": "progress", "done_steps": done, "total_steps": 7, "steps_per_s": pace}
    tell("a", progress(10, 4.0))
    tell("b", progress(20, 2.0))
    tell("b", {"kind": "chunk"})
    tell("a", progress(30, 5.0))
    told = [(event["done_steps"], event["total_steps"], event["steps_per_s"]) for event in events if len(event) == 4]
    assert told == [(10, 150, 4.0), (30, 150, 6.0), (50, 150, 5.0)]
    events.clear()
    for chunk in ("a", "b"):
        for event in ({"kind": "note", "text": "same"}, {"kind": "plan"}, {"kind": "compile", "program": 1}):
            tell(chunk, event)
    assert events == [{"kind": "note", "text": "same"}, *({"kind": "compile", "program": n} for n in (1, 2))]


def write_toml(path, fixed, **grid):
    """A spec of two seeds."""
    row = lambda name, value: f"{name} = {json.dumps(value)}"
    rows = [row(name, value) for name, value in fixed.items() if name != "env_args"]
    size = f"env_args = {{size = {fixed['env_args']['size']}}}"
    path.write_text("\n".join(["seeds = 2", "[fixed]", size, *rows, "[grid]", *map(row, grid, grid.values())]))


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def looking_often():
    """What a worker begins with, by value because it cannot import a test: short segments, a checkpoint after each."""

    def look_often():
        import jaxrl.sweep.chunk as chunk

        chunk.CHECKPOINT_SHARE, chunk.MOST_LOST, chunk.SEGMENT_SECONDS = 1e9, 0.0, 0.3

    return look_often


def listening():
    """(address, port) in hexadecimal of every TCP socket that listens."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A"}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine that all tests share; what listened before it."""
    before = listening()
    ray_cluster._prepare(None)
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
        start = ray.init
        patch.setattr(ray, "init", lambda *args, **options: start(
            *args, runtime_env={"worker_process_setup_hook": looking_often()}, **options))  # fmt: skip
        with ray_cluster.connected(None, lambda event: None):
            yield before


@pytest.mark.slow
def test_the_bytes_are_those_of_the_executor_in_this_process(cluster, tmp_path):
    made = spec(**SMALL, bonus=visits_by_value(), seeds=3, grid={"activation": ("tanh", "relu")})
    run_here(made, tmp_path / "here")
    events = []
    summary = executor.run(made, tmp_path / "ray", on_event=events.append)
    assert (summary.lanes, summary.skipped, len(summary.chunks), summary.steps) == (6, 0, 2, 6 * 64)
    assert contents(tmp_path / "ray") == contents(tmp_path / "here") and len(contents(tmp_path / "ray")) == 8
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "plan" and kinds.count("plan") == 1 and kinds.count("begin") == kinds.count("chunk") == 2
    assert [event for event in events if event["kind"] == "progress"][-1]["done_steps"] == 6 * 64
    before = times(tmp_path / "ray")
    again = executor.run(made, tmp_path / "ray")
    assert (again.skipped, again.chunks) == (6, ()) and times(tmp_path / "ray") == before


@pytest.mark.slow
def test_a_worker_killed_in_mid_chunk_is_replaced_and_goes_on(cluster, tmp_path):
    made = spec(**{**SMALL, "steps": SECONDS}, bonus="count", seeds=2)
    run_here(made, tmp_path / "here")
    killed = []

    def on_event(event):
        if event["kind"] == "checkpoint" and not killed:
            (claim,) = tmp_path.glob("ray/.running/*.claim")
            killed.append(json.loads(claim.read_text())["process"])
            os.kill(killed[0], signal.SIGKILL)

    summary = executor.run(made, tmp_path / "ray", on_event=on_event)
    assert killed and killed[0] != os.getpid() and not summary.stopped
    (manifest,) = store.chunks(tmp_path / "ray")
    assert manifest["timing"]["resumed_after"], "it began anew"
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


SHORT_SEGMENTS = """
import jaxrl.sweep.chunk

jaxrl.sweep.chunk.SEGMENT_SECONDS = 0.3
"""
IDEAS = """
import jaxrl.intrinsic.count
from jaxrl.types import IntrinsicReward
def good(scale=1.0) -> IntrinsicReward:
    return jaxrl.intrinsic.count.count()

def bad(scale=1.0) -> IntrinsicReward:
    raise ValueError("this idea never works")
"""


@pytest.mark.slow
def test_a_chunk_that_always_fails_is_told_once_and_the_others_complete(cluster, tmp_path, monkeypatch, capsys):
    """Code of the user's own, by reference, beside the spec; two workers of one core each."""
    (tmp_path / "ideas_of_mine.py").write_text(IDEAS)
    write_toml(tmp_path / "spec.toml", SMALL, bonus=["ideas_of_mine:bad", "ideas_of_mine:good"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["sweep", "spec.toml", "--out", "out", "--executor", "ray", "--worker-cpus", "1"]
    assert cli.main(command) == 2
    printed = capsys.readouterr()
    assert printed.out.count("this idea never works") == 1 and printed.out.count("committed 2 lanes") == 1
    assert "1 of 2 chunks failed, the others are committed" in printed.err
    assert "ValueError in ideas_of_mine.py, line 8: this idea never works" in printed.err
    (manifest,) = store.chunks(tmp_path / "out")
    assert manifest["program"]["bonus"] == "ideas_of_mine:good" and len(manifest["lanes"]) == 2


@pytest.mark.slow
def test_nothing_listens_beyond_this_machine_and_another_token_is_refused(cluster):
    import ray

    addresses = {row.partition(":")[0] for row in listening() - cluster}
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert addresses and addresses <= loopback
    command = [sys.executable, "-c", f"import ray; ray.init(address='{ray.get_runtime_context().gcs_address}')"]
    stranger = {**environment(), "RAY_AUTH_TOKEN": "0" * 64}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=stranger)
    assert ended.returncode != 0 and "AuthenticationError" in ended.stderr
    folder = Path(ray._private.worker._global_node.get_temp_dir_path()).parent
    assert folder.name.startswith("jaxrl-") and folder.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_driver_that_is_told_to_end_then_killed_then_started_again_redoes_nothing_committed(tmp_path):
    (tmp_path / "ideas_of_mine.py").write_text(SHORT_SEGMENTS + IDEAS)
    fixed = {**SMALL, "steps": 2 * SECONDS, "bonus": "ideas_of_mine:good"}
    write_toml(tmp_path / "spec.toml", fixed, activation=["tanh", "relu"])
    here = [sys.executable, "-m", "jaxrl", "sweep", "spec.toml", "--out", "here"]
    command = [*here, "--executor", "ray", "--out", "out"]
    # Without flags of ours, so that each process, the workers' too, makes one device per core itself.
    given = {name: value for name, value in environment().items() if name != "XLA_FLAGS"}
    given["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    options = {"cwd": tmp_path, "env": given, "stdout": subprocess.PIPE, "text": True}
    out = tmp_path / "out"

    with subprocess.Popen(command, **options) as driver:
        wait_for(lambda: list(out.glob(".running/*.claim")))
        for line in driver.stdout:
            if line.startswith("compiled"):
                break
        told = time.monotonic()
        driver.send_signal(signal.SIGTERM)
        printed = driver.stdout.read()
        assert driver.wait(60) == 143 and time.monotonic() - told < 25
    assert "run the same command again" in printed
    assert list(out.glob(".running/*/*")), "no checkpoint"

    before = set(Path("/tmp").glob("jaxrl-*"))
    with subprocess.Popen(command, **options) as driver:
        wait_for(lambda: list(out.glob("[!.]*/manifest.json")))
        driver.kill()
    for folder in set(Path("/tmp").glob("jaxrl-*")) - before:  # of Ray, which nobody is left to delete
        shutil.rmtree(folder, ignore_errors=True)
    committed = times(out)
    assert committed and len(store.chunks(out)) == 1 and store.chunks(out)[0]["timing"]["resumed_after"]

    ended = subprocess.run(command, **options, timeout=300)
    assert ended.returncode == 0 and "2 committed before" in ended.stdout
    assert {path: when for path, when in times(out).items() if path in committed} == committed
    subprocess.run(here, **options, check=True, timeout=300)
    assert contents(out) == contents(tmp_path / "here") and len(contents(out)) == 8


COMPILING = """
import jax.numpy as jnp
from jaxrl.types import IntrinsicReward

def idea(scale=1.0):
    def label(state, memory, batch):
        x = batch.reward
        for i in range(1500):
            x = jnp.sort(jnp.stack([jnp.sin(x + i), jnp.cos(x - i), x]), 0)[1]
        return memory, scale * x, ()

    return IntrinsicReward(lambda key, example: ((), ()), label, lambda key, state, memory, batch, trace: (state, {}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_driver_whose_workers_compile_ends_at_once_with_one_line(tmp_path, number, code):
    (tmp_path / "takes_long.py").write_text(COMPILING)
    write_toml(tmp_path / "spec.toml", {**SMALL, "bonus": "takes_long:idea"})
    given = {**environment(), "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cold")}
    command = [sys.executable, "-m", "jaxrl", "sweep", "spec.toml", "--out", "out", "--executor", "ray"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path, "env": given}
    with subprocess.Popen(command, **options) as driver:
        wait_for(lambda: list(tmp_path.glob("out/.running/*.claim")))
        time.sleep(2)
        told = time.monotonic()
        driver.send_signal(number)
        said = driver.communicate(timeout=120)[0]
        assert driver.returncode == code, said
        assert time.monotonic() - told < 5 + 10  # the second for a loaded machine
    assert said.count("interrupted") == 1 and "Traceback" not in said and "SystemError" not in said, said
    assert store.chunks(tmp_path / "out") == []
