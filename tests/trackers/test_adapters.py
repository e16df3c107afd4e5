"""What the three libraries wrote, read back with their own readers."""

import json
import struct

import pytest
from run_events import CHUNK, begin, committed, metrics, whole

from jaxrl import trackers

SECRETS = (b"hunter2", b"0123456789" * 4)  # an api_key of the program, and the key of the W&B account


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 60.0)  # MLflow makes its database while a loaded machine waits


def track(name, events, out):
    notes = []
    with trackers.tracking([name], out, notes.append) as follow:
        for event in events:
            follow(event)
    assert notes == []


def scalars(folder):
    """[(tag, step, value)] and purge steps and texts of a directory's event files, in the order of their writing."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    points, purges, texts = [], [], []
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:  # TFRecord: length, its checksum, the record, its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
            if event.session_log.status == SessionLog.START:
                purges.append(event.step)
            for value in event.summary.value:
                if value.tensor.string_val:
                    texts.append((value.tag, value.tensor.string_val[0].decode()))
                else:
                    points.append((value.tag, event.step, value.simple_value))
    return points, purges, texts


def test_tensorboard_has_every_point_and_the_configuration(tmp_path):
    track("tensorboard", whole(4), tmp_path)
    points, purges, [(tag, text)] = scalars(tmp_path / "trackers" / "tensorboard" / CHUNK)
    assert [point for point in points if point[0] == "return"] == [("return", 32 * i, i / 4) for i in (1, 2, 3)]
    assert [step for name, step, _ in points if name == "rnd/loss"] == [32, 64, 96]
    assert purges == []
    assert tag.startswith("configuration")
    configuration = json.loads(text)
    assert configuration["env_args"] == {"size": 4, "api_key": "[redacted]"} and configuration["lanes"] == 3


def test_tensorboard_hides_what_a_resumed_chunk_writes_again(tmp_path):
    track("tensorboard", [begin(), *(metrics(i) for i in range(1, 6))], tmp_path)
    track("tensorboard", [begin(), *(metrics(i) for i in range(4, 8)), committed()], tmp_path)
    points, purges, _ = scalars(tmp_path / "trackers" / "tensorboard" / CHUNK)
    assert [step // 32 for name, step, _ in points if name == "return"] == [1, 2, 3, 4, 5, 4, 5, 6, 7]
    assert purges == [4 * 32]


def test_mlflow_has_every_point_and_a_resumed_chunk_continues_its_run(tmp_path):
    track("mlflow", [begin(), metrics(1), metrics(2)], tmp_path)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'trackers' / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(tmp_path.name)
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (CHUNK, "KILLED")
    assert run.data.params["env"] == "DeepSea-bsuite" and run.data.params["lanes"] == "3"
    assert "coef" not in run.data.params and run.data.params["lr"] == "0.01"

    other = [begin("other"), metrics(1, "other"), committed("other")]
    track("mlflow", [begin(), metrics(3), committed(), *other], tmp_path)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {CHUNK: "FINISHED", "other": "FINISHED"}
    history = client.get_metric_history(runs[CHUNK].info.run_id, "return")
    assert [(point.step, point.value) for point in history] == [(32, 0.25), (64, 0.5), (96, 0.75)]
    assert len(client.get_metric_history(runs["other"].info.run_id, "rnd/loss")) == 1
    stored = (tmp_path / "trackers" / "mlflow" / "mlflow.db").read_bytes()
    assert b"DeepSea-bsuite" in stored and not any(secret in stored for secret in SECRETS)


def test_wandb_is_offline_quiet_and_holds_no_secret(emit, tmp_path):
    told = emit("wandb", [begin(), metrics(1), metrics(2)], WANDB_API_KEY=SECRETS[1].decode())
    assert (told.notes, told.printed, told.errors) == ([], [], "")
    told = emit("wandb", [begin(), metrics(2), committed()])
    assert told.notes == []
    folder = tmp_path / "out" / "trackers" / "wandb"
    runs = sorted(run for run in folder.iterdir() if run.name.startswith("offline-run-"))
    assert len(runs) == 2 and all(run.name.endswith(f"-{CHUNK}") for run in runs)  # one run, in two parts to be synced
    for run in runs:
        log = (run / f"run-{CHUNK}.wandb").read_bytes()
        assert all(word in log for word in (b"DeepSea-bsuite", b"rnd/loss", b"[redacted]", CHUNK.encode()))
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert not any(secret in path.read_bytes() for secret in SECRETS), path
        assert path.name not in ("requirements.txt", "wandb-metadata.json", "output.log", "diff.patch")
