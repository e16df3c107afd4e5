"""The command line: mistakes end with code 2 within a second and without jax; events become lines."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import jaxrl.errors
from jaxrl import cli, display
from jaxrl.devices import prepare_jax

ROOT = Path(jaxrl.errors.__file__).parents[1]
IDEAS = """
from jaxrl.types import IntrinsicReward
raise RuntimeError("validation must not execute this")
def surprise(scale=1.0) -> IntrinsicReward: ...
class Maze:
    def reset(self, key, params): ...
    def step(self, key, state, action, params): ...
"""
# Runs the command and says, on the last line of stderr, which slow packages it imported.
WRAPPER = """
import sys
from jaxrl.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
slow = {"jax", "gymnax", "brax", "numpy", "pandas", "pyarrow", "ideas"} & set(sys.modules)
print(sorted(slow), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "ideas.py").write_text(IDEAS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # what a command sets goes away with the test


def shell(*arguments):
    """(exit code, everything printed, packages imported) of a command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    command = [sys.executable, "-c", WRAPPER, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert time.perf_counter() - start < 3
    printed, _, imported = (done.stdout + done.stderr).strip().rpartition("\n")
    return done.returncode, printed, imported


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--env", "DeepSea-bsuit"], "unknown environment 'DeepSea-bsuit': did you mean 'DeepSea-bsuite'?"),
        (["train", "--env", "ideas:Mase"], "did you mean 'Maze'?"),
        (["train", "--bonus", "rdn"], "unknown bonus 'rdn': did you mean 'rnd'?"),
        (["train", "--bonus", "rnd(lrr=1) * e3b + ideas:surprise"], "unknown rnd parameter 'lrr': did you mean 'lr'?"),
        (["train", "--bonus", "rnd", "--set", "rnd.lrr=1"], "unknown field 'rnd.lrr': did you mean 'rnd.lr'?"),
        (["train", "--agent", "pppo"], "unknown agent 'pppo': did you mean 'ppo'?"),
        (["train", "--bonsu", "rnd"], "unknown flag '--bonsu': did you mean '--bonus'?"),
        (["train", "--learning-rate=1"], "unknown flag '--learning-rate': did you mean '--lr'?"),
        (["train", "--n_envs", "1"], "unknown flag '--n-envs': did you mean '--num-envs'?"),
        (["train", "--rnd.lr", "1"], "--rnd.lr: a parameter of a bonus or a trainer is set by --set"),
        (["train", "--steps", "1e1"], "steps = 10: must be at least"),
        (["train", "--hidden", "1e1", "2", "--at-once", "0e0"], "at_once = 0: must be at least 1"),
        (["train", "--steps", "1.5"], "1.5 is not a whole number"),
        (["train", "--steps", "inf"], "inf is not a whole number"),
        (["train", "--steps", "many"], "'many'"),
        (["train", "--seeds", "1,x"], "seeds = '1,x': expected a count, 'start:stop' or a list"),
        (["train", "--env", "subprocess:Popen"], "its class has no reset and no step"),
        (["train", "--set", "agent=subprocess:run"], "annotate the function with -> Agent"),
        (["train", "--set", "lr=" + "-" * 10_000], "expected a finite number"),
        (["train", "--out", "/proc/nothing"], "out = '/proc/nothing' cannot be written"),
        (["calibrate", "rnd", "--out", "/proc/nothing"], "out = '/proc/nothing' cannot be written"),
        (["sweep", "escape.toml"], "name = '../escape': expected a plain name for a directory"),
        (["watch", ".", "--lane", "a", "--seed", "1e15"], "seed = 1000000000000000: must be in [0, 4294967295]"),
        (["evaluate", ".", "--seed", "-1"], "seed = -1: must be in [0, 4294967295]"),
        (["report", "x" * 5000], "no results directory"),
        (["train", "--lr", "abc"], "--lr"),
        (["train", "--discount", "2"], "discount = 2.0: must be in [0, 1]"),
        (["train", "--out", "ideas.py"], "'ideas.py' cannot be written"),
        (["train", "--at-once", "0"], "at_once = 0: must be at least 1"),
        (["sweep", "spec.toml"], "did you mean 'bonus'?"),
        (["report", "nowhere"], "no results directory 'nowhere'"),
    ],
)
def test_a_mistake_ends_with_code_2_and_without_jax(tmp_path, arguments, sentence):
    (tmp_path / "spec.toml").write_text("[fixed]\nbonsu = 'rnd'\n")
    (tmp_path / "escape.toml").write_text("name = '../escape'\n")
    code, printed, imported = shell(*arguments)
    assert (code, imported) == (2, "[]")
    assert sentence in printed and "Traceback" not in printed
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "expected", "sentence"),
    [
        ([], 0, "sweep      Run every lane of a TOML spec"),
        (["list"], 2, "list: say what to list, one of envs, fields, metrics, claims, bonuses"),
        (["list", "bonusses"], 2, "unknown list 'bonusses': did you mean 'bonuses'?"),
        (["list", "wrappers", "noisy_tv"], 0, "the picture changes by an additional action"),
        (["list", "fields", "discount"], 0, "discount of the extrinsic return"),
        (["list", "metrics", "coverage"], 0, "named states visited so far"),
        (["list", "trainers"], 0, "selmo"),
    ],
)
def test_what_can_be_named_is_listed_without_jax(arguments, expected, sentence):
    code, printed, imported = shell(*arguments)
    assert (code, imported) == (expected, "[]") and sentence in printed and "Traceback" not in printed


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["list", "envs"], ["list", "bonuses"]])
def test_help_and_lists_come_without_jax(arguments):
    code, printed, imported = shell(*arguments)
    assert (code, imported) == (0, "[]")
    assert {"--help": "replay", "train": "--num-envs", "list": "DeepSea-bsuite" if "envs" in arguments else "e3b"}[
        arguments[0]
    ] in printed


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["list", "envs", "Deep"], ["list", "bonuses"]])
def test_a_terminal_without_the_characters_is_no_traceback(monkeypatch, arguments):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, printed, _ = shell(*arguments)
    assert code == 0 and printed.isascii() and "Traceback" not in printed and len(printed) > 200


@pytest.mark.parametrize("out", ["made", "made/deeper/still"])
def test_what_is_refused_while_it_is_built_leaves_nothing_behind(tmp_path, capsys, out):
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["train", "--env-args", "size=large", "--out", out]) == 2
    assert "cannot be made with size='large'" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "made").mkdir()
    assert cli.main(["train", "--env-args", "size=large", "--out", "made"]) == 2
    assert (tmp_path / "made").is_dir()  # it was there before


def fake_run(monkeypatch, run):
    """Puts `run` in the place of the executor and keeps the specs that it is given."""
    seen = []
    module = types.ModuleType("jaxrl.sweep.run")

    def fake(spec, out, *, at_once, keep_state, stop, on_event, kept):
        seen.append((spec, out, at_once))
        run(on_event)
        return types.SimpleNamespace(stopped=stop())

    module.run = fake
    monkeypatch.setitem(sys.modules, "jaxrl.sweep.run", module)
    results = types.SimpleNamespace(
        lanes=lambda out: f"lanes of {out.name}",
        summary=str.upper,
        table=types.SimpleNamespace(text=lambda table: table),
    )
    monkeypatch.setitem(sys.modules, "jaxrl.results", results)
    monkeypatch.setattr(jaxrl, "results", results, raising=False)
    return seen


def events(on_event):
    on_event({"kind": "plan", "programs": 2, "lanes": 9, "skipped": 3, "bytes": 2**20})
    on_event({"kind": "note", "text": "a note"})
    on_event({"kind": "compile", "program": 1, "seconds": 2.0})
    progress = {"kind": "progress", "total_steps": 100, "steps_per_s": 10.0, "mean_return": 0.25}
    for done in (10, 20, 30):
        on_event({**progress, "done_steps": done})
    on_event({"kind": "chunk", "path": Path("a"), "lanes": 4, "diverged": ("bad",)})
    on_event({"kind": "chunk", "path": Path("b"), "lanes": 2, "diverged": ()})


def test_train_hands_the_spec_over_and_shows_events_and_the_table(monkeypatch, capsys):
    seen = fake_run(monkeypatch, events)
    clock = iter([0.0, 5.0, 11.0, 11.0, 12.0])  # start; three looks, of which the second is due and then sets the clock
    monkeypatch.setattr(cli.time, "monotonic", lambda: next(clock))
    arguments = (
        "train --env-args size=8 --env-args deterministic=true --bonus rnd --set rnd.lr=1e-2 rnd.hidden=(8,) --lr 1e-3"
    )
    assert cli.main([*arguments.split(), "--hidden", "32", "--seeds", "2:4", "--out", "here"]) == 0
    ((made, out, at_once),) = seen
    assert out == Path("here") and made.seeds == (2, 3) and at_once is None
    expected = {
        "env_args": {"size": 8, "deterministic": True},
        "rnd.lr": 0.01,
        "rnd.hidden": (8,),
        "lr": 1e-3,
        "hidden": (32,),
    }
    assert {key: made.fixed[key] for key in expected} == expected
    assert capsys.readouterr().out.splitlines() == [
        "plan: 2 programs, 9 lanes, 3 committed before, 1.0 MiB of state",
        "note: a note",
        "compiled program 1 in 2.0 s",
        " 20%  10 steps/s, 8 s left, mean return 0.25",
        "committed 4 lanes in a, diverged: bad",
        "committed 2 lanes in b",
        "LANES OF HERE",
    ]


def test_sweep_reads_the_file_and_names_the_directory_after_it(monkeypatch, tmp_path):
    seen = fake_run(monkeypatch, events)
    (tmp_path / "trial.toml").write_text("seeds = 3\n[grid]\ncoef = [0.1, 1]\n")
    assert cli.main(["sweep", "trial.toml", "--at-once", "2"]) == 0
    ((made, out, at_once),) = seen
    assert at_once == 2
    assert out == Path("results/trial") and made.grid == {"coef": (0.1, 1)} and len(made.seeds) == 3


BEGIN = {"kind": "begin", "chunk": "a", "program": {}, "lanes": []}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("running", "times", "after"), [(True, 1, ["saved"]), (True, 2, []), (False, 1, [])], ids=["asked", "twice", "idle"]
)
def test_a_signal_ends_a_run_once_its_chunk_is_saved_and_at_once_where_nothing_is_lost(
    monkeypatch, capsys, number, running, times, after
):
    reached = []

    def told(on_event):
        events(on_event)
        if running:
            on_event(BEGIN)
        for _ in range(times):
            os.kill(os.getpid(), number)
        reached.append("saved")

    fake_run(monkeypatch, told)
    before = signal.getsignal(number)
    assert cli.main(["train"]) == 128 + number
    assert reached == after and signal.getsignal(number) == before
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "interrupted: 2 chunks, 6 lanes committed in results/train; run the same command again to go on"


def test_a_terminal_gets_a_bar_and_the_same_sentences(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    show = display.on_terminal()
    events(show)
    show({"kind": "end"})
    printed = capsys.readouterr().out
    assert "10 steps/s, mean return 0.25" in printed and "committed 4 lanes in a, diverged: bad" in printed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "--xla_force_host_platform_device_count={}"),
        ({"XLA_FLAGS": "--other"}, "--other --xla_force_host_platform_device_count={}"),
        ({"JAX_PLATFORMS": "cpu"}, "--xla_force_host_platform_device_count={}"),
        ({"JAX_PLATFORMS": "cuda,cpu"}, ""),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=7"}, "--xla_force_host_platform_device_count=7"),
    ],
)
def test_host_devices_are_one_per_core_unless_chosen(before, after):
    prepare_jax(environ := dict(before))
    assert environ.get("XLA_FLAGS", "") == after.format(len(os.sched_getaffinity(0)))


def test_a_reader_that_leaves_ends_the_command_quietly():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jaxrl", "list", "envs"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == cli.READER_LEFT
