"""One chunk on this process's devices: compiled, gone on with from its newest checkpoint or begun, run to its end.

A Python loop over compiled segments of a few seconds carries progress, evaluation, checkpoints and the wish to stop;
nothing calls back from inside a program, so where a segment ends changes no bit.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import checkpoint, disk
from jaxrl.keys import GENERATOR
from jaxrl.results import store
from jaxrl.signatures import NUMERIC_DEPENDENCIES, installed
from jaxrl.spec.fields import evaluation_points, iterations
from jaxrl.sweep import extend
from jaxrl.sweep.lanes import Packing, compiled_bytes, keys_of, lanes_of, packing_for, padded, stacked
from jaxrl.sweep.ledger import Ledger
from jaxrl.sweep.plan import Chunk
from jaxrl.sweep.program import Program
from jaxrl.types import Key, PyTree

SEGMENT_STEPS = 2_000_000  # ours: most environment steps, all lanes together, between two looks at a running program
SEGMENT_SECONDS = 5.0  # ours: and its duration, because a machine that is taken away gives half a minute's notice
GROWTH = 10  # ours: most times as long as the one before; the first is one iteration, because no pace is known
LONG = 10.0  # seconds without a look at whether to stop; what cannot be cut and lasts longer is told of
MOST_LOST = 300.0  # seconds of work that a killed process loses, or
SHARE_LOST = 0.1  # of the chunk's duration if that is less, but
CHECKPOINT_SHARE = 0.01  # of the time at most goes into checkpoints, so short chunks may lose more than a tenth
RECORD_FORM = {  # of a checkpoint's
    **{"started": str, "run_seconds": float, "resumed_after": [int], "packing": dict},
    "continues?": {"lanes": {str: str}, "iteration": int},
}
FIRST_CHECKPOINT = 1.0  # ours: seconds that the first checkpoint costs, which imports orbax


class Compiled(NamedTuple):
    """The program of one number of lanes, compiled; nothing is allocated yet."""

    packing: Packing
    rows: int  # lanes that it runs, a multiple of the devices: copies of a chunk's last one where that has fewer
    segment: int  # iterations that one call of `run` makes at most
    init: Any  # as `jaxrl.sweep.lanes.Lanes`
    run: Any
    evaluate: Any
    states: PyTree  # shapes, dtypes and shardings
    metrics: tuple[str, ...]
    evaluated: tuple[str, ...]  # those among them that `evaluate` gives
    bytes: int  # per device, of the largest of the three
    seconds: float


class Resources(NamedTuple):
    """What a chunk runs with beside its program."""

    checkpoints: Callable[[], Path]  # its folder of them: the results may be moved while it runs
    code: str  # fingerprint
    ledger: Ledger
    stop: Callable[[], bool]  # asked once after every segment
    agree: Callable[[int], int]  # iterations done when told to stop -> those to stop after, of several hosts the same
    out: Callable[[], Path]  # the results
    origin: extend.Origin | None = None  # what the chunk's lanes continue
    keep: bool = False  # the states that its lanes end with
    until: int | None = None  # the iteration to stop the lanes after; their states are kept then


def compile_chunk(
    program: Program, chunk: Chunk, at_once: int | None, foresee: Callable[[float], None] = lambda seconds: None
) -> Compiled:
    """The program of a chunk, compiled for its number of lanes.

    Args:
        foresee: gets an estimate of the seconds that compiling all but `init` takes, before it begins; it is made at
            the pace that `init` was compiled at, which the cache of compiled programs speeds up alike.
    """
    clock = time.monotonic()
    static, count = chunk.program, len(chunk.lanes)
    packing = packing_for(count, at_once)
    last = iterations(static)
    marks = evaluation_points(last, static["evals"])
    at_most = SEGMENT_STEPS // (count * static["num_envs"] * static["num_steps"])
    segment = max(1, min(last, at_most, marks[0] if marks else last))
    lanes = lanes_of(program, packing, segment)

    values, keys = inputs(chunk, packing.devices)
    lowered = lanes.init.lower(values, keys)
    tick = time.monotonic()
    init = lowered.compile()
    pace = (time.monotonic() - tick) / _operations(lowered)
    states = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lanes.init, values, keys),
        init.output_shardings,
    )
    others = [lanes.run.lower(values, states, jnp.int32(1))]
    others += [lanes.evaluate.lower(values, keys, states)] if marks else []
    foresee(pace * sum(map(_operations, others)))
    run, evaluate = ([lowered.compile() for lowered in others] + [None])[:2]
    trained = jax.eval_shape(lanes.run, values, states, jnp.int32(1))[1]
    evaluated = jax.eval_shape(lanes.evaluate, values, keys, states) if marks else {}
    metrics = {**trained, **evaluated}
    # The states of a run are alive while it is evaluated, and count among the arguments of both.
    needed = max(compiled_bytes(compiled) for compiled in (init, run, evaluate) if compiled)
    seconds = time.monotonic() - clock
    return Compiled(
        packing, len(keys), segment, init, run, evaluate, states, tuple(metrics), tuple(evaluated), needed, seconds
    )


def _operations(lowered: jax.stages.Lowered) -> int:
    """Operations of a program; XLA's time for them differs less from program to program than anything else known."""
    return lowered.as_text().count(" = ")


def run_chunk(chunk: Chunk, compiled: Compiled, using: Resources) -> store.Chunk | None:
    """The finished chunk, or None if it was told to stop, after a checkpoint.

    Raises UserError when the chunk's newest checkpoint is that of another program.
    """
    static, count, packing, ledger = chunk.program, len(chunk.lanes), compiled.packing, using.ledger
    rows_per_iteration = static["num_envs"] * static["num_steps"]
    budget = iterations(static)
    marks = evaluation_points(budget, static["evals"])
    values, keys = inputs(chunk, compiled.rows)
    named = [{"lane": lane.id, "seed": lane.seed, "values": lane.values} for lane in chunk.lanes]
    ledger.tell({"kind": "begin", "chunk": chunk.id, "program": static, "lanes": named})
    done, states, curves, record = _begun(chunk, compiled, using, values, keys)
    last = budget if using.until is None else min(budget, max(using.until, done))
    jax.block_until_ready(states)
    ledger.found += count * done * rows_per_iteration
    # Kept as segments arrive, because finding them in curves that grow would cost more the longer a chunk runs.
    newest = {name: _newest(curve, np.full(count, np.nan)) for name, curve in curves.items()}

    def note(rows: dict[str, Any], at: slice) -> None:
        for name, row in rows.items():
            curves[name][:, at] = np.asarray(row)[:count].reshape(count, -1)[:, : at.stop - at.start]
            newest[name] = _newest(curves[name][:, at], newest[name])

    def save() -> float:
        record["run_seconds"] = before + time.monotonic() - started
        return _save(chunk, states, curves, done, record, using)

    before, started = record["run_seconds"], time.monotonic()
    saved, cost = started, FIRST_CHECKPOINT
    long: set[str] = set()
    ahead = 1
    due = done in marks  # the evaluation of what is made so far; that of a checkpoint is the same once more
    end = None  # iterations to stop after, once told to
    while done < last or due:
        tick = time.monotonic()
        if due:
            note(compiled.evaluate(values, evaluation_keys(keys, done), states), slice(done - 1, done))
            due, n, what = False, 0, "an evaluation"
        else:
            mark = next((mark for mark in marks if mark > done), last)
            n = min(compiled.segment, mark - done, ahead, (last if end is None else end) - done)
            states, metrics = compiled.run(values, states, jnp.int32(n))
            note(metrics, slice(done, done + n))
            done += n
            due, what = done in marks, "an iteration"
            ahead = max(1, min(GROWTH * ahead, int(SEGMENT_SECONDS * n / (time.monotonic() - tick))))
        now = time.monotonic()
        if now - tick > LONG and n <= 1 and what not in long:
            long.add(what)
            text = f"{what} of chunk {chunk.id} takes {now - tick:.0f} s: who wants to stop waits for its end"
            ledger.tell({"kind": "note", "text": text})
        means = {name: _mean(values) for name, values in newest.items()}
        if n:
            ledger.progress(count * n * rows_per_iteration, now - tick, means["return"])
        else:
            ledger.running += now - tick
        told = {name: mean for name, mean in means.items() if np.isfinite(mean)}
        step = done * rows_per_iteration
        if not due:
            ledger.tell({"kind": "metrics", "chunk": chunk.id, "iteration": done, "step": step, "values": told})
        if end is None and (done < last or due) and using.stop():
            end = min(max(done, using.agree(done)), done + ahead)  # another host may be further, by a segment at most
        stopping = end is not None and end <= done and (done < last or due)
        whole = (before + now - started) * last / done
        if stopping or (done < last and now - saved > _interval(cost, whole)):
            cost = save()
            saved = time.monotonic()
        if stopping:
            return None

    if continues := record.get("continues", {}):
        evaluations = [curves[name] for name in compiled.evaluated]
        continues = {**continues, "unevaluated": extend.unevaluated(continues, marks, evaluations)}
    curves = {name: curve[:, :last] for name, curve in curves.items()}
    finite = curves["finite"] > 0
    ended = "ok" if last == budget else "stopped"
    rows = [
        {
            **named[i],
            "status": ended if finite[i].all() else "diverged",
            "first_bad_iteration": None if finite[i].all() else int(finite[i].argmin()) + 1,
        }
        for i in range(count)
    ]
    numbers = np.arange(1, last + 1)
    finished = store.Chunk(
        program=static,
        lanes=rows,
        iterations=numbers,
        steps=numbers * rows_per_iteration,
        curves=curves,
        params={name: leaf[:count] for name, leaf in flat_arrays(states.agent).items()},
        code=using.code,
        sources=chunk.lanes[0].sources,
        timing={
            "started": record["started"],
            "compile_seconds": round(compiled.seconds, 3),
            "run_seconds": round(before + time.monotonic() - started, 3),
            "resumed_after": record["resumed_after"],
        },
        packing=record["packing"],
        environment=environment(packing),
        continues=continues,
    )
    if using.keep or last < budget:
        trimmed = jax.tree.map(lambda x: x[:count], states)
        extend.keep(using.out(), finished, done, trimmed, lambda text: ledger.tell({"kind": "note", "text": text}))
    return finished


def _begun(chunk: Chunk, compiled: Compiled, using: Resources, values, keys) -> tuple[int, PyTree, dict, dict]:
    """(iterations done, states, curves, record) of the newest checkpoint, or of a fresh start."""
    count, last = len(chunk.lanes), iterations(chunk.program)
    trimmed = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), compiled.states)
    curve = jax.ShapeDtypeStruct((count, last), np.float32)
    like = {"states": trimmed, "curves": dict.fromkeys(compiled.metrics, curve)}
    note = lambda sentence: using.ledger.tell({"kind": "note", "text": sentence})
    found = checkpoint.restore(using.checkpoints(), like, note, RECORD_FORM, most=last)
    packing = dict(compiled.packing._asdict())
    placed = lambda states: jax.tree.map(
        lambda x, shape: jax.device_put(x, shape.sharding), padded(states, compiled.rows), compiled.states
    )
    if found is None:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        curves = {name: np.full(curve.shape, np.nan, np.float32) for name in compiled.metrics}
        record = {"started": started, "run_seconds": 0.0, "resumed_after": [], "packing": packing}
        if (before := extend.continued(using.origin, chunk, trimmed, compiled.evaluated, note)) is None:
            return 0, compiled.init(values, keys), curves, record
        for name in before.curves.keys() & curves.keys():
            curves[name][:, : before.iteration] = before.curves[name]
        what = "stopped" if before.continues["lanes"].keys() & {*before.continues["lanes"].values()} else "shorter"
        note(f"chunk {chunk.id} continues {what} lanes after iteration {before.iteration} of {last}")
        record["packing"] = _packing_of_both(chunk, before.packing, packing, note)
        return before.iteration, placed(before.states), curves, {**record, "continues": before.continues}
    packing = _packing_of_both(chunk, found.record["packing"], packing, note)
    record = {**found.record, "packing": packing, "resumed_after": [*found.record["resumed_after"], found.step]}
    note(f"chunk {chunk.id} goes on after iteration {found.step} of {last}")
    curves = {name: np.array(curve) for name, curve in found.state["curves"].items()}
    return found.step, placed(found.state["states"]), curves, record


def _packing_of_both(chunk: Chunk, earlier: dict, packing: dict, note: Callable[[str], None]) -> dict:
    """The packing to record: what ran under another may differ in its last bits, so the record keeps both."""
    if {**earlier, "before": None} != {**packing, "before": None}:
        note(f"chunk {chunk.id} goes on under another packing than it began with; its record keeps both")
        return {**packing, "before": earlier}
    return earlier


def _save(chunk: Chunk, states: PyTree, curves: dict, done: int, record: dict, using: Resources) -> float:
    """Write a checkpoint and return the seconds that it took; a disk that refuses is told of and costs no result."""
    import orbax.checkpoint  # noqa: F401  (once, and no measure of what the next checkpoint costs)

    clock, folder = time.monotonic(), using.checkpoints()
    trimmed = jax.tree.map(lambda x: x[: len(chunk.lanes)], states)
    try:
        path = checkpoint.save(folder, done, {"states": trimmed, "curves": curves}, record)
    except OSError as error:
        why = disk.refusal(folder, error)
        text = f"cannot write a checkpoint to {folder}: {why}; chunk {chunk.id} runs on without"
        using.ledger.tell({"kind": "note", "text": text})
    else:
        seconds = time.monotonic() - clock
        using.ledger.tell({"kind": "checkpoint", "path": path, "iteration": done, "seconds": seconds})
    return time.monotonic() - clock


def _interval(cost: float, whole: float) -> float:
    """Seconds between two checkpoints, given what one costs and how long the chunk takes."""
    return max(cost / CHECKPOINT_SHARE, min(MOST_LOST, SHARE_LOST * whole))


def inputs(chunk: Chunk, multiple: int) -> tuple[dict[str, Any], Key]:
    values = stacked([lane.values for lane in chunk.lanes])
    return padded((values, keys_of([lane.seed for lane in chunk.lanes])), multiple)


def evaluation_keys(keys: Key, iteration: int) -> Key:
    """Keys ``[R]`` of an evaluation; apart from training's, which are what `split` makes of the same `keys`.

    (`split(key, n)[i]` is `fold_in(key, i)`, so folding in a small number alone would repeat one.)
    """
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, 2**31 + 1), iteration))(keys)


def flat_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """Leaves by path, "params/actor/Dense_0/kernel", on the host."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def environment(packing: Packing) -> dict:
    """Versions and hardware, for the manifest."""
    device = jax.local_devices()[0]
    return {
        "versions": installed(NUMERIC_DEPENDENCIES),
        "backend": packing.backend,
        "device_kind": device.device_kind,
        "devices": jax.local_device_count(),
        "prng": GENERATOR,
    }


def _newest(curve: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Newest measured value of each lane ``[R]`` in ``[R, K]``; `before` where there is none."""
    measured = np.isfinite(curve)
    at = curve.shape[1] - 1 - measured[:, ::-1].argmax(1)
    return np.where(measured.any(1), curve[np.arange(len(curve)), at], before)


def _mean(newest: np.ndarray) -> float:
    """Mean over the lanes that have a value; NaN while none has."""
    measured = np.isfinite(newest)
    return float(np.mean(newest[measured])) if measured.any() else float("nan")
