"""Chunks read back: byte by byte what was committed, and what `jaxrl.results.layout` says a chunk is, or an error.

Reading never unpickles, follows no link, opens regular files only, and parses the very bytes whose SHA-256 was checked.
What cannot be read so is `Damaged`: one chunk's whose lanes cost nobody the others.
"""

import contextlib
import hashlib
import math
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from jaxrl import disk, foreign
from jaxrl.errors import MOST_SHOWN, UserError, unknown
from jaxrl.results import layout
from jaxrl.results.layout import FILES, MANIFEST, METRIC_COLUMNS, NAME, SCHEMA, Chunk

MOST_IN_A_MANIFEST = 2**26  # ours, bytes: 4,096 lanes take 200,000


class Damaged(UserError):
    """A chunk that is not what its writer committed; who reads a whole directory tells of it and reads the others."""


@contextlib.contextmanager
def passing_over_damage(strict: bool) -> Iterator[None]:
    """Turns `Damaged` into a warning, unless `strict`."""
    try:
        yield
    except Damaged as error:
        if strict:
            raise
        warnings.warn(f"{error}; until then it is left out", stacklevel=4)


def chunks(root, strict: bool = False) -> list[dict]:
    """Manifests of the committed chunks of ``root``, oldest first; warns of a damaged one, or raises if ``strict``."""
    found = []
    for entry in entries(root):
        if is_committed(entry):
            with passing_over_damage(strict):
                found.append(read_manifest(entry))
    return sorted(found, key=lambda manifest: (manifest["committed"], manifest["chunk"]))


def committed(root, code: str | None = None, strict: bool = False, until: float = math.inf) -> dict[str, Path]:
    """Directory of every committed lane id, of one code fingerprint or of all; of several commits `furthest` counts.

    A lane that was stopped counts where that was after iteration `until` or later: by default none does, with 0 all do.
    """
    manifests = [manifest for manifest in chunks(root, strict) if code in (None, manifest["code"])]
    return {
        lane: Path(root) / manifests[place]["chunk"]
        for lane, place in furthest(manifests).items()
        if _reached(manifests[place], lane) >= until
    }


def furthest(manifests: Sequence[Mapping]) -> dict[str, int]:
    """Where every lane is to be read: its place in `manifests`, oldest first.

    Finished, or diverged, counts before stopped, and later before earlier; of equals the first.
    """
    places: dict[str, int] = {}
    for place, manifest in enumerate(manifests):
        for lane in manifest["lanes"]:
            if lane not in places or _reached(manifests[places[lane]], lane) < _reached(manifest, lane):
                places[lane] = place
    return places


def _reached(manifest: Mapping, lane: str) -> float:
    """The iteration after which a lane of a chunk was stopped; infinite where it ended."""
    if "stopped" not in manifest or lane in manifest["diverged"]:
        return math.inf
    return manifest["stopped"]


def read_manifest(path) -> dict:
    """The manifest of the chunk directory ``path``; raises ``Damaged`` naming what is not as it was written."""
    path = Path(path)
    if path.is_symlink():
        raise Damaged(f"{path} is a symbolic link: results are read from real directories only")
    raw = _read(path / MANIFEST, MOST_IN_A_MANIFEST)
    try:
        manifest = foreign.parsed(raw)
        intact = raw == seal({key: value for key, value in manifest.items() if key != "checksum"})
    except (ValueError, AttributeError):
        intact = False
    if not intact:
        raise _changed(path / MANIFEST)
    if manifest.get("schema") != SCHEMA:
        raise UserError(f"{path / MANIFEST} has schema {manifest.get('schema')!r}; this version reads {SCHEMA}")
    with _held_against_layout(path / MANIFEST):
        layout.check_manifest(manifest)
    if manifest["chunk"] != path.name or not NAME.fullmatch(path.name):
        raise Damaged(f"{path} holds chunk {manifest['chunk']!r}: a chunk's directory bears the chunk's id")
    return manifest


def read_file(path, name: str, manifest: dict) -> bytes:
    """One file of the chunk directory ``path``; raises ``Damaged`` naming it if size or SHA-256 differ."""
    entry = manifest["files"][name]
    content = _read(Path(path) / name, entry["bytes"])
    if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise _changed(Path(path) / name)
    return content


def read_tables(path, manifest: dict) -> tuple[pa.Table, pa.Table]:
    """The ``lanes`` and ``metrics`` tables of a chunk."""
    contents = {name: read_file(path, name, manifest) for name in ("lanes.parquet", "metrics.parquet")}
    return _tables(Path(path), manifest, contents)


def read_chunk(path) -> Chunk:
    """The chunk that ``write_chunk`` wrote at ``path`` (tuples come back as lists, secrets redacted)."""
    path = Path(path)
    manifest = read_manifest(path)
    contents = {name: read_file(path, name, manifest) for name in FILES}
    config, lanes, metrics = check_contents(path, manifest, contents)
    with _held_against_layout(path / "params.safetensors"):
        params = layout.read_params(contents["params.safetensors"], lanes.num_rows)
    status = lanes.select(["lane", "status", "first_bad_iteration"]).to_pylist()
    shape = (lanes.num_rows, metrics.num_rows // lanes.num_rows)
    column = {name: metrics[name].to_numpy() for name in metrics.column_names if name != "lane"}
    return Chunk(
        program=config["program"],
        lanes=[{**lane, **row} for lane, row in zip(config["lanes"], status, strict=True)],
        iterations=column["iteration"][: shape[1]],
        steps=column["step"][: shape[1]],
        curves={name: column[name].reshape(shape) for name in column if name not in METRIC_COLUMNS},
        params=params,
        code=manifest["code"],
        sources=manifest["sources"],
        timing=manifest["timing"],
        packing=manifest["packing"],
        environment=manifest["environment"],
        continues=manifest.get("continues", {}),
    )


def check_contents(path: Path, manifest: dict, contents: Mapping[str, bytes]) -> tuple[dict, pa.Table, pa.Table]:
    """(config, lanes, metrics) of the files of the chunk ``path``, all but its parameters, if they fit together."""
    with _held_against_layout(path / MANIFEST):
        layout.check_manifest(manifest)
    lanes, metrics = _tables(path, manifest, contents)
    with _held_against_layout(path / "config.json"):
        config = foreign.parsed(contents["config.json"])
        layout.check_config(config, manifest, lanes)
    return config, lanes, metrics


def _tables(path: Path, manifest: dict, contents: Mapping[str, bytes]) -> tuple[pa.Table, pa.Table]:
    with _held_against_layout(path / "lanes.parquet"):
        lanes = layout.read_table(contents["lanes.parquet"], "lanes.parquet", len(manifest["lanes"]))
        layout.check_lanes(lanes, manifest)
    with _held_against_layout(path / "metrics.parquet"):
        metrics = layout.read_table(contents["metrics.parquet"], "metrics.parquet")
        layout.check_metrics(metrics, lanes, manifest.get("stopped"))
    return lanes, metrics


def load_params(root, lane: str) -> dict[str, np.ndarray]:
    """Final parameters of one lane, by `whole_id`, under flat "a/b/c" names; raises ``UserError`` where it is not."""
    lanes = committed(root, until=0)
    lane = whole_id(lane, lanes, root)
    chunk = read_chunk(lanes[lane])
    row = [stored["lane"] for stored in chunk.lanes].index(lane)
    return {name: array[row] for name, array in chunk.params.items()}


def whole_id(given: str, lanes: Collection[str], root) -> str:
    """The lane id that begins with `given`; raises ``UserError`` where none of `lanes` does, or several do."""
    found = [lane for lane in lanes if lane.startswith(given)] if given else []
    if given in lanes or len(found) == 1:
        return given if given in lanes else found[0]
    if found:
        some = ", ".join(sorted(found)[:MOST_SHOWN])
        raise UserError(f"lane {given!r} could be any of {len(found)} in {root}: {some}")
    raise unknown(f"lane in {root}", given, lanes)


def entries(root) -> list[Path]:
    """Directories that may be chunks, committed or not, and links to such."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"there is no results directory {str(root)!r}")
    return sorted(entry for entry in root.iterdir() if entry.is_dir())


def is_committed(path: Path) -> bool:
    return not path.name.startswith(".") and os.path.lexists(path / MANIFEST)


def seal(manifest: dict) -> bytes:
    """Canonical bytes of a manifest with its own checksum: any other bytes are a damaged manifest."""
    checksum = hashlib.sha256(layout.as_json(manifest).encode()).hexdigest()
    return (layout.as_json({**manifest, "checksum": checksum}, indent=1) + "\n").encode()


@contextlib.contextmanager
def _held_against_layout(path: Path) -> Iterator[None]:
    """What a check or a library says of foreign bytes, as an error that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # Arrow and safetensors have many, and a resealed file finds each of them
        said = str(error).partition("\n")[0]
        raise Damaged(f"{path} is no file of a chunk: {said}; {_cure(path)}") from error


def _read(path: Path, most: int) -> bytes:
    try:
        return disk.read(path, most)
    except disk.Refused as error:
        raise Damaged(f"{path} {error}; {_cure(path)}") from None
    except FileNotFoundError as error:
        raise Damaged(f"cannot read {path}: {error.strerror}; {_cure(path)}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _changed(path: Path) -> Damaged:
    return Damaged(f"{path} is damaged: its bytes changed after they were committed; {_cure(path)}")


def _cure(path: Path) -> str:
    return f"run the sweep again, which sets the directory {path.parent} aside and gets its lanes back"
