"""What a chunk on disk looks like, and the checks that tell one from anything else under its name.

A checksum has no key, so whoever knows the format can make a file whose checksums fit. What is read is therefore held
against what a writer writes, field by field: the tables name exactly the lanes of the manifest, in its order.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import safetensors.numpy

from jaxrl import foreign
from jaxrl.spec.tables import MAX_SEED

SCHEMA = 1
FILES = ("config.json", "metrics.parquet", "lanes.parquet", "params.safetensors")
MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
STATUSES = ("ok", "diverged", "stopped")  # of a lane; the last: at its chunk's last iteration, before its program's
LANE_COLUMNS = ("lane", "seed", "status", "first_bad_iteration", "packing")
METRIC_COLUMNS = ("lane", "seed", "iteration", "step")
PROVENANCE = ("chunk", "commit", "dirty")
FINAL = "final_"  # + a metric: its last value, a column beside the fields
CONTINUES, STOPPED_AT = "continues", "stopped_at"
# No field of a lane is called so.
RESERVED = {*LANE_COLUMNS, *METRIC_COLUMNS, *PROVENANCE, CONTINUES, STOPPED_AT, "code"}
MOST_CELLS = 2**31  # ours: of a table, because equal numbers by the billion take no room in a file

# Forms, as `jaxrl.foreign.check` takes them. Further fields are nobody's business.
CONTINUES_FORM = {"lanes": {str: str}, "iteration": int, "unevaluated": [int]}
MANIFEST_FORM = {
    **{"schema": int, "chunk": str, "code": str, "committed": str, "commit": (str, None), "dirty": (bool, None)},
    **{"program": dict, "lanes": [str], "seeds": [int], "diverged": [str], "sources": {str: (str, None)}},
    **{"environment": dict, "packing": dict, "timing": dict},
    "files": {str: {"bytes": int, "sha256": str}},
    "continues?": CONTINUES_FORM,
    "stopped?": int,  # after this iteration all lanes were that had not diverged
}
CONFIG_FORM = {"program": dict, "lanes": [{"lane": str, "seed": int, "values": {str: float}}]}
COLUMNS = {
    "lanes.parquet": (
        {"lane": "string", "seed": "int64", "status": "string", "first_bad_iteration": "int64", "packing": "string"},
        "double",  # every other one
    ),
    "metrics.parquet": ({"lane": "string", "seed": "int64", "iteration": "int64", "step": "int64"}, "float"),
}


class Chunk(NamedTuple):
    """R lanes of one program that ran together, with K recorded iterations."""

    program: dict  # static fields, JSON values
    lanes: list[dict]  # [R] lane (its id), seed, values, status (of STATUSES), first_bad_iteration (int or None)
    iterations: np.ndarray  # [K] int
    steps: np.ndarray  # [K] int  environment steps of one lane at the end of each iteration
    curves: dict[str, np.ndarray]  # [R, K] float32, NaN where not measured
    params: dict[str, np.ndarray]  # [R, ...] under flat "a/b/c" names
    code: str  # fingerprint of everything in jaxrl that can change numbers
    sources: dict  # fingerprint of the user's own code by reference, version of the environment's library by name
    timing: dict  # started (ISO 8601, UTC) and seconds; kept in the manifest only, so equal runs give equal metrics
    packing: dict  # lanes at once, devices, ...: what may change the last bits
    environment: dict  # versions, backend, devices
    continues: dict = {}  # `lanes`, id -> id of the shorter one; `iteration` after which; `unevaluated` points


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError, as all checks here do: the end of a sentence that begins with the file's name."""
    foreign.check(manifest, MANIFEST_FORM)
    lanes = manifest["lanes"]
    if not lanes or len(set(lanes)) < len(lanes) or not all(map(NAME.fullmatch, lanes)):
        raise ValueError(f"field lanes is {_shown(lanes)}: lanes are distinct, and a lane id matches {NAME.pattern}")
    if manifest["files"].keys() != set(FILES):
        raise ValueError(f"field files lists {sorted(manifest['files'])}, but the files of a chunk are {FILES}")
    if taken := [name for name in manifest["program"] if is_reserved(name)]:
        raise ValueError(f"field program has {sorted(taken)}, which no field of a lane is called")


def check_config(config: Any, manifest: Mapping[str, Any], table: pa.Table) -> None:
    """Hold the configuration against the manifest and the table of lanes."""
    foreign.check(config, CONFIG_FORM)
    if config["program"] != manifest["program"]:
        raise ValueError("field program is not that of the manifest")
    rows = table.drop_columns(["status", "first_bad_iteration", "packing"]).to_pylist()
    if len(config["lanes"]) != len(rows):
        raise ValueError(f"field lanes has {len(config['lanes'])} lanes, and lanes.parquet {len(rows)}")
    for number, (lane, row) in enumerate(zip(config["lanes"], rows, strict=True)):
        if {"lane": lane["lane"], "seed": lane["seed"], **lane["values"]} != row:
            raise ValueError(f"field lanes[{number}] is {_shown(lane)}, and lanes.parquet has {_shown(row)}")


def read_table(content: bytes, name: str, rows: int | None = None) -> pa.Table:
    """A Parquet file with the columns that `name` has and, where known, so many rows."""
    types, other = COLUMNS[name]
    # Not read_table, whose threads take longer to start than a small table does to read.
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    there = {field.name: str(field.type) for field in file.schema_arrow}
    count = file.metadata.num_rows
    if missing := types.keys() - there.keys():
        raise ValueError(f"column {min(missing)} is missing")
    if len(there) < len(file.schema_arrow):
        raise ValueError("two columns have one name")
    for column, kind in there.items():
        if kind != types.get(column, other):
            raise ValueError(f"column {column} is of type {kind}, expected {types.get(column, other)}")
    if rows is not None and count != rows:
        raise ValueError(f"it has {count} rows, expected {rows}: one a lane")
    if count * len(there) > MOST_CELLS:
        raise ValueError(f"it has {count:,} rows, more than {MOST_CELLS:,} cells")
    return file.read(use_threads=False)


def check_lanes(table: pa.Table, manifest: Mapping[str, Any]) -> None:
    """Hold the table of lanes, one row each, against the manifest."""
    values = [name for name in table.column_names if name not in LANE_COLUMNS]
    if taken := [name for name in values if is_reserved(name) or name in manifest["program"]]:
        raise ValueError(f"column {min(taken)} is no swept number of this program")
    _no_nulls(table, [name for name in table.column_names if name != "first_bad_iteration"])
    for name in values:
        if not pc.all(pc.is_finite(table[name])).as_py():
            raise ValueError(f"column {name} has a number that is not finite")
    column = {name: table[name].to_pylist() for name in ("lane", "seed", "status", "first_bad_iteration")}
    if column["lane"] != manifest["lanes"]:
        raise ValueError(f"column lane is {_shown(column['lane'])}, and the manifest has {_shown(manifest['lanes'])}")
    seeds = sorted(set(column["seed"]))
    if seeds != manifest["seeds"] or seeds[0] < 0 or seeds[-1] > MAX_SEED:
        raise ValueError(f"column seed is {_shown(column['seed'])}, and the manifest has {_shown(manifest['seeds'])}")
    if unknown := set(column["status"]) - set(STATUSES):
        raise ValueError(f"column status has {min(unknown)!r}, expected {' or '.join(STATUSES)}")
    bad = [lane for lane, status in zip(column["lane"], column["status"], strict=True) if status == "diverged"]
    if bad != manifest["diverged"]:
        raise ValueError(f"column status names {_shown(bad)} diverged, the manifest {_shown(manifest['diverged'])}")
    if set(column["status"]) - {"diverged"} - {"stopped" if "stopped" in manifest else "ok"}:
        raise ValueError(f"column status is {_shown(column['status'])}, stopped {manifest.get('stopped', 'nowhere')}")
    for lane, status, first in zip(column["lane"], column["status"], column["first_bad_iteration"], strict=True):
        if (status == "diverged") != (first is not None) or (first is not None and first < 1):
            raise ValueError(f"column first_bad_iteration is {first} for lane {lane}, which is {status}")


def check_metrics(table: pa.Table, lanes: pa.Table, stopped: int | None = None) -> None:
    """Hold the table of metrics against that of lanes: lane after lane the same iterations, each in its place.

    `stopped` is the last of them where the manifest says that lanes were stopped.
    """
    _no_nulls(table, list(METRIC_COLUMNS))
    if taken := sorted({*table.column_names} & {*lanes.column_names} - {*METRIC_COLUMNS}):
        raise ValueError(f"column {taken[0]} is called as one of lanes.parquet is")
    count, iterations = lanes.num_rows, table.num_rows // lanes.num_rows
    if iterations < 1 or table.num_rows % count:
        raise ValueError(f"it has {table.num_rows} rows for {count} lanes: one for each iteration of each lane")
    if stopped not in (None, table["iteration"][-1].as_py()):
        raise ValueError(f"column iteration ends with {table['iteration'][-1]}, and lanes were stopped after {stopped}")
    names = table["lane"].combine_chunks().dictionary_encode()
    expected = np.repeat(np.arange(count), iterations)
    if not names.dictionary.equals(lanes["lane"].combine_chunks()) or (names.indices.to_numpy() != expected).any():
        raise ValueError("column lane names other lanes than lanes.parquet, or in another order")
    if (table["seed"].to_numpy() != np.repeat(lanes["seed"].to_numpy(), iterations)).any():
        raise ValueError("column seed has other seeds than lanes.parquet")
    for name in ("iteration", "step"):
        grid = table[name].to_numpy().reshape(count, iterations)
        if (grid != grid[0]).any() or grid[0, 0] < 1 or (np.diff(grid[0]) < 1).any():
            raise ValueError(f"column {name} is not, from 1 or more, the same rising numbers for every lane")


def read_params(content: bytes, lanes: int) -> dict[str, np.ndarray]:
    """Arrays by name, each with leading axis `lanes`."""
    params = safetensors.numpy.load(content)
    for name, array in params.items():
        if array.shape[:1] != (lanes,):
            raise ValueError(f"{name} has shape {list(array.shape)}, expected {lanes} lanes as its leading axis")
    return params


def is_reserved(name: str) -> bool:
    """True of a name that a column beside the fields has, or may have."""
    return name in RESERVED or name.startswith(FINAL)


def as_json(value: Any, **style: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, **style)


def _no_nulls(table: pa.Table, columns: Sequence[str]) -> None:
    for name in columns:
        if table[name].null_count:
            raise ValueError(f"column {name} has {table[name].null_count} empty places")


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
