"""Files that were changed and sealed again: the right values, or an error that names the file and what is wrong."""

import copy
import hashlib
import json
import os
import socket
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from jaxrl import disk, foreign, results
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.results.store import Damaged, read_chunk, write_chunk

WRONG = [None, True, -1, 10**30, "x", "\ud800", [], ["x", ["x"]], {"x": {"x": 1}}]


@pytest.fixture
def path(tmp_path, chunk):
    return write_chunk(tmp_path / "root", chunk(seeds=[3, 1, 2], diverged={(0.1, 1)}))


def sealed(path, manifest=None, **contents):
    """Write the files of a chunk, and a manifest whose checksums fit them, as somebody who knows the format would."""
    manifest = manifest or json.loads((path / store.MANIFEST).read_text())
    manifest.pop("checksum", None)
    for name, content in contents.items():
        file = {"config": "config.json", "lanes": "lanes.parquet", "metrics": "metrics.parquet"}.get(name, name)
        (path / file).write_bytes(content)
        manifest["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / store.MANIFEST).write_bytes(store.seal(manifest))


def everything(path):
    """What every reader finds; they raise for a user, or find what the others find."""
    root = path.parent
    frame = results.lanes(root, strict=True)
    results.curves(root, strict=True, include_diverged=True)
    found = read_chunk(path)
    assert [row["lane"] for row in found.lanes] == list(frame["lane"])
    store.load_params(root, found.lanes[-1]["lane"])
    return found


def places(value, at=()):
    """Every place in a JSON value, of a list the first entry only."""
    yield at
    for key in value if isinstance(value, dict) else (0,) if isinstance(value, list) and value else ():
        yield from places(value[key], (*at, key))


def changed(value, at, new):
    value = copy.deepcopy(value)
    *parents, last = at
    inner = value
    for key in parents:
        inner = inner[key]
    if new is KeyError:
        del inner[last]
    else:
        inner[last] = new
    return value


def same(one, other):
    return one.lanes == other.lanes and all(np.array_equal(one.curves[n], other.curves[n], True) for n in one.curves)


@pytest.mark.parametrize("file", ["manifest.json", "config.json"])
def test_json_that_was_changed_and_sealed_again_is_named_or_changes_no_number(path, file):
    before, intact = read_chunk(path), json.loads((path / file).read_text())
    manifest = json.loads((path / store.MANIFEST).read_text())
    refused = 0
    for at in [at for at in places(intact) if at and at[0] not in ("files", "checksum")]:
        for new in (KeyError, *WRONG):
            made = changed(intact, at, new)
            if file == store.MANIFEST:
                sealed(path, made)
            else:
                sealed(path, copy.deepcopy(manifest), config=json.dumps(made).encode())
            try:
                assert same(everything(path), before), (at, new)
            except UserError as error:
                # Where two files contradict each other, the one that was read later is named.
                assert str(path) in str(error) and str(error).count("; ") <= 2
                refused += 1
    assert refused > 100


TABLES = {
    "a lane that is not there": ("lanes.parquet", "lane", lambda column: ["zz", *column[1:]]),
    "another order": ("lanes.parquet", "lane", lambda column: column[::-1]),
    "a lane twice": ("lanes.parquet", "lane", lambda column: [column[0], column[0], column[2]]),
    "another status": ("lanes.parquet", "status", lambda column: ["fine", *column[1:]]),
    "nothing diverged": ("lanes.parquet", "status", lambda column: ["ok"] * 3),
    "no status": ("lanes.parquet", "status", lambda column: [None, *column[1:]]),
    "never bad": ("lanes.parquet", "first_bad_iteration", lambda column: pa.array([None] * 3, pa.int64())),
    "a negative seed": ("lanes.parquet", "seed", lambda column: [-1, *column[1:]]),
    "numbers for lanes": ("lanes.parquet", "lane", lambda column: [1, 2, 3]),
    "lists for values": ("lanes.parquet", "coef", lambda column: [[1.0]] * 3),
    "an infinite value": ("lanes.parquet", "coef", lambda column: [np.inf] * 3),
    "another value": ("lanes.parquet", "coef", lambda column: [7.0] * 3),
    "a field of the program": ("lanes.parquet", "env", lambda column: [1.0] * 3),
    "a value called as a column of metrics": ("lanes.parquet", "iteration", lambda column: [1.0] * 3),
    "a metric called as a value": ("metrics.parquet", "coef", lambda column: np.ones(3 * 40, np.float32)),
    "lanes of metrics that are not there": ("metrics.parquet", "lane", lambda column: ["zz"] * len(column)),
    "lanes of metrics in another order": ("metrics.parquet", "lane", lambda column: column[::-1]),
    "seeds of metrics": ("metrics.parquet", "seed", lambda column: column[::-1]),
    "an iteration of its own": ("metrics.parquet", "iteration", lambda column: [*column[:-1], 99]),
    "falling iterations": ("metrics.parquet", "iteration", lambda column: column[::-1]),
    "an iteration 0": ("metrics.parquet", "iteration", lambda column: [x - 1 for x in column]),
    "steps that stand": ("metrics.parquet", "step", lambda column: [5] * len(column)),
    "words for steps": ("metrics.parquet", "step", lambda column: ["x"] * len(column)),
    "words for a metric": ("metrics.parquet", "return", lambda column: ["x"] * len(column)),
    "a metric called as a field of the table": ("metrics.parquet", "seed", lambda column: [1.5] * len(column)),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_was_changed_and_sealed_again_is_named_with_its_column(path, what):
    file, column, change = TABLES[what]
    table = pq.read_table(path / file)
    columns = {name: table[name] for name in table.column_names}
    columns[column] = pa.array(change(table[column].to_pylist() if column in columns else None))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    sealed(path, **{file: sink.getvalue().to_pybytes()})
    with pytest.raises(Damaged, match=rf"{file if what != 'another value' else 'config.json'} is no file of a chunk"):
        everything(path)


@pytest.mark.parametrize("rows", [0, 1, 2, 4])
@pytest.mark.parametrize("file", ["lanes.parquet", "metrics.parquet"])
def test_a_table_of_more_or_fewer_rows_is_named(path, file, rows):
    table = pq.read_table(path / file)
    length = {"lanes.parquet": rows, "metrics.parquet": table.num_rows - 3 + rows if rows else 0}[file]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([table, table]).slice(0, length), sink)
    sealed(path, **{file: sink.getvalue().to_pybytes()})
    with pytest.raises(Damaged, match=f"{file} is no file of a chunk"):
        everything(path)


@pytest.mark.parametrize("column", ["lane", "seed", "status", "packing", "iteration", "step"])
def test_a_table_without_a_column_is_named(path, column):
    file = "metrics.parquet" if column in ("iteration", "step") else "lanes.parquet"
    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(path / file).drop_columns([column]), sink)
    sealed(path, **{file: sink.getvalue().to_pybytes()})
    with pytest.raises(Damaged, match=f"{file} is no file of a chunk: column {column} is missing"):
        everything(path)


@pytest.mark.parametrize("arrays", [{"w": np.zeros((2, 3))}, {"w": np.float32(1)}, {"w": np.zeros((4, 3))}])
def test_parameters_of_other_lanes_are_named(path, arrays):
    content = safetensors.numpy.save({name: np.asarray(array) for name, array in arrays.items()})
    sealed(path, **{"params.safetensors": content})
    with pytest.raises(Damaged, match=r"params.safetensors is no file of a chunk: w has shape .* expected 3 lanes"):
        read_chunk(path)


@pytest.mark.parametrize("file", store.FILES)
@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"\xff\xfe", b"PAR1" * 9, b'{"a": NaN}', b"null"], ids=range(6)
)
def test_nonsense_is_named(path, file, content):
    sealed(path, **{file: content})
    with pytest.raises(Damaged, match=f"{file} is no file of a chunk"):
        read_chunk(path)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "1e999", "9" * 5000, "[" * 100_000, "[" * 40 + "]" * 40, '"\\ud800"'], ids=range(7)
)
def test_json_beyond_bounds_is_refused(text):
    with pytest.raises(ValueError):
        foreign.parsed(text.encode())


@pytest.fixture(params=["pipe", "socket", "device", "folder", "sparse file"])
def odd(request, tmp_path):
    """Puts what is no file of ours in the place of one."""

    def put(file):
        file.unlink()
        if request.param == "pipe":
            os.mkfifo(file)
        elif request.param == "socket":
            socket.socket(socket.AF_UNIX).bind(os.path.relpath(file))
        elif request.param == "device":
            file.symlink_to("/dev/zero")
        elif request.param == "folder":
            file.mkdir()
        else:
            file.touch()
            os.truncate(file, 40 * 10**9)

    return put


@pytest.mark.parametrize("file", (*store.FILES, store.MANIFEST))
def test_what_is_no_regular_file_or_too_large_is_named_at_once(path, odd, file, monkeypatch):
    monkeypatch.chdir(path)  # names of sockets are short
    odd(path / file)
    begun = time.monotonic()
    said = "no regular file|a symbolic link|damaged: it holds 40,000,000,000 bytes"
    with pytest.raises(Damaged, match=f"{file} is ({said})"):
        read_chunk(path)
    assert time.monotonic() - begun < 5


def test_a_file_may_not_be_larger_than_the_memory_whatever_its_manifest_says(tmp_path):
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 10**13)
    with pytest.raises(disk.Refused, match="it holds 10,000,000,000,000 bytes"):
        disk.read(tmp_path / "sparse")


@pytest.fixture
def two(tmp_path, chunk):
    """(directory, an intact chunk, a damaged one)"""
    first, second = (write_chunk(tmp_path / "root", chunk(seeds=[seed])) for seed in (0, 1))
    return tmp_path / "root", first, second


@pytest.mark.parametrize("file", ["metrics.parquet", store.MANIFEST])
def test_one_damaged_chunk_is_told_once_and_the_others_are_read(two, file):
    root, first, second = two
    (second / file).write_bytes(b"x" + (second / file).read_bytes()[1:])
    for read in (results.lanes, results.curves, lambda root: results.write_report(root, out=root / "report.html")):
        with pytest.warns(UserWarning) as told:
            found = read(root)
        (sentence,) = [str(warning.message) for warning in told if "damaged" in str(warning.message)]
        assert f"{second / file} is damaged" in sentence and "run the sweep again" in sentence
    assert sentence.partition(";")[0] in found.read_text()  # the page says what it left out
    with pytest.warns(UserWarning, match="is damaged"):
        assert list(results.lanes(root)["chunk"]) == [first.name]
    for read in (results.lanes, results.curves):
        with pytest.raises(Damaged, match="is damaged"):
            read(root, strict=True)


def test_the_command_line_notes_a_damaged_chunk_once_and_strict_ends(two, capsys):
    from jaxrl.cli import main

    root, _, second = two
    (second / "metrics.parquet").write_bytes(b"")
    assert main(["report", str(root)]) == 0
    said = capsys.readouterr().err
    assert said.count("note: ") == 1 and f"{second}/metrics.parquet is damaged" in said
    assert main(["report", str(root), "--strict"]) == 2
    assert capsys.readouterr().err.startswith(f"jaxrl: {second}/metrics.parquet is damaged")


def test_what_is_damaged_is_set_aside_and_told_and_nothing_else(two, chunk):
    root, first, second = two
    lanes = store.read_manifest(second)["lanes"]
    content = (second / "params.safetensors").read_bytes()[:-1] + b"x"
    (second / "params.safetensors").write_bytes(content)
    assert store.set_damaged_aside(root, "other code", lanes) == store.set_damaged_aside(root, "c0de", ["other"]) == []
    (sentence,) = store.set_damaged_aside(root, "c0de", lanes)
    (aside,) = root.glob(".damaged-*")
    assert f"{second}/params.safetensors is damaged" in sentence and aside.name in sentence
    assert (aside / "params.safetensors").read_bytes() == content  # it may be somebody's data
    assert set(store.committed(root).values()) == {first} and store.unfinished(root) == []
    assert write_chunk(root, chunk(seeds=[1])) == second and len(store.chunks(root)) == 2


def test_a_damaged_chunk_in_the_way_of_a_commit_is_set_aside(two, chunk):
    root, _, second = two
    (second / store.MANIFEST).write_bytes(b"x")
    write_chunk(root, chunk(seeds=[1]))
    assert len(store.chunks(root, strict=True)) == 2 and len(list(root.glob(".damaged-*"))) == 1


def test_results_of_a_later_format_are_refused_not_set_aside(two):
    root, _, second = two
    sealed(second, {**json.loads((second / store.MANIFEST).read_text()), "schema": 99})
    for read in (results.lanes, lambda root: store.set_damaged_aside(root, "c0de", [])):
        with pytest.raises(UserError, match="has schema 99; this version reads 1"):
            read(root)
    assert second.exists()
