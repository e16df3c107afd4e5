"""Checkpoints of a running chunk: orbax writes the arrays, integrity is added here.

    FOLDER/00000120/state/          orbax: every array, under its path in the state
                    record.json     what the caller wants to find again, JSON; path, shape and dtype of every array
                    SHA256SUMS.json size and SHA-256 of each file above

A checkpoint is written under a hidden name, every file flushed to disk and the sums last, then renamed to its step in
one move, so a directory that bears a number is whole; the newest two are kept. Restoring checks every byte before
orbax sees one, because orbax returns a flipped bit, another shape or another dtype without a word. A damaged
checkpoint is told of and the one before it taken. One process writes a folder: `jaxrl.sweep.claims` sees to it.
What is deleted is only what has the name and the files of a checkpoint, in a folder that is no link.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import disk, foreign
from jaxrl.errors import UserError
from jaxrl.types import PyTree

SUMS = "SHA256SUMS.json"
RECORD = "record.json"
STATE = "state"
STAGING = ".unfinished-"
KEPT = 2
MOST_SHOWN = 6  # differences in a message
MOST_JSON = 2**26  # ours, bytes: of the record and of the sums
SUMS_FORM = {str: {"bytes": int, "sha256": str}}
RECORD_FORM = {"step": int, "arrays": {str: list}, "record": dict}


class Restored(NamedTuple):
    step: int
    state: PyTree  # like the one asked for, of NumPy arrays and typed keys
    record: dict


class Damaged(Exception):
    """What is wrong with a checkpoint, as the end of a sentence."""


def save(folder: str | Path, step: int, state: PyTree, record: dict) -> Path:
    """Write `state`, arrays and typed keys, as checkpoint `step` of `folder`; keep it and the one before.

    Raises OSError when the disk refuses, or the folder is a link; earlier checkpoints are then as they were.
    """
    folder = Path(folder)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link")
    staging, final = folder / f"{STAGING}{uuid.uuid4().hex}", folder / f"{step:08d}"
    arrays = _arrays(state)
    folder.mkdir(exist_ok=True)  # not what it lies in: a directory that was moved meanwhile is not made again
    _delete_unfinished(folder)
    staging.mkdir()
    try:
        # Orbax refuses arrays without elements, as the visits are where no states are named; their shape says it all.
        _write_with_orbax(staging / STATE, {name: array for name, array in arrays.items() if array.size})
        _write(staging / RECORD, {"step": step, "arrays": _structure(arrays), "record": record})
        _flush(staging)
        _write(staging / SUMS, _sums(staging))
        disk.sync_directory(staging)
        if _is_ours(final):
            shutil.rmtree(final, ignore_errors=True)  # the same step again: only after a fall-back past a damaged one
        os.rename(staging, final)
        disk.sync_directory(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    there = steps(folder)
    newer = [other for other in there if other > step]  # damaged, or whoever saves would have begun after it
    for other in newer + [other for other in there if other <= step][:-KEPT]:
        shutil.rmtree(folder / f"{other:08d}", ignore_errors=True)
    return final


def restore(
    folder: str | Path,
    like: PyTree,
    on_damage: Callable[[str], None] = lambda sentence: None,
    form: Mapping[str, Any] | None = None,
    most: int = foreign.LARGEST,
) -> Restored | None:
    """The newest undamaged checkpoint of `folder`, or None; `on_damage` gets a sentence for each that is passed over.

    Args:
        like: a state, or the shapes and dtypes of one.
        form: of the record, as `jaxrl.foreign.check` takes it.
        most: the largest step that there can be.

    Raises:
        UserError: the arrays of an undamaged checkpoint are not those of `like`; the sentence lists the difference.
    """
    if Path(folder).is_symlink():
        on_damage(f"{folder} is a symbolic link and passed over: checkpoints lie in real directories only")
    wanted = _arrays(like)
    for step in reversed(steps(folder)):
        path = Path(folder) / f"{step:08d}"
        try:
            if step > most:
                raise Damaged(f"it is of step {step}, and {most} is the last")
            stored = _verified(path, step, form or {}, wanted)
            arrays = _read_with_orbax(path / STATE, stored["arrays"])
        except (Damaged, OSError, disk.Refused) as fault:
            on_damage(f"checkpoint {path} is damaged and passed over: {fault}")
            continue
        return Restored(step, _as_in(like, arrays), stored["record"])
    return None


def steps(folder: str | Path) -> list[int]:
    """Steps of the checkpoints of `folder`, damaged or not, in order; none where it is a link."""
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ()
    return sorted(int(path.name) for path in found if _is_ours(path))


def forget(folder: str | Path) -> None:
    """Delete the checkpoints of a folder, and the folder where nothing else lies in it; of a link, nothing."""
    folder = Path(folder)
    for step in steps(folder):
        shutil.rmtree(folder / f"{step:08d}", ignore_errors=True)
    _delete_unfinished(folder)
    with contextlib.suppress(OSError):  # not empty, not there, or a link
        folder.rmdir()


def _is_ours(path: Path) -> bool:
    """Whether a directory is a checkpoint, be it damaged: 20240131 may be somebody's data of that day."""
    named = path.name.isascii() and path.name.isdecimal() and f"{int(path.name):08d}" == path.name
    real = named and path.is_dir() and not path.is_symlink()
    return real and any(os.path.lexists(path / name) for name in (SUMS, RECORD))


def _delete_unfinished(folder: Path) -> None:
    if not folder.is_symlink():
        for left in folder.glob(f"{STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)


def _verified(path: Path, step: int, form: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The content of its record, once every byte was checked; raises UserError for other arrays than `wanted`."""
    told = _json(path / SUMS, SUMS_FORM)
    sizes = _sizes(path)
    if told.keys() != sizes.keys():
        raise Damaged(f"its files are {sorted(sizes)}, not those that {SUMS} lists")
    if changed := [name for name in sizes if told[name]["bytes"] != sizes[name]]:
        raise Damaged(f"the sizes of {', '.join(sorted(changed))} changed, or they are no regular files")
    if RECORD not in sizes or _sha256(path / RECORD, MOST_JSON) != told[RECORD]["sha256"]:
        raise Damaged(f"the bytes of {RECORD} changed")
    stored = _json(path / RECORD, RECORD_FORM)
    if stored["step"] != step:
        raise Damaged(f"field step of {RECORD} is {stored['step']}, and the directory bears {step}")
    _check_structure(path, stored["arrays"], wanted)
    _json(path / RECORD, {"record": {**form}})
    room = sum(int(np.prod(array.shape)) * array.dtype.itemsize for array in wanted.values())
    if (total := sum(sizes.values())) > 2 * room + MOST_JSON:
        raise Damaged(f"it holds {total:,} bytes, more than twice what its arrays take")
    if changed := [name for name in sizes if _sha256(path / name, sizes[name]) != told[name]["sha256"]]:
        raise Damaged(f"the bytes of {', '.join(sorted(changed))} changed")
    return stored


def _json(path: Path, form: Any) -> Any:
    try:
        content = foreign.parsed(disk.read(path, MOST_JSON))
        foreign.check(content, form)
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} cannot be read ({error})") from error
    return content


def _sizes(path: Path) -> dict[str, int]:
    """Bytes of every file below `path` but the sums; -1 for a link, a pipe or the like, which no checkpoint has."""
    files = [Path(directory) / name for directory, folders, names in os.walk(path) for name in (*folders, *names)]
    found = {file.relative_to(path).as_posix(): file.lstat() for file in files if file != path / SUMS}
    kept = {name: one for name, one in found.items() if not stat.S_ISDIR(one.st_mode)}
    return {name: one.st_size if stat.S_ISREG(one.st_mode) else -1 for name, one in kept.items()}


def _sha256(path: Path, most: int) -> str:
    with disk.opened(path, most) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(path: Path) -> dict[str, Any]:
    sized = {name: size for name, size in _sizes(path).items() if size >= 0}
    return {name: {"bytes": size, "sha256": _sha256(path / name, size)} for name, size in sized.items()}


def _flush(path: Path) -> None:
    """Every file and folder below `path`, and itself."""
    for directory, _, names in os.walk(path):
        for place in (*names, "."):
            disk.sync_directory(Path(directory) / place)


def _check_structure(path: Path, there: dict[str, list], arrays: Mapping[str, Any]) -> None:
    here = _structure(arrays)
    described = lambda entry: "".join(map(str, reversed(entry)))
    differences = [f"{name} is only in the checkpoint" for name in there.keys() - here.keys()]
    differences += [f"{name} is only in this run" for name in here.keys() - there.keys()]
    differences += [
        f"{name} is {described(there[name])} in the checkpoint and {described(here[name])} in this run"
        for name in there.keys() & here.keys()
        if there[name] != here[name]
    ]
    if differences:
        more = f"; and {len(differences) - MOST_SHOWN} more" if len(differences) > MOST_SHOWN else ""
        raise UserError(f"checkpoint {path} does not fit: {'; '.join(sorted(differences)[:MOST_SHOWN])}{more}")


def _arrays(state: PyTree) -> dict[str, Any]:
    """Leaves by their path, typed keys as the numbers that they are, on the host."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): _plain(leaf) for path, leaf in leaves}


def _plain(leaf: Any) -> Any:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf) if _is_shape(leaf) else jax.random.key_data(leaf)
    return leaf if _is_shape(leaf) else np.asarray(leaf)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _structure(arrays: Mapping[str, Any]) -> dict[str, list]:
    return {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}


def _as_in(like: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    def leaf(path, wanted):
        if wanted.size == 0:
            return np.zeros(wanted.shape, wanted.dtype)
        array = arrays[jax.tree_util.keystr(path, simple=True, separator=".")]
        if jax.dtypes.issubdtype(wanted.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(array, dtype=wanted.dtype)
        return array

    return jax.tree_util.tree_map_with_path(leaf, like)


def _orbax() -> Any:
    """Orbax for this process alone: of several hosts each has checkpoints of its own and waits for no other."""
    import orbax.checkpoint as ocp

    this = jax.process_index()

    class OnThisHost(ocp.type_handlers.NumpyHandler):
        # Orbax's own leaves arrays of the host to process 0, taking them to be the same everywhere.
        async def _background_serialize(self, values, infos, args=None):
            for value, info in zip(values, infos, strict=True):
                await info.await_path_creation()
                spec = ocp.type_handlers.get_json_tspec_write(
                    info, info.is_ocdbt_checkpoint, value.shape, value.shape, value.dtype, process_index=this
                )
                await self._open_and_write(value, spec, info.ts_context)

    alone = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process{this}"
    )
    handlers = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, OnThisHost()), (jax.Array, ocp.type_handlers.ArrayHandler())
    )
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=handlers, multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _write_with_orbax(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with _orbax() as checkpointer:
        try:
            checkpointer.save(path.absolute(), arrays)
        except ValueError as error:  # tensorstore's way to say that the disk refused
            raise OSError(str(error)) from error


def _read_with_orbax(path: Path, expected: Mapping[str, list]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, those that it says it has: Orbax reads another shape or dtype without a word."""
    try:
        with _orbax() as checkpointer:
            arrays = checkpointer.restore(path.absolute())
        found = _structure(arrays)
    except Exception as error:  # of nonsense whose sums fit, Orbax says many things
        raise Damaged(f"Orbax cannot read it ({str(error).partition(chr(10))[0]})") from error
    stored = {name: entry for name, entry in expected.items() if 0 not in entry[0]}
    if found != stored:
        raise Damaged(f"its arrays are not those that {RECORD} lists")
    return arrays


def _write(path: Path, content: dict) -> None:
    disk.write(path, json.dumps(content, sort_keys=True).encode())
