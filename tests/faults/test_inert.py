"""Results are inert data: nothing on a load path can run code, and nothing leads out of the directory."""

import builtins
import functools
import io
import itertools
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import made_up_chunk

import jaxrl.errors
from jaxrl import checkpoint, cli, results
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.spec.spec import spec
from jaxrl.sweep.exported import export
from jaxrl.sweep.policy import evaluate, load_policy
from jaxrl.sweep.replay import replay
from jaxrl.sweep.run import run
from jaxrl.sweep.watch import watch

pytestmark = pytest.mark.faults


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def hostile(tmp_path):
    """(results directory, its one chunk, a file that must never come to be, a folder outside)"""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    return tmp_path / "root", store.write_chunk(tmp_path / "root", made_up_chunk()), tmp_path / "boom", outside


def resealed(path, **changes):
    """Rewrites a manifest so that every checksum fits, as somebody who knows the format would."""
    manifest = json.loads((path / store.MANIFEST).read_text())
    manifest.pop("checksum")
    manifest.update(changes)
    for name in manifest["files"]:
        if (path / name).is_file():
            content = (path / name).read_bytes()
            manifest["files"][name] = {"bytes": len(content), "sha256": store.hashlib.sha256(content).hexdigest()}
    (path / store.MANIFEST).write_bytes(store.seal(manifest))


def read_everything(root):
    """Every way of reading results; the errors that came, each of which must be meant for a user."""
    errors = []
    strictly = {"strict": True}
    for read in (lambda root: results.lanes(root, **strictly), lambda root: results.curves(root, **strictly),
                 lambda root: results.sql("select * from metrics", root, **strictly),
                 lambda root: store.chunks(root, **strictly),
                 lambda root: [store.read_chunk(path) for path in root.iterdir() if path.is_dir()],
                 lambda root: [store.load_params(root, lane)
                               for lane in store.committed(root, **strictly)]):  # fmt: skip
        try:
            read(root)
        except UserError as error:
            errors.append(error)
    return errors


@pytest.mark.parametrize("name", [name for name in store.FILES])
@pytest.mark.parametrize("how", ["pickle", "npz with a pickle"])
def test_a_pickle_in_the_place_of_a_file_is_never_opened(hostile, name, how):
    root, path, boom, _ = hostile
    if how == "pickle":
        (path / name).write_bytes(pickle.dumps(Bomb(boom)))
    else:
        made = io.BytesIO()
        np.savez(made, a=np.array([Bomb(boom)], object), allow_pickle=True)
        (path / name).write_bytes(made.getvalue())
    resealed(path)
    errors = read_everything(root)
    assert errors and not boom.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk": "../../outside"},
        {"lanes": ["../../outside/secret"]},
        {"lanes": ["a\0b"]},
        {"files": {"../../outside/secret": {"bytes": 6, "sha256": ""}}},
        {"schema": 99},
        {"lanes": {"a": 1}},
    ],
    ids=str,
)
def test_names_that_lead_out_are_refused(hostile, changes):
    root, path, *_ = hostile
    resealed(path, **changes)
    with pytest.raises(UserError):
        store.chunks(root, strict=True)


@pytest.mark.parametrize("what", ["chunk", "manifest", *store.FILES])
def test_links_are_not_followed(hostile, monkeypatch, what):
    root, path, _, outside = hostile
    place = {"chunk": path, "manifest": path / store.MANIFEST}.get(what, path / what)
    target = outside / place.name
    shutil.move(place, target)
    place.symlink_to(target)
    with pytest.raises(UserError, match="symbolic link"):
        for manifest in store.chunks(root, strict=True):
            store.read_chunk(root / manifest["chunk"])


def test_reading_opens_nothing_outside_of_the_directory(hostile, monkeypatch):
    root, path, _, outside = hostile
    opened = []
    for module, name in ((builtins, "open"), (os, "open")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda file, *rest, real=real, **keywords: opened.append(file)
                            or real(file, *rest, **keywords))  # fmt: skip
    assert read_everything(root) == []
    elsewhere = [file for file in opened if isinstance(file, str | Path)
                 and not Path(file).absolute().is_relative_to(root)
                 and not Path(file).absolute().is_relative_to(Path(jaxrl.errors.__file__).parent)]  # fmt: skip
    assert [file for file in opened if str(file).startswith(str(root))] and not [
        file for file in elsewhere if str(file).startswith(str(outside))
    ]


def test_sql_reads_and_writes_no_file(hostile):
    root, _, boom, outside = hostile
    for statement in (f"select * from read_text('{outside / 'secret'}')", f"copy lanes to '{boom}'",
                      "install httpfs", f"attach '{boom}'", "load parquet_evil"):  # fmt: skip
        with pytest.raises(UserError, match="the query failed"):
            results.sql(statement, root)
    assert not boom.exists()


@pytest.mark.parametrize("kind", ["pickle", "npy", "a link out", "deep", "names that lead out"])
def test_a_hostile_checkpoint_runs_nothing(tmp_path, kind):
    """Its sums fit, so only that nothing is ever unpickled protects whoever goes on from it."""
    boom, like = tmp_path / "boom", {"a": np.zeros(4, np.float32)}
    for step in (1, 2):
        checkpoint.save(tmp_path / "all", step, like, {})
    path = tmp_path / "all" / "00000002"
    record = json.loads((path / checkpoint.RECORD).read_text())
    if kind == "pickle":
        (path / checkpoint.RECORD).write_bytes(pickle.dumps(Bomb(boom)))
    elif kind == "npy":
        made = io.BytesIO()
        np.save(made, np.array([Bomb(boom)], object), allow_pickle=True)
        for file in [file for file in (path / checkpoint.STATE).rglob("*") if file.is_file()]:
            file.write_bytes(made.getvalue())
    elif kind == "a link out":
        (path / checkpoint.STATE / "more").symlink_to("/etc")
    elif kind == "deep":
        (path / checkpoint.RECORD).write_text("[" * 100_000)
    else:
        record["arrays"]["../../../a"] = record["arrays"].pop("a")
        (path / checkpoint.RECORD).write_text(json.dumps(record))
    sums = checkpoint._sums(path)
    (path / checkpoint.SUMS).write_text(json.dumps(sums))
    try:
        found = checkpoint.restore(tmp_path / "all", like)
        assert found is None or found.step == 1 or found.state.keys() == {"a"}
    except Exception as error:  # whatever orbax says of nonsense
        assert not isinstance(error, pickle.UnpicklingError)
    assert not boom.exists()


def test_a_sweep_into_a_hostile_directory_ends_with_its_numbers_or_a_sentence(hostile):
    root, path, boom, outside = hostile
    (root / "linked").symlink_to(outside)
    (root / ".running").mkdir()
    (root / ".running" / "x.claim").write_bytes(pickle.dumps(Bomb(boom)))
    (root / ".running" / "y.claim").symlink_to(outside / "secret")
    (root / ".running" / path.name).symlink_to(outside)  # as if it held the checkpoints of what is committed
    small = spec(env="probe/chain", bonus="count", num_envs=2, num_steps=8, steps=16, hidden=(8,), epochs=1,
                 minibatches=2, evals=0)  # fmt: skip
    summary = run(small, root)
    assert len(summary.chunks) == 1
    assert (outside / "secret").read_text() == "secret" and not boom.exists()


# Code that keeps every contract, and leaves a mark as soon as it is imported.
CODE = """
open({mark!r}, "w").close()
from jaxrl.agents.random import random as agent
from jaxrl.envs.probes import Chain as Maze
from jaxrl.envs.wrappers.rewards import reward_free as wrapper
from jaxrl.intrinsic.count import count as bonus
from jaxrl.trainers.on_policy import on_policy as trainer
"""
PLAIN = {"env": "probe/chain", "env_args": {}, "wrap": (), "bonus": "none", "agent": "random", "trainer": "on_policy"}
SHELL = {"env": "subprocess:Popen", "env_args": {"args": "touch boom", "shell": True}}


@pytest.fixture
def forged(tmp_path, monkeypatch):
    """Makes results whose program has some fields of a stranger's choice, with all checksums right; gives a lane."""
    (tmp_path / "code_of_theirs.py").write_text(CODE.format(mark=str(tmp_path / "boom")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])

    def forge(fields):
        path = store.write_chunk("results", made_up_chunk(program={**PLAIN, **fields}, seeds=(0,)))
        return store.read_manifest(path)["lanes"][0]

    yield forge
    sys.modules.pop("code_of_theirs", None)


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        (SHELL, "subprocess:Popen"),
        ({"env": "code_of_theirs:Maze"}, "code_of_theirs:Maze"),
        ({"bonus": "0.5 * count + code_of_theirs:bonus(discount=0.5)"}, "code_of_theirs:bonus"),
        ({"bonus": "airs(count, subprocess:Popen(args=touch))"}, "subprocess:Popen"),
        ({"wrap": ["sticky_actions", "code_of_theirs:wrapper"]}, "code_of_theirs:wrapper"),
        ({"agent": "code_of_theirs:agent"}, "code_of_theirs:agent"),
        ({"trainer": "code_of_theirs:trainer"}, "code_of_theirs:trainer"),
    ],
    ids=str,
)
def test_code_that_results_name_is_not_run_unasked(forged, tmp_path, capsys, fields, reference):
    lane = forged(fields)
    sentence = f"the results in 'results' name the code '{reference}'.*--allow {reference}"
    reads = (load_policy, replay, functools.partial(watch, out="pictures"), functools.partial(export, out="pictures"),
             lambda out, _, **how: evaluate(out, **how))  # fmt: skip
    for read, others in itertools.product(reads, ({}, {"allow": ["code_of_theirs:other"]})):
        with pytest.raises(UserError, match=sentence):
            read("results", lane, **others)
    for command in (["evaluate"], ["watch", "--lane", lane], ["replay", "--lane", lane], ["export", "--lane", lane]):
        assert cli.main([command[0], "results", *command[1:]]) == 2
        assert f"--allow {reference}" in capsys.readouterr().err
    assert not (tmp_path / "boom").exists() and not (tmp_path / "pictures").exists()
    assert "code_of_theirs" not in sys.modules


@pytest.mark.parametrize("command", ["evaluate", "watch", "replay", "export"])
def test_what_is_allowed_must_still_be_an_environment(forged, tmp_path, capsys, command):
    lane = forged(SHELL)
    lanes = [] if command == "evaluate" else ["--lane", lane]
    assert cli.main([command, "results", *lanes, "--allow", "subprocess:Popen"]) == 2
    assert "its class has no reset and no step" in capsys.readouterr().err
    assert not (tmp_path / "boom").exists()


def test_what_is_allowed_is_run_and_what_was_given_needs_no_leave(forged, tmp_path):
    forged({})
    small = {"env": "code_of_theirs:Maze", "bonus": "code_of_theirs:bonus", "wrap": ["code_of_theirs:wrapper"],
             "num_envs": 2, "num_steps": 8, "steps": 16, "hidden": (4,), "minibatches": 2, "evals": 0}  # fmt: skip
    run(spec(**small), "trained")
    (lane,) = store.committed("trained")
    named = ["code_of_theirs:Maze", "code_of_theirs:bonus", "code_of_theirs:wrapper"]
    with pytest.raises(UserError, match="--allow code_of_theirs:wrapper"):
        load_policy("trained", lane, allow=named[:2])
    from code_of_theirs import wrapper

    for given in ({"allow": named}, {"allow": named[:2], "objects": {named[2]: wrapper}}):
        assert load_policy("trained", lane, **given).task.name == "code_of_theirs:Maze"
