"""F24: servers that hang, or answer 500. The run neither slows nor stops; what is lost is counted; the process ends."""

import time

import pytest
from run_events import whole

EVENTS = 2_000
WORK = 0.25  # seconds of the run's own thread that 2,000 events may take
SECONDS = 5.0  # by the clock, while the tracker's thread imports its library, on a machine with other things to do
ENDING_SECONDS = 10.0  # from the last event to the end of the process: 5 are the trackers', the rest W&B's own


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1e4], ids=["500", "hangs"])
@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("mlflow", {"MLFLOW_TRACKING_URI": "{}"}),
        ("wandb", {"WANDB_MODE": "online", "WANDB_BASE_URL": "{}", "WANDB_API_KEY": "0123456789" * 4}),
    ],
    ids=["mlflow", "wandb"],
)
def test_a_server_out_of_order_costs_the_run_nothing(emit, broken_server, name, environment, seconds):
    server = broken_server(seconds)
    environment = {key: value.format(server.url) for key, value in environment.items()}
    told = emit(name, whole(EVENTS), patience=30.0, **environment)
    assert told.worked < WORK and told.emitted < SECONDS
    error, count = told.notes
    assert error.startswith(f"tracker {name}: {'MlflowException' if name == 'mlflow' else 'CommError'}: ")
    assert count == f"tracker {name}: {EVENTS:,} of {EVENTS:,} events were dropped"
    assert told.closed < 6 and time.time() - told.ended < ENDING_SECONDS
    assert 1 <= len(server.requests) <= 20  # it was really asked, and not stormed
    assert (told.printed, told.errors) == ([], "")


def test_nobody_is_asked_for_a_key(emit, broken_server):
    server = broken_server(0.0)
    told = emit("wandb", whole(5), WANDB_MODE="online", WANDB_BASE_URL=server.url)
    assert told.notes == [
        "tracker wandb: UserError: WANDB_MODE is online, but W&B has no key: run `wandb login`",
        "tracker wandb: 5 of 5 events were dropped",
    ]
    assert server.requests == []
