"""Chunks of finished lanes on disk: a directory that exists whole, verified byte by byte, or not at all.

    ROOT/<chunk id>/config.json          program and lanes
                    metrics.parquet      one row per (lane, iteration); null where a metric was not measured
                    lanes.parquet        one row per lane
                    params.safetensors   final parameters, leading axis lanes
                    manifest.json        provenance and the SHA-256 of each file above

A chunk is written under a hidden name, every file flushed to disk and the manifest last, then renamed to its id in
one step: of two writers of one chunk the first wins, whole. A directory without a manifest does not exist.
Loading never unpickles, follows no link, and parses the very bytes whose SHA-256 was checked.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from jaxrl import disk
from jaxrl.errors import MOST_SHOWN, UserError, unknown
from jaxrl.sweep.plan import chunk_id

SCHEMA = 1
FILES = ("config.json", "metrics.parquet", "lanes.parquet", "params.safetensors")
MANIFEST = "manifest.json"
STAGING = ".unfinished-"
LARGE = 2**16  # bytes of a table, above which it is compressed
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
SECRET = re.compile(r"(api|access|private)_?key$|(^|_)(token|secret|password)$", re.IGNORECASE)
LANE_COLUMNS = ("lane", "seed", "status", "first_bad_iteration", "packing")
MANIFEST_FIELDS = {"chunk", "program", "lanes", "seeds", "diverged", "code", "commit", "dirty", "environment"} | {
    *("sources", "packing", "timing", "committed", "files")
}
METRIC_COLUMNS = ("lane", "seed", "iteration", "step")


class Chunk(NamedTuple):
    """R lanes of one program that ran together, with K recorded iterations."""

    program: dict  # static fields, JSON values
    lanes: list[dict]  # [R] lane (its id), seed, values, status ("ok" or "diverged"), first_bad_iteration (int or None)
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


def write_chunk(root, chunk: Chunk) -> Path:
    """Commit ``chunk`` under ``root`` and return its directory; a chunk committed before is left as it was.

    Raises ``UserError`` when the disk refuses, ``ValueError`` when the arrays do not fit the lanes.
    """
    _check(chunk)
    root = Path(root)
    name = chunk_id([lane["lane"] for lane in chunk.lanes])
    final, staging = root / name, root / f"{STAGING}{uuid.uuid4().hex}"
    contents = dict(zip(FILES, _contents(chunk), strict=True))
    manifest = _seal(redacted(_manifest(name, chunk, contents)))
    try:
        staging.mkdir(parents=True)
        try:
            for file, content in {**contents, MANIFEST: manifest}.items():
                disk.write(staging / file, content)
            disk.sync_directory(staging)
            _publish(staging, final)
            disk.sync_directory(root)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write results to {root}: {disk.refusal(root, error)}") from error
    return final


def chunks(root) -> list[dict]:
    """Manifests of the committed chunks of ``root``, oldest first; raises ``UserError`` naming a damaged one."""
    found = [read_manifest(entry) for entry in _entries(root) if _is_committed(entry)]
    return sorted(found, key=lambda manifest: (manifest["committed"], manifest["chunk"]))


def unfinished(root) -> list[Path]:
    """Directories that a writer left behind without committing; they are never read and may be deleted."""
    return [entry for entry in _entries(root) if not _is_committed(entry) and (entry / FILES[0]).exists()]


def committed(root, code: str | None = None) -> dict[str, Path]:
    """Directory of every committed lane id, of one code fingerprint or of all; the first commit of a lane counts."""
    lanes: dict[str, Path] = {}
    for manifest in chunks(root):
        if code in (None, manifest["code"]):
            for lane in manifest["lanes"]:
                lanes.setdefault(lane, Path(root) / manifest["chunk"])
    return lanes


def read_manifest(path) -> dict:
    """The manifest of the chunk directory ``path``; raises ``UserError`` if a byte of it changed."""
    path = Path(path)
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link: results are read from real directories only")
    raw = _read(path / MANIFEST)
    try:
        manifest = json.loads(raw)
        intact = raw == _seal({key: value for key, value in manifest.items() if key != "checksum"})
    except (ValueError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise _damaged(path / MANIFEST)
    if manifest.get("schema") != SCHEMA:
        raise UserError(f"{path / MANIFEST} has schema {manifest.get('schema')!r}; this version reads {SCHEMA}")
    if missing := MANIFEST_FIELDS - set(manifest):
        raise UserError(f"{path / MANIFEST} lacks the fields {sorted(missing)}")
    if not isinstance(manifest["lanes"], list) or not all(NAME.fullmatch(str(lane)) for lane in manifest["lanes"]):
        raise UserError(f"{path / MANIFEST} names lanes {manifest['lanes']}; a lane id matches {NAME.pattern}")
    if manifest["chunk"] != path.name or not NAME.fullmatch(path.name):
        raise UserError(f"{path} holds chunk {manifest['chunk']!r}: a chunk's directory bears the chunk's id")
    if set(manifest["files"]) != set(FILES):
        raise UserError(f"{path / MANIFEST} lists {sorted(manifest['files'])}, but the files of a chunk are {FILES}")
    return manifest


def read_file(path, name: str, manifest: dict, verify: bool = True) -> bytes:
    """One file of the chunk directory ``path``; raises ``UserError`` naming it if size or SHA-256 differ."""
    content = _read(Path(path) / name)
    if verify and {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} != manifest["files"][name]:
        raise _damaged(Path(path) / name)
    return content


def read_tables(path, manifest: dict, verify: bool = True) -> tuple[pa.Table, pa.Table]:
    """The ``lanes`` and ``metrics`` tables of a chunk."""
    # Not read_table, whose threads take longer to start than a small table does to read.
    return tuple(
        pq.ParquetFile(
            pa.BufferReader(read_file(path, name, manifest, verify)), page_checksum_verification=True
        ).read(use_threads=False)
        for name in ("lanes.parquet", "metrics.parquet")
    )


def read_chunk(path, verify: bool = True) -> Chunk:
    """The chunk that ``write_chunk`` wrote at ``path`` (tuples come back as lists, secrets redacted)."""
    path = Path(path)
    manifest = read_manifest(path)
    config = json.loads(read_file(path, "config.json", manifest, verify))
    lanes, metrics = read_tables(path, manifest, verify)
    status = lanes.select(["lane", "status", "first_bad_iteration"]).to_pylist()
    shape = (lanes.num_rows, metrics.num_rows // lanes.num_rows)
    column = {name: metrics[name].to_numpy() for name in metrics.column_names if name != "lane"}
    return Chunk(
        program=config["program"],
        lanes=[{**lane, **row} for lane, row in zip(config["lanes"], status, strict=True)],
        iterations=column["iteration"][: shape[1]],
        steps=column["step"][: shape[1]],
        curves={name: column[name].reshape(shape) for name in column if name not in METRIC_COLUMNS},
        params=safetensors.numpy.load(read_file(path, "params.safetensors", manifest, verify)),
        code=manifest["code"],
        sources=manifest["sources"],
        timing=manifest["timing"],
        packing=manifest["packing"],
        environment=manifest["environment"],
        continues=manifest.get("continues", {}),
    )


def load_params(root, lane: str) -> dict[str, np.ndarray]:
    """Final parameters of one lane, by `whole_id`, under flat "a/b/c" names; raises ``UserError`` where it is not."""
    lanes = committed(root)
    lane = whole_id(lane, lanes, root)
    manifest = read_manifest(lanes[lane])
    params = safetensors.numpy.load(read_file(lanes[lane], "params.safetensors", manifest))
    return {name: array[manifest["lanes"].index(lane)] for name, array in params.items()}


def whole_id(given: str, lanes: Collection[str], root) -> str:
    """The lane id that begins with `given`; raises ``UserError`` where none of `lanes` does, or several do."""
    found = [lane for lane in lanes if lane.startswith(given)] if given else []
    if given in lanes or len(found) == 1:
        return given if given in lanes else found[0]
    if found:
        some = ", ".join(sorted(found)[:MOST_SHOWN])
        raise UserError(f"lane {given!r} could be any of {len(found)} in {root}: {some}")
    raise unknown(f"lane in {root}", given, lanes)


def _check(chunk: Chunk) -> None:
    ids = [lane["lane"] for lane in chunk.lanes]
    values = {tuple(sorted(lane["values"])) for lane in chunk.lanes}
    shape = (len(ids), len(chunk.iterations))
    wrong = [name for name, curve in chunk.curves.items() if np.shape(curve) != shape]
    wrong += [name for name, array in chunk.params.items() if np.shape(array)[:1] != shape[:1]]
    if not ids or len(set(ids)) < len(ids) or not all(NAME.fullmatch(lane) for lane in ids):
        raise ValueError(f"a chunk needs lanes with distinct ids matching {NAME.pattern}, not {ids}")
    if len(values) != 1:
        raise ValueError(f"lanes of one program have the same values, not {sorted(values)}")
    if {*values.pop(), *chunk.program} & set(LANE_COLUMNS) or set(chunk.curves) & set(METRIC_COLUMNS):
        raise ValueError(f"fields may not be called {LANE_COLUMNS}, nor metrics {METRIC_COLUMNS}")
    if len(chunk.steps) != shape[1] or wrong:
        raise ValueError(
            f"of {shape[0]} lanes and {shape[1]} iterations, these have the wrong shape: {wrong or 'steps'}"
        )
    if {lane["status"] for lane in chunk.lanes} - {"ok", "diverged"}:
        raise ValueError("the status of a lane is 'ok' or 'diverged'")


def _contents(chunk: Chunk) -> tuple[bytes, ...]:
    """The bytes of ``FILES``; the same chunk gives the same bytes, whatever its timing."""
    lanes, iterations = chunk.lanes, len(chunk.iterations)
    ids, seeds = [lane["lane"] for lane in lanes], np.array([lane["seed"] for lane in lanes], np.int64)
    config = {
        "program": chunk.program,
        "lanes": [{name: lane[name] for name in ("lane", "seed", "values")} for lane in lanes],
    }
    lane_table = {
        "lane": ids,
        "seed": seeds,
        "status": [lane["status"] for lane in lanes],
        "first_bad_iteration": pa.array([lane["first_bad_iteration"] for lane in lanes], pa.int64()),
        "packing": [_json(chunk.packing)] * len(lanes),
        **{name: np.array([lane["values"][name] for lane in lanes], float) for name in lanes[0]["values"]},
    }
    metric_table = {
        "lane": np.repeat(ids, iterations),
        "seed": np.repeat(seeds, iterations),
        "iteration": np.tile(np.asarray(chunk.iterations, np.int64), len(lanes)),
        "step": np.tile(np.asarray(chunk.steps, np.int64), len(lanes)),
        # null rather than NaN, so that avg() in SQL skips what was not measured
        **{
            name: pa.array(np.asarray(chunk.curves[name], np.float32).ravel(), from_pandas=True)
            for name in sorted(chunk.curves)
        },
    }
    # safetensors writes the memory as it lies, so a transposed view would come back scrambled
    params = {name: np.ascontiguousarray(array) for name, array in chunk.params.items()}
    return (
        (_json(redacted(config)) + "\n").encode(),
        _parquet(metric_table),
        _parquet(lane_table),
        safetensors.numpy.save(params),
    )


def _parquet(columns: dict) -> bytes:
    sink, table = pa.BufferOutputStream(), pa.table(columns)
    # A small table is read twice as fast as it is, and a thousand runs are two thousand small tables.
    compression = "zstd" if table.nbytes > LARGE else "none"
    pq.write_table(table, sink, compression=compression, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _manifest(name: str, chunk: Chunk, contents: dict[str, bytes]) -> dict:
    return {
        "schema": SCHEMA,
        "chunk": name,
        "program": chunk.program,
        "lanes": [lane["lane"] for lane in chunk.lanes],
        "seeds": sorted({lane["seed"] for lane in chunk.lanes}),
        "diverged": [lane["lane"] for lane in chunk.lanes if lane["status"] == "diverged"],
        "code": chunk.code,
        "sources": chunk.sources,
        **git_state(),
        "environment": chunk.environment,
        "packing": chunk.packing,
        "timing": chunk.timing,
        **({"continues": chunk.continues} if chunk.continues else {}),
        "committed": datetime.now(UTC).isoformat(timespec="microseconds"),
        "files": {
            file: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for file, content in contents.items()
        },
    }


def git_state() -> dict[str, Any]:
    """Commit of the running source and whether tracked files differ from it; None where git cannot tell."""
    try:
        answer = [
            subprocess.run(
                ["git", "-C", Path(__file__).parent, *command], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": answer[0], "dirty": bool(answer[1])}


def redacted(value):
    """The same JSON value without the strings filed under a name such as API_KEY or password."""
    if isinstance(value, dict):
        return {
            key: "[redacted]" if isinstance(entry, str) and SECRET.search(str(key)) else redacted(entry)
            for key, entry in value.items()
        }
    return [redacted(entry) for entry in value] if isinstance(value, list | tuple) else value


def _json(value, **style) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, **style)


def _seal(manifest: dict) -> bytes:
    """Canonical bytes of a manifest with its own checksum: any other bytes are a damaged manifest."""
    checksum = hashlib.sha256(_json(manifest).encode()).hexdigest()
    return (_json({**manifest, "checksum": checksum}, indent=1) + "\n").encode()


def _publish(staging: Path, final: Path) -> None:
    """Give the finished directory its name, unless another writer committed the same lanes first."""
    if final.is_dir() and not _is_committed(final):
        os.rename(final, final.with_name(f"{STAGING}{uuid.uuid4().hex}"))  # half a copy, or its manifest was deleted
    try:
        os.rename(staging, final)
    except OSError:
        if not _is_committed(final):
            raise


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except OSError as error:
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link: results are read from real files only") from error
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _entries(root) -> list[Path]:
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"there is no results directory {str(root)!r}")
    return sorted(entry for entry in root.iterdir() if entry.is_dir())


def _is_committed(path: Path) -> bool:
    return not path.name.startswith(STAGING) and os.path.lexists(path / MANIFEST)


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: its bytes changed after they were committed; "
                     f"delete the directory {path.parent} and run the sweep again to get its lanes back")  # fmt: skip
