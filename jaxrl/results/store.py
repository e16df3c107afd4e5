"""Chunks of finished lanes on disk: a directory that exists whole, verified byte by byte, or not at all.

    ROOT/<chunk id>/config.json          program and lanes; of lanes that were stopped, <chunk id>-<iteration>
                    metrics.parquet      one row per (lane, iteration); null where a metric was not measured
                    lanes.parquet        one row per lane
                    params.safetensors   final parameters, leading axis lanes
                    manifest.json        provenance and the SHA-256 of each file above

A chunk is written under a hidden name, every file flushed to disk and the manifest last, then renamed to its id in
one step: of two writers of one chunk the first wins, whole. A directory without a manifest does not exist.
What is damaged is never deleted: it is set aside under a hidden name when its lanes are to be run again.
"""

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from jaxrl import disk, foreign
from jaxrl.errors import UserError
from jaxrl.results.commit import git_state
from jaxrl.results.layout import (
    FILES,
    MANIFEST,
    METRIC_COLUMNS,
    NAME,
    RESERVED,
    SCHEMA,
    STATUSES,
    Chunk,
    as_json,
    is_reserved,
)
from jaxrl.results.reading import (
    Damaged,
    check_contents,
    chunks,
    committed,
    entries,
    is_committed,
    load_params,
    passing_over_damage,
    read_chunk,
    read_file,
    read_manifest,
    read_tables,
    seal,
    whole_id,
)
from jaxrl.sweep.plan import chunk_id

__all__ = [
    "FILES",
    "MANIFEST",
    "METRIC_COLUMNS",
    "Chunk",
    "Damaged",
    "UserError",
    "chunks",
    "committed",
    "git_state",
    "load_params",
    "name_of",
    "passing_over_damage",
    "read_chunk",
    "read_file",
    "read_manifest",
    "read_tables",
    "redacted",
    "seal",
    "set_damaged_aside",
    "unfinished",
    "whole_id",
    "write_chunk",
]

STAGING = ".unfinished-"
ASIDE = ".damaged-"
LARGE = 2**16  # bytes of a table, above which it is compressed
SECRET = re.compile(r"(api|access|private)_?key$|(^|_)(token|secret|password)$", re.IGNORECASE)


def write_chunk(root, chunk: Chunk) -> Path:
    """Commit ``chunk`` under ``root`` and return its directory; a chunk committed before is left as it was.

    Raises ``UserError`` when the disk refuses, ``ValueError`` when the arrays do not fit the lanes.
    """
    _check(chunk)
    root = Path(root)
    name = name_of(chunk)
    final, staging = root / name, root / f"{STAGING}{uuid.uuid4().hex}"
    contents = dict(zip(FILES, _contents(chunk), strict=True))
    manifest = redacted(_manifest(name, chunk, contents))
    check_contents(final, foreign.parsed(as_json(manifest).encode()), contents)  # what no reader takes is not committed
    try:
        staging.mkdir(parents=True)
        try:
            for file, content in {**contents, MANIFEST: seal(manifest)}.items():
                disk.write(staging / file, content)
            disk.sync_directory(staging)
            _publish(staging, final)
            disk.sync_directory(root)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write results to {root}: {disk.refusal(root, error)}") from error
    return final


def name_of(chunk: Chunk) -> str:
    """The directory of a chunk: its id, and after which iteration where lanes of it were stopped."""
    name = chunk_id(lane["lane"] for lane in chunk.lanes)
    return f"{name}-{stopped}" if (stopped := _stopped(chunk)) else name


def set_damaged_aside(root, code: str, lanes: Collection[str]) -> list[str]:
    """Rename damaged chunks of ``root``, so that what they held can be run again; a sentence for each.

    These are every chunk whose manifest is damaged, and those of ``code`` with any of ``lanes`` that cannot be read.
    """
    told, wanted = [], set(lanes)
    for entry in filter(is_committed, entries(root)):
        try:
            manifest = read_manifest(entry)
            if manifest["code"] == code and not wanted.isdisjoint(manifest["lanes"]):
                read_chunk(entry)
        except Damaged as error:
            told.append(f"{error}: this run set it aside as {_set_aside(entry).name}")
    return told


def unfinished(root) -> list[Path]:
    """Directories that a writer left behind without committing; they are never read and may be deleted."""
    left = [entry for entry in entries(root) if not is_committed(entry) and not entry.name.startswith(ASIDE)]
    return [entry for entry in left if (entry / FILES[0]).exists()]


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
    if any(map(is_reserved, {*values.pop(), *chunk.program})) or set(chunk.curves) & set(METRIC_COLUMNS):
        raise ValueError(f"fields may not be called {sorted(RESERVED)} or final_..., nor metrics {METRIC_COLUMNS}")
    if len(chunk.steps) != shape[1] or wrong:
        raise ValueError(
            f"of {shape[0]} lanes and {shape[1]} iterations, these have the wrong shape: {wrong or 'steps'}"
        )
    found = {lane["status"] for lane in chunk.lanes}
    if found - set(STATUSES) or {"ok", "stopped"} <= found:
        raise ValueError(f"the status of a lane is one of {STATUSES}, and of one chunk not both ok and stopped")


def _stopped(chunk: Chunk) -> int:
    """After which iteration lanes of a chunk were stopped; 0 where none was."""
    return len(chunk.iterations) if any(lane["status"] == "stopped" for lane in chunk.lanes) else 0


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
        "packing": [as_json(chunk.packing)] * len(lanes),
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
        (as_json(redacted(config)) + "\n").encode(),
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
        **({"stopped": stopped} if (stopped := _stopped(chunk)) else {}),
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


def redacted(value):
    """The same JSON value without the strings filed under a name such as API_KEY or password."""
    if isinstance(value, dict):
        return {
            key: "[redacted]" if isinstance(entry, str) and SECRET.search(str(key)) else redacted(entry)
            for key, entry in value.items()
        }
    return [redacted(entry) for entry in value] if isinstance(value, list | tuple) else value


def _publish(staging: Path, final: Path) -> None:
    """Give the finished directory its name, unless another writer committed the same lanes first."""
    if final.is_dir() and not is_committed(final):
        os.rename(final, final.with_name(f"{STAGING}{uuid.uuid4().hex}"))  # half a copy, or its manifest was deleted
    try:
        os.rename(staging, final)
    except OSError:
        if not is_committed(final):
            raise
        try:
            read_chunk(final)
        except Damaged:
            _set_aside(final)
            os.rename(staging, final)


def _set_aside(path: Path) -> Path:
    """Rename what is damaged, which may still be somebody's data; another process may have been faster."""
    aside = path.with_name(f"{ASIDE}{path.name}-{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
    return aside
