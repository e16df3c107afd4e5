"""The in-process executor: plan, compile, run, commit, chunk after chunk, on this process's devices.

A Python loop over compiled segments of a few seconds carries progress, evaluation and the census of diverged lanes;
nothing calls back from inside a program. A chunk counts once its manifest is committed; stopping at any moment loses
at most the running chunk, and running again does only what is missing.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.results import store
from jaxrl.signatures import NUMERIC_DEPENDENCIES, code_fingerprint, installed
from jaxrl.sweep.lanes import (
    Packing,
    compiled_bytes,
    keys_of,
    lanes_of,
    memory_limit,
    packing_for,
    padded,
    stacked,
    state_bytes,
)
from jaxrl.sweep.plan import Chunk, plan, split
from jaxrl.sweep.program import Program, build, check_values
from jaxrl.sweep.spec import Spec, iterations
from jaxrl.types import Key, PyTree

SEGMENT_STEPS = 2_000_000  # ours: environment steps, all lanes together, between two looks at a running program
MAX_CHUNK_LANES = 4096  # ours: bounds what one interruption can lose


class Summary(NamedTuple):
    """What a call of `run` did."""

    lanes: int  # of the whole spec
    skipped: int  # committed before
    chunks: tuple[Path, ...]  # committed by this call
    diverged: tuple[str, ...]  # lane ids among them
    steps: int  # environment steps made, evaluation and warm-up not counted
    compile_seconds: float
    run_seconds: float


def run(
    spec: Spec, out: str | Path, *, at_once: int | None = None, on_event: Callable[[dict], None] = lambda event: None
) -> Summary:
    """Run every lane of `spec` that is not committed under `out` yet.

    Args:
        at_once: lanes that one device runs together; by default one on a CPU, all on an accelerator.
        on_event: gets dicts with a `kind`:
            plan      programs, lanes, skipped, bytes (the states of all lanes to run)
            note      text
            compile   program (number, from 1), seconds, bytes (per device, everything the program needs)
            progress  done_steps, total_steps, steps_per_s, mean_return (NaN while no episode has ended)
            chunk     path, lanes, diverged (tuple of lane ids)
    """
    out, code = Path(out), code_fingerprint()
    everything = store.committed(out) if out.exists() else {}
    mine = store.committed(out, code=code) if out.exists() else {}
    if foreign := len(everything.keys() - mine.keys()):
        text = f"{foreign} lanes in {out} were written by other code; they are kept as they are and never mixed in"
        on_event({"kind": "note", "text": text})
    todo = plan(spec, mine, MAX_CHUNK_LANES)
    queue: deque[_Waiting] = deque()
    number, held = 0, 0
    for chunk in todo.chunks:
        if not queue or queue[-1].chunk.program != chunk.program:
            number, program = number + 1, build(chunk.program, spec.objects)
            ready: dict[int, _Compiled] = {}
            held_by_lane = state_bytes(program, chunk.lanes[0].values)
        for lane in chunk.lanes:
            check_values(program, lane.values)
        held += len(chunk.lanes) * held_by_lane
        queue.append(_Waiting(number, program, ready, chunk))
    on_event({"kind": "plan", "programs": number, "lanes": todo.lanes, "skipped": todo.skipped, "bytes": held})
    ledger = _Ledger(sum(len(waiting.chunk.lanes) * steps_of(waiting.chunk.program) for waiting in queue), on_event)
    paths: list[Path] = []
    diverged: list[str] = []
    while queue:
        waiting = queue.popleft()
        chunk = waiting.chunk
        count = len(chunk.lanes)
        if count not in waiting.ready:
            waiting.ready[count] = _compile(waiting, at_once, ledger)
        if waiting.ready[count].bytes > memory_limit() and count > 1:  # halves of it, whose lanes keep their ids
            queue.extendleft(waiting._replace(chunk=half) for half in reversed(split(chunk.lanes, -(-count // 2))))
            continue
        finished = _run_chunk(waiting, code, ledger)
        paths.append(store.write_chunk(out, finished))
        bad = tuple(lane["lane"] for lane in finished.lanes if lane["status"] == "diverged")
        diverged.extend(bad)
        on_event({"kind": "chunk", "path": paths[-1], "lanes": count, "diverged": bad})
    return Summary(
        todo.lanes, todo.skipped, tuple(paths), tuple(diverged), ledger.steps, ledger.compiling, ledger.running
    )


def sweep(out: str | Path, *, at_once: int | None = None, on_event=lambda event: None, **fields: Any):
    """Run the spec that the keyword arguments describe (see `jaxrl.sweep.spec.spec`) and return the curves of `out`.

    Returns:
        xarray.Dataset over (swept names..., seed, iteration), as `jaxrl.results.curves` gives it.
    """
    from jaxrl.results.query import curves
    from jaxrl.sweep.spec import spec

    run(spec(**fields), out, at_once=at_once, on_event=on_event)
    return curves(out)


def steps_of(static: dict) -> int:
    """Environment steps that a lane makes: whole iterations only."""
    return iterations(static) * static["num_envs"] * static["num_steps"]


@dataclasses.dataclass
class _Ledger:
    """Seconds and steps of a call of `run`, and the voice that tells of them."""

    total: int
    tell: Callable[[dict], None]
    steps: int = 0
    compiling: float = 0.0
    running: float = 0.0

    def progress(self, steps: int, seconds: float, mean_return: float) -> None:
        self.steps += steps
        self.running += seconds
        rate = self.steps / max(self.running, 1e-9)
        self.tell(
            {
                "kind": "progress",
                "done_steps": self.steps,
                "total_steps": self.total,
                "steps_per_s": rate,
                "mean_return": mean_return,
            }
        )


class _Compiled(NamedTuple):
    """The program of one number of lanes, compiled; nothing is allocated yet."""

    packing: Packing
    segment: int  # iterations that one call of `run` makes at most
    init: Any  # as `jaxrl.sweep.lanes.Lanes`
    run: Any
    evaluate: Any
    bytes: int  # per device, of the largest of the three
    seconds: float


class _Waiting(NamedTuple):
    """A chunk to run, and what the chunks of its program share."""

    number: int  # of the program, from 1
    program: Program
    ready: dict[int, _Compiled]  # by number of lanes
    chunk: Chunk


def _inputs(chunk: Chunk, packing: Packing) -> tuple[dict[str, Any], Key]:
    values = stacked([lane.values for lane in chunk.lanes])
    return padded((values, keys_of([lane.seed for lane in chunk.lanes])), packing.devices)


def _compile(waiting: _Waiting, at_once: int | None, ledger: _Ledger) -> _Compiled:
    clock = time.monotonic()
    static, count = waiting.chunk.program, len(waiting.chunk.lanes)
    packing = packing_for(count, at_once)
    last = iterations(static)
    marks = evaluation_points(last, static["evals"])
    at_most = SEGMENT_STEPS // (count * static["num_envs"] * static["num_steps"])
    segment = max(1, min(last, at_most, marks[0] if marks else last))
    lanes = lanes_of(waiting.program, packing, segment)

    values, keys = _inputs(waiting.chunk, packing)
    init = lanes.init.lower(values, keys).compile()
    states = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lanes.init, values, keys),
        init.output_shardings,
    )
    run = lanes.run.lower(values, states, jnp.int32(1)).compile()
    evaluate = lanes.evaluate.lower(values, keys, states).compile() if marks else None
    # The states of a run are alive while it is evaluated, and count among the arguments of both.
    needed = max(compiled_bytes(compiled) for compiled in (init, run, evaluate) if compiled)
    seconds = time.monotonic() - clock
    ledger.compiling += seconds
    ledger.tell({"kind": "compile", "program": waiting.number, "seconds": seconds, "bytes": needed})
    return _Compiled(packing, segment, init, run, evaluate, needed, seconds)


def _run_chunk(waiting: _Waiting, code: str, ledger: _Ledger) -> store.Chunk:
    chunk, compiled = waiting.chunk, waiting.ready[len(waiting.chunk.lanes)]
    static, count, packing = chunk.program, len(chunk.lanes), compiled.packing
    rows_per_iteration = static["num_envs"] * static["num_steps"]
    last = iterations(static)
    marks = evaluation_points(last, static["evals"])
    started = datetime.now(UTC)
    values, keys = _inputs(chunk, packing)
    states = compiled.init(values, keys)

    curves: dict[str, np.ndarray] = {}

    def record(rows: dict[str, Any], at: slice) -> None:
        for name, row in rows.items():
            curve = curves.setdefault(name, np.full((count, last), np.nan, np.float32))
            curve[:, at] = np.asarray(row)[:count].reshape(count, -1)[:, : at.stop - at.start]

    done = 0
    run_clock = time.monotonic()
    while done < last:
        tick = time.monotonic()
        ahead = next((mark for mark in marks if mark > done), last) - done
        n = min(compiled.segment, ahead)
        states, metrics = compiled.run(values, states, jnp.int32(n))
        record(metrics, slice(done, done + n))
        done += n
        if done in marks:
            k_evaluate = evaluation_keys(keys, done)
            record(compiled.evaluate(values, k_evaluate, states), slice(done - 1, done))
        ledger.progress(count * n * rows_per_iteration, time.monotonic() - tick, _mean(curves["return"][:, :done]))

    finite = curves["finite"] > 0
    rows = [
        {
            "lane": lane.id,
            "seed": lane.seed,
            "values": lane.values,
            "status": "ok" if finite[i].all() else "diverged",
            "first_bad_iteration": None if finite[i].all() else int(finite[i].argmin()) + 1,
        }
        for i, lane in enumerate(chunk.lanes)
    ]
    numbers = np.arange(1, last + 1)
    return store.Chunk(
        program=static,
        lanes=rows,
        iterations=numbers,
        steps=numbers * rows_per_iteration,
        curves=curves,
        params={name: leaf[:count] for name, leaf in flat_arrays(states.agent).items()},
        code=code,
        sources=chunk.lanes[0].sources,
        timing={
            "started": started.isoformat(timespec="seconds"),
            "compile_seconds": round(compiled.seconds, 3),
            "run_seconds": round(time.monotonic() - run_clock, 3),
        },
        packing=dict(packing._asdict()),
        environment=environment(packing),
    )


def evaluation_keys(keys: Key, iteration: int) -> Key:
    """Keys ``[R]`` of an evaluation; apart from training's, which are what `split` makes of the same `keys`.

    (`split(key, n)[i]` is `fold_in(key, i)`, so folding in a small number alone would repeat one.)
    """
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, 2**31 + 1), iteration))(keys)


def evaluation_points(last: int, evals: int) -> list[int]:
    """Iterations after which to evaluate: `evals` of them, evenly spaced, the last always; all if there are fewer."""
    evals = min(evals, last)
    return [round(last * (i + 1) / evals) for i in range(evals)]


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
        "prng": str(jax.random.key_impl(jax.random.key(0))),
    }


def _mean(returns: np.ndarray) -> float:
    """Mean over lanes of the newest finished return of each; NaN while there is none."""
    measured = np.isfinite(returns)
    if not measured.any():
        return float("nan")
    newest = returns.shape[1] - 1 - measured[:, ::-1].argmax(1)
    return float(np.mean(returns[np.arange(len(returns)), newest][measured.any(1)]))
