"""`--track` on the command line: refused before jax is imported, and a real run that is followed to its end."""

import json
import os
import subprocess
import sys

import pytest

from jaxrl import cli, signatures, trackers
from jaxrl.results import store

TINY = {"env": "probe/chain", "num_envs": 4, "num_steps": 8, "steps": 128, "hidden": [8], "epochs": 1}
TINY |= {"minibatches": 2, "evals": 2, "eval_episodes": 2}
# Runs the command and says, on the last line of stderr, which slow packages it imported.
WRAPPER = """
import sys
from jaxrl.cli import main
from jaxrl import trackers
trackers.LIBRARIES["mlflow"] = ("mlflow", "no_such_library")
code = main(sys.argv[1:])
print(sorted({"jax", "numpy", "tensorboardX", "wandb", "mlflow", "sqlalchemy"} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["tensorboard", "tensorbord"], "unknown tracker 'tensorbord': did you mean 'tensorboard'?"),
        (["wandb", "mlflow"], "tracker 'mlflow' needs no_such_library: pip install 'jaxrl[track]'"),
    ],
)
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_tracker_that_cannot_be_is_refused_before_anything_is_imported(tmp_path, command, names, sentence):
    (tmp_path / "spec.toml").write_text('name = "x"\n')
    arguments = ["train"] if command == "train" else ["sweep", "spec.toml"]
    done = subprocess.run(
        [sys.executable, "-c", WRAPPER, *arguments, "--track", *names],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    printed, _, imported = done.stderr.strip().rpartition("\n")
    assert (done.returncode, imported) == (2, "[]")
    assert sentence in printed and "Traceback" not in printed
    assert not (tmp_path / "results").exists()


def test_a_run_is_followed_and_its_results_do_not_depend_on_it(tmp_path, monkeypatch, capsys):
    from tensorboardX.proto.event_pb2 import Event

    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 60.0)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items() if key != "hidden"]
    for out, more in (("plain", []), ("tracked", ["--track", "tensorboard"])):
        arguments = ["train", *flags, "--hidden", "8", "--seeds", "2", "--out", str(tmp_path / out), *more]
        assert cli.main(arguments) == 0
    assert "dropped" not in capsys.readouterr().out
    [plain], [tracked] = store.chunks(tmp_path / "plain"), store.chunks(tmp_path / "tracked")
    assert plain["files"] == tracked["files"]

    [file] = (tmp_path / "tracked" / "trackers" / "tensorboard" / tracked["chunk"]).iterdir()
    content, points, texts = file.read_bytes(), {}, []
    while content:
        length = int.from_bytes(content[:8], "little")
        event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
        for value in event.summary.value:
            points.setdefault(value.tag, {})[event.step] = value.simple_value
            texts.extend(value.tensor.string_val)
    assert json.loads(texts[0])["env"] == "probe/chain" and json.loads(texts[0])["lanes"] == 2
    _, table = store.read_tables(tmp_path / "tracked" / tracked["chunk"], tracked)
    last = table.to_pandas().query("step == 128")
    assert len(last) == 2
    for metric in ("bonus_mean", "eval_return"):
        assert points[metric][128] == pytest.approx(last[metric].mean(), rel=1e-6)


def test_trackers_are_no_part_of_the_code_fingerprint(monkeypatch):
    parsed, read = [], signatures.parsed
    monkeypatch.setattr(signatures, "parsed", lambda path: parsed.append(path) or read(path))
    signatures.code_fingerprint.__wrapped__()
    assert any(path.name == "returns.py" for path in parsed)
    assert not any("trackers" in path.parts for path in parsed)
