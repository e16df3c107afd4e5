"""Checkpoints of a running chunk: orbax writes the arrays, integrity is added here.

    FOLDER/00000120/state/          orbax: every array, under its path in the state
                    record.json     what the caller wants to find again, JSON; path, shape and dtype of every array
                    SHA256SUMS.json size and SHA-256 of each file above

A checkpoint is written under a hidden name, every file flushed to disk and the sums last, then renamed to its step in
one move, so a directory that bears a number is whole; the newest two are kept. Restoring checks every byte before
orbax sees one, because orbax returns a flipped bit, another shape or another dtype without a word. A damaged
checkpoint is told of and the one before it taken. One process writes a folder: `jaxrl.sweep.claims` sees to it.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import disk
from jaxrl.errors import UserError
from jaxrl.types import PyTree

SUMS = "SHA256SUMS.json"
RECORD = "record.json"
STATE = "state"
STAGING = ".unfinished-"
KEPT = 2
MOST_SHOWN = 6  # differences in a message


class Restored(NamedTuple):
    step: int
    state: PyTree  # like the one asked for, of NumPy arrays and typed keys
    record: dict


def save(folder: str | Path, step: int, state: PyTree, record: dict) -> Path:
    """Write `state`, arrays and typed keys, as checkpoint `step` of `folder`; keep it and the one before.

    Raises OSError when the disk refuses; earlier checkpoints are then as they were.
    """
    folder = Path(folder)
    staging, final = folder / f"{STAGING}{uuid.uuid4().hex}", folder / f"{step:08d}"
    arrays = _arrays(state)
    for left in folder.glob(f"{STAGING}*"):  # by a writer that was killed
        shutil.rmtree(left, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        # Orbax refuses arrays without elements, as the visits are where no states are named; their shape says it all.
        _write_with_orbax(staging / STATE, {name: array for name, array in arrays.items() if array.size})
        _write(staging / RECORD, {"step": step, "arrays": _structure(arrays), "record": record})
        _write(staging / SUMS, _sums(staging, flush=True))
        disk.sync_directory(staging)
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
    folder: str | Path, like: PyTree, on_damage: Callable[[str], None] = lambda sentence: None
) -> Restored | None:
    """The newest undamaged checkpoint of `folder`, or None; `on_damage` gets a sentence for each that is passed over.

    Args:
        like: a state, or the shapes and dtypes of one.

    Raises:
        UserError: the arrays of an undamaged checkpoint are not those of `like`; the sentence lists the difference.
    """
    for step in reversed(steps(folder)):
        path = Path(folder) / f"{step:08d}"
        try:
            stored = _verified(path)
        except Damaged as fault:
            on_damage(f"checkpoint {path} is damaged and passed over: {fault}")
            continue
        _check_structure(path, stored["arrays"], _structure(_arrays(like)))
        return Restored(step, _as_in(like, _read_with_orbax(path / STATE)), stored["record"])
    return None


def steps(folder: str | Path) -> list[int]:
    """Steps of the checkpoints of `folder`, damaged or not, in order."""
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdecimal() and path.is_dir() and not path.is_symlink())


class Damaged(Exception):
    """What is wrong with a checkpoint, as the end of a sentence."""


def _verified(path: Path) -> dict[str, Any]:
    """The content of its record, once every byte was checked."""
    try:
        told = json.loads((path / SUMS).read_bytes())
        found = _sums(path)
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{SUMS} cannot be read ({error})") from error
    if not isinstance(told, dict) or told.keys() != found.keys():
        raise Damaged(f"its files are {sorted(found)}, not those that {SUMS} lists")
    if changed := [name for name in found if told[name] != found[name]]:
        raise Damaged(f"the bytes of {', '.join(sorted(changed))} changed")
    return json.loads((path / RECORD).read_bytes())


def _sums(path: Path, flush: bool = False) -> dict[str, Any]:
    """Size and SHA-256 of every file below `path` but the sums; None for a link, which no checkpoint has."""
    sums: dict[str, Any] = {}
    for directory, folders, names in os.walk(path):
        for file in (Path(directory) / name for name in (*folders, *names)):
            if file.is_symlink():
                sums[file.relative_to(path).as_posix()] = None
            elif file != path / SUMS and not file.is_dir():
                with open(file, "rb") as opened:
                    digest = hashlib.file_digest(opened, "sha256").hexdigest()
                    if flush:
                        os.fsync(opened.fileno())
                sums[file.relative_to(path).as_posix()] = {"bytes": file.stat().st_size, "sha256": digest}
        if flush:
            disk.sync_directory(Path(directory))
    return sums


def _check_structure(path: Path, there: dict[str, list], here: dict[str, list]) -> None:
    described = lambda entry: f"{entry[1]}{entry[0]}"
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


def _structure(arrays: dict[str, Any]) -> dict[str, list]:
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


def _read_with_orbax(path: Path) -> dict[str, np.ndarray]:
    with _orbax() as checkpointer:
        return checkpointer.restore(path.absolute())


def _write(path: Path, content: dict) -> None:
    disk.write(path, json.dumps(content, sort_keys=True).encode())
