"""What a tracker may do to a run: nothing. Every event is written or counted as dropped, whatever the adapter does."""

import re
import sys
import threading
import time

import pytest
from run_events import CHUNK, begin, committed, metrics, whole

from jaxrl import trackers
from jaxrl.errors import UserError
from jaxrl.trackers import feed, tracking

EVENTS = 2_000
SECONDS = 1.0  # that 2,000 events may take on a loaded machine: half a millisecond for each segment of seconds


def track(events, tmp_path, until=lambda: True):
    """(notes, seconds of emitting, seconds of closing) of the tracker "own", closed once `until` holds."""
    notes, clock = [], time.perf_counter()
    with tracking(["own"], tmp_path, lambda note: notes.append(note["text"])) as follow:
        for event in events:
            follow(event)
        emitted = time.perf_counter() - clock
        while not until() and time.perf_counter() - clock < 10:
            time.sleep(0.001)
        clock = time.perf_counter()
    return notes, emitted, time.perf_counter() - clock


def dropped(notes):
    """(dropped, of) as the last note says."""
    found = re.fullmatch(r"tracker own: ([\d,]+) of ([\d,]+) events were dropped", notes[-1])
    return tuple(int(number.replace(",", "")) for number in found.groups())


def released_in(seconds):
    """An event that an adapter may hang on: should the run wait for it after all, the test fails and does not hang."""
    released = threading.Event()
    timer = threading.Timer(seconds, released.set)
    timer.daemon = True
    timer.start()
    return released


def written(done):
    return [entry for entry in done if entry[0] in ("write", "finish") and entry[2] is not False]


def test_a_chunk_is_one_run_with_its_configuration_and_its_curves_in_order(adapter, tmp_path):
    done = adapter()
    notes, _, _ = track(whole(4), tmp_path)
    configuration = {
        "env": "DeepSea-bsuite",
        "env_args": {"size": 4, "api_key": "[redacted]"},
        "hidden": [8],
        "steps": 128,
        "lr": 0.01,  # of all lanes; they differ in coef
        "lanes": 3,
    }
    assert done == [
        ("start", CHUNK, configuration, 32),
        ("write", CHUNK, 32, {"return": 0.25, "rnd/loss": 1.0}),
        ("write", CHUNK, 64, {"return": 0.5, "rnd/loss": 0.5}),
        ("write", CHUNK, 96, {"return": 0.75, "rnd/loss": 1 / 3}),
        ("finish", CHUNK, True),
    ]
    assert notes == []


def test_an_interrupted_chunk_is_finished_as_such_and_chunks_may_interleave(adapter, tmp_path):
    done = adapter()
    with pytest.raises(KeyboardInterrupt), tracking(["own"], tmp_path, print) as follow:
        for event in [begin("a"), begin("b"), metrics(1, "a"), metrics(1, "b"), metrics(2, "a"), committed("a")]:
            follow(event)
        raise KeyboardInterrupt
    assert [entry[:3] for entry in done if entry[0] != "start"] == [
        ("write", "a", 32),
        ("write", "b", 32),
        ("write", "a", 64),
        ("finish", "a", True),
        ("finish", "b", False),
    ]


def test_a_chunk_that_was_whole_when_it_resumed_is_finished_without_a_curve(adapter, tmp_path):
    done = adapter()
    assert track([begin(), committed()], tmp_path)[0] == []
    assert [(entry[0], entry[-1]) for entry in done] == [("start", None), ("finish", True)]


@pytest.mark.parametrize("error", [OSError("no route\nto host"), SystemExit("bye")], ids=["error", "exit"])
def test_an_adapter_that_raises_every_time_costs_the_run_nothing_and_is_told_once(adapter, tmp_path, error):
    asked = []

    def refuse():
        asked.append(1)
        raise error

    done = adapter(start=refuse)
    notes, emitted, closed = track(whole(EVENTS), tmp_path, until=lambda: asked)
    assert emitted < SECONDS and done == []
    assert closed < 0.5 and len(asked) == 2  # a pause after the first refusal, and one last attempt at the end
    sentence = "OSError: no route to host" if isinstance(error, OSError) else "SystemExit: bye"
    assert notes == [f"tracker own: {sentence}", f"tracker own: {EVENTS:,} of {EVENTS:,} events were dropped"]


def test_refused_events_are_dropped_and_the_others_written(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "FIRST_PAUSE", 0.0)

    def write(step):
        if step % 96 == 0:
            raise ValueError(f"step {step}")

    done = adapter(write)
    notes, _, _ = track(whole(10), tmp_path, until=lambda: len(written(done)) == 7)
    assert [entry[2] for entry in written(done)] == [32, 64, 128, 160, 224, 256, True]
    assert notes == ["tracker own: ValueError: step 96", "tracker own: 3 of 10 events were dropped"]


def test_a_tracker_that_comes_back_has_the_rest_of_the_curve(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "FIRST_PAUSE", 0.05)
    down = [True, True, True]

    def refuse():
        if down:
            down.pop()
            raise ConnectionError("down")

    done = adapter(start=refuse)
    notes, _, _ = track(whole(10), tmp_path, until=lambda: len(written(done)) == 7)
    assert [entry[2] for entry in written(done)] == [128, 160, 192, 224, 256, 288, True]
    assert done[0][2]["env"] == "DeepSea-bsuite"  # its begin was lost, its configuration is not
    assert dropped(notes) == (3, 10)  # what came during the pauses is not among them


def test_the_first_error_is_told_while_the_run_goes_on(adapter, tmp_path):
    def write(step):
        raise ValueError(f"step {step}")

    adapter(write)
    notes = []
    with tracking(["own"], tmp_path, notes.append) as follow:
        for iteration in range(1, 500):
            follow(metrics(iteration))
            if notes:
                break
            time.sleep(0.01)
        assert notes == [{"kind": "note", "text": "tracker own: ValueError: step 32"}]
    assert [note["text"].partition(":")[0] for note in notes] == ["tracker own"] * 2


def test_a_slow_adapter_fills_its_queue_and_the_rest_is_dropped_at_once(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 0.5)
    done = adapter(lambda step: time.sleep(0.01))
    notes, emitted, closed = track(whole(EVENTS), tmp_path)
    lost, of = dropped(notes)
    assert emitted < SECONDS and closed < 1
    assert of == EVENTS
    time.sleep(0.1)  # an abandoned thread stops
    assert 0 <= len(written(done)) - (of - lost) <= 2  # what it was at when it was abandoned counts as dropped
    assert [entry[2] for entry in written(done)] == [32 * i for i in range(1, 1 + len(written(done)))]


def test_what_is_in_the_queue_is_written_after_the_run(adapter, tmp_path):
    done = adapter(lambda step: time.sleep(0.001))
    notes, emitted, closed = track(whole(EVENTS), tmp_path)
    lost, of = dropped(notes)
    assert emitted < SECONDS and closed < 4  # not until it is abandoned
    assert len(written(done)) == of - lost  # nothing was abandoned, so what did not fit is all that is missing
    assert feed.QUEUE <= of - lost < of == EVENTS


def test_an_adapter_that_hangs_is_abandoned(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 0.5)
    released = released_in(5)
    adapter(lambda step: released.wait())
    notes, emitted, closed = track(whole(EVENTS), tmp_path)
    released.set()
    assert emitted < SECONDS and 0.4 < closed < 4  # it would go on after 5; a loaded machine takes a second or two
    assert dropped(notes) == (EVENTS, EVENTS)


def test_several_trackers_that_hang_are_waited_for_together(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 0.5)
    released = released_in(5)
    adapter(lambda step: released.wait())
    for name in ("second", "third"):
        monkeypatch.setitem(trackers.CATALOGUE, name, trackers.CATALOGUE["own"])
        monkeypatch.setitem(trackers.LIBRARIES, name, ())
    notes, clock = [], time.perf_counter()
    with tracking(["own", "second", "third"], tmp_path, lambda note: notes.append(note["text"])) as follow:
        for event in whole(2):
            follow(event)
    assert 0.4 < time.perf_counter() - clock < 1
    released.set()
    assert notes == [f"tracker {name}: 2 of 2 events were dropped" for name in ("own", "second", "third")]


def test_a_library_that_breaks_when_imported_is_told_and_harms_nobody(adapter, tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("raise RuntimeError('no shared object')\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = adapter()
    monkeypatch.setitem(trackers.LIBRARIES, "own", ("half_installed",))
    assert track(whole(2), tmp_path)[0] == ["tracker own: RuntimeError: no shared object"]
    assert len(written(done)) == 2  # this adapter can do without


def test_credentials_of_a_url_are_not_told(adapter, tmp_path):
    def write(step):
        raise ConnectionError("https://me:hunter2@tracker.example/api refused me")

    adapter(write)
    assert track(whole(2), tmp_path)[0][0] == "tracker own: ConnectionError: https://tracker.example/api refused me"


def test_a_name_that_does_not_exist_and_a_library_that_is_absent(monkeypatch):
    with pytest.raises(UserError, match="unknown tracker 'wandbb': did you mean 'wandb'"):
        trackers.check(["tensorboard", "wandbb"])
    monkeypatch.setitem(trackers.LIBRARIES, "mlflow", ("mlflow", "no_such_library"))
    with pytest.raises(UserError, match=r"^tracker 'mlflow' needs no_such_library: pip install 'jaxrl\[track\]'$"):
        trackers.check(["mlflow"])


def test_a_name_given_twice_counts_once(adapter, tmp_path):
    done = adapter()
    with tracking(["own", "own"], tmp_path, print) as follow:
        for event in whole(2):
            follow(event)
    assert len(written(done)) == 2


def test_no_tracker_costs_no_thread(tmp_path):
    threads, modules = threading.active_count(), set(sys.modules)
    with tracking([], tmp_path, print) as follow:
        follow(metrics(1))
        assert threading.active_count() == threads
    assert not {"wandb", "mlflow", "tensorboardX"} & (set(sys.modules) - modules)
