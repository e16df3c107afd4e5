"""States that are kept when training ends, and the lanes of a longer run that go on from them.

    OUT/.kept/<chunk>/<iteration>/    the states of a committed chunk's lanes, written as checkpoints are

A lane of more steps goes on from the longest committed lane that is equal in all but `steps` and `evals` and whose
state was kept. It is a lane of its own; its manifest says what it continues. Its training and its last evaluation are
those of a run from the start: a program that knows its budget is never continued. A lane that was stopped before its
end goes on from there, as the same lane. What is lost or damaged here costs the ability to go on and nothing else.
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import jaxrl.agents
from jaxrl import checkpoint, disk
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.signatures import signature
from jaxrl.spec.fields import evaluation_points, iterations, trainer_signature
from jaxrl.sweep.plan import Chunk, Lane, training_id, unending
from jaxrl.types import PyTree

FOLDER = ".kept"
BUDGET = ("iterations", "steps")  # parameters by which a factory learns how long it is going to be trained


class Origin(NamedTuple):
    """What lanes of one chunk continue: lanes of one committed chunk, all after the same iteration."""

    chunk: Path
    iteration: int


class Earlier(NamedTuple):
    """What was made of a chunk's lanes before."""

    iteration: int
    states: PyTree  # [R, ...] on the host
    curves: dict[str, np.ndarray]  # [R, iteration]
    packing: dict
    continues: dict  # for the manifest: ids, and after which iteration


def keep(out: Path, chunk: store.Chunk, done: int, states: PyTree, note: Callable[[str], None]) -> None:
    """Keep the states ``[R, ...]`` of a chunk's lanes after iteration `done`; a note where the disk refuses."""
    name = store.name_of(chunk)
    try:
        record = {"lanes": [lane["lane"] for lane in chunk.lanes]}
        _folder(out).mkdir(exist_ok=True)
        checkpoint.save(_folder(out) / name, done, {"states": states}, record)
    except OSError as error:
        note(f"cannot keep the states of chunk {name}: {disk.refusal(out, error)}; more steps will start anew")


def origins(
    out: Path,
    lanes: Sequence[Lane],
    objects: Mapping[str, Callable],
    code: str,
    note: Callable[[str], None],
    until: float = math.inf,
) -> dict[str, Origin]:
    """Where `lanes` can go on, by id; those that are not there begin at the beginning. None goes on past `until`.

    `note` gets a sentence where lanes of fewer steps are there that cannot be continued.
    """
    wanted: dict[str, list[Lane]] = {}
    for lane in lanes:
        wanted.setdefault(training_id(lane.program, lane.values, lane.seed, lane.sources), []).append(lane)
    found: dict[str, Origin] = {}
    unkept: set[str] = set()
    bound: dict[str, str] = {}
    as_text = lambda program: json.dumps(unending(program), sort_keys=True)
    longest: dict[str, float] = {}
    for lane in lanes:
        text = as_text(lane.program)
        longest[text] = max(longest.get(text, 0), min(until, iterations(lane.program)))
    for manifest in store.chunks(out) if lanes and out.exists() else ():
        program, path = manifest["program"], out / manifest["chunk"]
        if manifest["code"] != code or longest.get(as_text(program), 0) <= (end := _last(manifest)):
            continue
        try:
            rows = store.read_chunk(path).lanes
        except UserError as error:
            note(f"what is in {path} cannot be continued: {error}")
            continue
        for row in rows:
            for lane in wanted.get(training_id(program, row["values"], row["seed"], manifest["sources"]), ()):
                if end >= min(until, iterations(lane.program)):
                    continue
                if end not in checkpoint.steps(_folder(out) / path.name):
                    unkept.add(lane.id)
                elif row["lane"] != lane.id and (field := bound_by(lane, objects)):
                    bound[lane.id] = field
                elif lane.id not in found or found[lane.id].iteration < end:
                    found[lane.id] = Origin(path, end)
    if anew := len(unkept - found.keys() - bound.keys()):
        note(f"{anew} lanes of fewer steps are there, but their states were not kept (--keep-state): they start anew")
    for field in dict.fromkeys(bound.values()):
        count = sum(other == field for other in bound.values())
        note(f"{count} lanes start anew, though states of fewer steps were kept: {field} makes training depend on them")
    return found


def without(out: Path, chunks: Iterable[Path]) -> list[Path]:
    """The committed chunks of which no state was kept."""
    return [chunk for chunk in chunks if not checkpoint.steps(_folder(out) / chunk.name)]


def bound_by(lane: Lane, objects: Mapping[str, Callable]) -> str:
    """The field, as "name = value", that makes a lane's training depend on its number of steps; "" where none does."""
    agent, trainer = lane.program["agent"], lane.program["trainer"]
    reference = jaxrl.agents.CATALOGUE.get(agent, agent)
    takes = signature(objects.get(reference, reference))
    if {*takes.supplied, *takes.swept, *takes.static} & {*BUDGET}:
        schedule = jaxrl.agents.SCHEDULES.get(agent)
        if schedule is None:
            return f"agent = {agent!r}"
        if value := {**lane.program, **lane.values}[schedule]:
            return f"{schedule} = {value!r}"
    return f"trainer = {trainer!r}" if {*trainer_signature(trainer, objects).supplied} & {*BUDGET} else ""


def continued(
    origin: Origin | None, chunk: Chunk, shapes: PyTree, evaluated: Collection[str], note: Callable[[str], None]
) -> Earlier | None:
    """What the lanes of a chunk continue; None where they have no origin or, after a note, it is lost or damaged.

    Its curves are those of a run from the start: evaluated at this run's points only, NaN at those that were not there.

    Args:
        shapes: of the states ``[R, ...]`` that the lanes are to have.
        evaluated: metrics that an evaluation measures.
    """
    if origin is None:
        return None
    try:
        before = store.read_chunk(origin.chunk)
        ids = [row["lane"] for row in before.lanes]
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(ids), *x.shape[1:]), x.dtype), shapes)
        folder = _folder(origin.chunk.parent) / origin.chunk.name
        found = checkpoint.restore(folder, {"states": like}, note, {"lanes": [str]})
    except UserError as error:
        note(f"what was kept of {origin.chunk} cannot be continued: {error}")
        return None
    if found is None or found.step != origin.iteration or found.record["lanes"] != ids:
        note(f"no state of {origin.chunk} is left: its lanes start anew")
        return None
    known = {
        training_id(before.program, row["values"], row["seed"], before.sources): place
        for place, row in enumerate(before.lanes)
    }
    rows = np.array([known[training_id(lane.program, lane.values, lane.seed, lane.sources)] for lane in chunk.lanes])
    continues = {lane.id: ids[row] for lane, row in zip(chunk.lanes, rows, strict=True)}
    marks = evaluation_points(iterations(chunk.program), chunk.program["evals"])
    curves = {name: curve[rows, : found.step].copy() for name, curve in before.curves.items()}
    for name in curves.keys() & {*evaluated}:
        curves[name][:, [i for i in range(found.step) if i + 1 not in marks]] = np.nan
    states = jax.tree.map(lambda x: x[rows], found.state["states"])
    return Earlier(found.step, states, curves, before.packing, {"lanes": continues, "iteration": found.step})


def unevaluated(continues: dict, marks: Sequence[int], curves: Sequence[np.ndarray]) -> list[int]:
    """The evaluation points of a run that lie in what it continues and were not made there, by their curves."""
    missing = lambda mark: not any(np.isfinite(curve[:, mark - 1]).any() for curve in curves)
    return [mark for mark in marks if mark <= continues["iteration"] and missing(mark)]


def _last(manifest: dict) -> int:
    return manifest.get("stopped", iterations(manifest["program"]))


def _folder(out: Path) -> Path:
    if (folder := out / FOLDER).is_symlink():
        raise UserError(f"{folder} is a symbolic link: states are kept in real directories only")
    return folder
