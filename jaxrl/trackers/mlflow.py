"""MLflow: the database OUT/trackers/mlflow/mlflow.db, or the server that MLFLOW_TRACKING_URI names."""

import os
import time
from pathlib import Path
from typing import Any

from jaxrl.trackers.feed import Run, Start

CHUNK = "jaxrl.chunk"  # the tag that a resumed chunk finds its run by
# A request would wait two minutes and be repeated seven times, each with a warning. Here the next event repeats it.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # or it reports every migration of its database
}
LONGEST_PARAMETER = 6_000  # characters, MLflow's limit
PARAMETERS_AT_ONCE = 100  # MLflow's limit


def mlflow(out: Path) -> Start:
    """The experiment is named MLFLOW_EXPERIMENT_NAME, by default as the directory of the results."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    folder = (out / "trackers" / "mlflow").absolute()
    experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", out.absolute().name)

    def start(chunk: str, configuration: dict[str, Any], step: int | None) -> Run:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
        found = client.get_experiment_by_name(experiment_name)
        artifacts = None if uri else (folder / "artifacts").as_uri()
        experiment = found.experiment_id if found else client.create_experiment(experiment_name, artifacts)
        runs = client.search_runs([experiment], f"tags.`{CHUNK}` = '{chunk}'", max_results=1)
        if runs:
            identity = runs[0].info.run_id
            client.update_run(identity, status="RUNNING")
        else:
            identity = client.create_run(experiment, tags={CHUNK: chunk}, run_name=chunk).info.run_id
            parameters = [Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in configuration.items()]
            for first in range(0, len(parameters), PARAMETERS_AT_ONCE):
                client.log_batch(identity, params=parameters[first : first + PARAMETERS_AT_ONCE])

        def write(values: dict[str, float], step: int) -> None:
            now = int(1000 * time.time())
            client.log_batch(identity, metrics=[Metric(name, value, now, step) for name, value in values.items()])

        return Run(write, lambda committed: client.set_terminated(identity, "FINISHED" if committed else "KILLED"))

    return start
