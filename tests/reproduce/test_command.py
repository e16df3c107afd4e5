"""`jaxrl reproduce`: what it refuses, prints and keeps; one claim, all claims, and a sitting that is told to end."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import types

import pytest

from jaxrl import cli
from jaxrl.executors.signals import Wish
from jaxrl.reproduce import catalogue, record, reproduce
from jaxrl.reproduce.lab import Stopped

PANELS = {"heights": {"title": "height", "units": "metres", "coords": {"arm": ["low", "high"], "seed": [1000, 1001]},
                      "scores": [[0.0, 0.1], [0.1, 0.0]]}}  # fmt: skip
RECORD = {
    "claim": "A toy claim, of | two arms.", "verdict": "refuted", "panels": PANELS, "chosen": [], "seeds": [1000, 1003],
    "pilot_seeds": 0, "steps": 10**6, "seconds": 60, "diverged": 0, "commit": "0123456789abcdef", "dirty": False,
    "measured": "2026-02-03T04:05:06+00:00", "machine": "2 CPU cores", "code": {},
    "differences": [{"says": "high beats low", "value": 0.0, "low": -0.1, "high": 0.05, "margin": 0.1, "lost": 0,
                     "verdict": "refuted", "panel": "heights", "first": "high", "second": "low", "at": {}, "share": 1.0,
                     "gain": True}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, claims):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name one claim, or pass --all; there are toy-claim"),
        (["toy-claim", "--all"], "name one claim, or pass --all; there are toy-claim"),
        (["toy-clam"], "unknown claim 'toy-clam': did you mean 'toy-claim'?"),
        (["toy-claim", "--scale", "smoke", "--record"], "at the scale smoke nothing is"),
        (["--all", "--scale", "smoke", "--record"], "at the scale smoke nothing is"),
    ],
)
def test_mistakes_end_with_code_2_and_leave_nothing(arguments, sentence, capsys, tmp_path):
    assert cli.main(["reproduce", *arguments]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_an_unknown_scale_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", "toy-claim", "--scale", "tpu"])
    assert stop.value.code == 2


def fake(monkeypatch, result):
    """`result(stop, on_event)` in the place of the measurement."""
    monkeypatch.setattr(reproduce, "reproduce", lambda name, scale, out, *, stop, on_event: result(stop, on_event))


def test_a_claim_is_printed_and_kept_only_where_asked(monkeypatch, capsys, claims):
    fake(monkeypatch, lambda stop, on_event: RECORD)
    assert cli.main(["reproduce", "toy-claim", "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert "- high beats low: 0 [-0.1, 0.05], refuted (margin 0.1)" in said and "toy-claim: refuted" in said
    assert "out/toy-claim-cpu/figure.png" in said and not (claims / "records").exists()
    assert cli.main(["reproduce", "toy-claim", "--record"]) == 0
    assert record.read("toy-claim", "cpu") == RECORD and "recorded before" not in capsys.readouterr().out
    assert cli.main(["reproduce", "toy-claim"]) == 0
    assert "recorded before, at commit 0123456789: refuted" in capsys.readouterr().out


def test_planted_data_are_said(monkeypatch, capsys):
    planted = [{"says": "high beats low", "null_reproduced": 0.02, "effect_reproduced": 1.0}]
    fake(monkeypatch, lambda stop, on_event: {**RECORD, "planted": planted})
    assert cli.main(["reproduce", "toy-claim", "--scale", "smoke"]) == 0
    assert "high beats low: reproduced in 2.0% of null data and in 100% of effects" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("saving", [False, True])
def test_a_signal_ends_a_claim_with_its_code_and_the_sentence(monkeypatch, capsys, number, code, saving):
    def told(stop, on_event):
        if saving:  # heard by whoever trains, who ends when it is saved
            on_event({"kind": "begin", "chunk": "0", "program": 1, "lanes": []})
        os.kill(os.getpid(), number)
        assert saving and stop()
        raise Stopped

    fake(monkeypatch, told)
    assert cli.main(["reproduce", "toy-claim", "--out", "here"]) == code
    assert "interrupted: run the same command again to go on from what is in here" in capsys.readouterr().out


CHILD = """#!{python}
import json, os, pathlib, signal, sys, time
name, _, scale, _, out = sys.argv[4:]
with open("called", "a") as file:
    print(*sys.argv[1:], file=file)
folder = pathlib.Path(out) / (name + "-" + scale)
folder.mkdir(parents=True, exist_ok=True)
{body}
(folder / "record.json").write_text(json.dumps({{**json.loads({record!r}), "claim": name}}))
"""


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Puts a script in the place of the interpreter that measures one claim; returns what it was called with."""

    def put(body="", **changes):
        script = tmp_path / "child"
        script.write_text(CHILD.format(python=sys.executable, body=body, record=json.dumps({**RECORD, **changes})))
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setattr(reproduce, "sys", types.SimpleNamespace(executable=str(script)))
        return lambda: (tmp_path / "called").read_text().splitlines() if (tmp_path / "called").exists() else []

    return put


@pytest.fixture
def three(claims):
    for name in ("a", "b", "c"):
        (claims / f"{name}.py").write_text((claims / "toy_claim.py").read_text())
    (claims / "toy_claim.py").unlink()
    return ["a", "b", "c"]


def all_claims(*arguments):
    return cli.main(["reproduce", "--all", "--scale", "cpu", "--out", "out", *arguments])


def test_all_measures_each_in_a_process_and_writes_one_report(child, three, capsys, tmp_path):
    called = child()
    assert all_claims() == 0
    assert called() == [f"-m jaxrl reproduce {name} --scale cpu --out out" for name in three]
    page = (tmp_path / "out/report-cpu.html").read_text()
    assert all(f'<h2 id="{name}">' in page for name in three) and "refuted" in capsys.readouterr().out
    assert not (catalogue.folder() / "records").exists()


def test_all_skips_what_is_fresh_and_measures_what_is_stale_or_damaged(child, three, tmp_path, claims):
    called = child(code={"experiments/b.py": record.signatures.file_fingerprint(claims / "b.py")})
    assert all_claims() == 0 and len(called()) == 3
    assert all_claims() == 0 and len(called()) == 3
    (claims / "b.py").write_text((claims / "b.py").read_text() + "\nMORE = 1\n")
    (tmp_path / "out/c-cpu/record.json").write_text('{"verdict": ')
    child()
    assert all_claims() == 0
    assert [line.split()[3] for line in called()[3:]] == ["a", "b", "c"]  # of all three the record named b's code


def test_all_keeps_records_also_of_what_was_measured_before(child, three):
    called = child()
    assert all_claims() == 0 and all_claims("--record") == 0
    assert len(called()) == 3 and [record.read(name, "cpu")["claim"] for name in three] == three


def test_a_claim_that_fails_does_not_stop_the_others(child, three, capsys):
    called = child("if name == 'b': sys.exit(2)")
    assert all_claims("--record") == 1
    captured = capsys.readouterr()
    assert len(called()) == 3 and "failed: b" in captured.err and record.read("b", "cpu") is None


@pytest.mark.parametrize(("body", "code"), [("sys.exit(130)", 130), ("os.kill(os.getpid(), signal.SIGKILL)", 137)])
def test_all_ends_with_what_was_ended_and_goes_on_with_it(child, three, capsys, body, code):
    called = child(f"if name == 'b': {body}")
    assert all_claims() == code and len(called()) == 2
    assert "interrupted at b: run the same command again to go on" in capsys.readouterr().out
    called = child()
    assert all_claims() == 0
    assert [line.split()[3] for line in called()] == ["a", "b", "b", "c"]


@pytest.fixture
def begun(child, three, tmp_path):
    """Starts `--all` in a group of its own, as a terminal does, with a child that runs `body`; waits until it does."""

    def start(body):
        child(body + """
(folder / "ready").write_text("yes")
if name == "a": time.sleep(60)
""")
        driver = f"""
import pathlib, sys, types
from jaxrl import cli
from jaxrl.reproduce import catalogue, reproduce
catalogue.folder = lambda: pathlib.Path({str(catalogue.folder())!r})
reproduce.sys = types.SimpleNamespace(executable={str(tmp_path / "child")!r})
sys.exit(cli.main(["reproduce", "--all", "--out", "out"]))
"""
        process = subprocess.Popen(
            [sys.executable, "-c", driver], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": str(record.signatures.PACKAGE.parent)}, start_new_session=True,
        )  # fmt: skip
        seen(tmp_path / "out/a-cpu/ready", process)
        return process

    return start


def seen(file, process):
    """Wait until a file has something in it."""
    while not (file.exists() and file.read_text()) and process.poll() is None:
        time.sleep(0.02)
    return file.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_passed_on_and_the_child_may_save(begun, tmp_path, number, code):
    """As a terminal's Ctrl-C comes: to the whole group, while a child takes a second to save and must be told once."""
    process = begun(f"""
def save(number, frame):
    signal.signal(number, signal.SIG_DFL)
    time.sleep(1.0)
    (folder / "saved").touch()
    print("interrupted, and saved")
    sys.exit(128 + number)
signal.signal({int(number)}, save)
""")
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert (tmp_path / "out/a-cpu/saved").exists() and not (tmp_path / "out/b-cpu").exists()
    assert said == "interrupted, and saved\n"  # once, by the one that was at it


def test_a_second_signal_leaves_no_child_behind(begun, tmp_path):
    process = begun("""
signal.signal(signal.SIGINT, lambda number, frame: (folder / "told").write_text("once"))
""")
    os.killpg(process.pid, signal.SIGINT)
    seen(tmp_path / "out/a-cpu/told", process)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)  # until both have closed their output; the child would sleep for 60 s
    assert process.returncode == 130 and "Traceback" not in said, said


def test_a_signal_between_two_claims_begins_no_other(child, three):
    """It comes as a child ends well: the next one is not started."""
    called = child()
    wish, seen = Wish(), []
    for name, code in reproduce.measure_all(three, "cpu", reproduce.Path("out"), wish):
        seen.append((name, code))
        wish.number = signal.SIGINT  # heard while the child was waited for
    assert len(called()) == 1 and seen[0] == ("a", 0)
