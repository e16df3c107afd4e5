"""What a spec would cost on this machine, from compiling few lanes of each program and running them a moment.

Everything is an estimate: how long XLA compiles from the size of what it is given, how long lanes run from a pace that
was measured on few of them. Nothing is written.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from jaxrl.display import duration, size
from jaxrl.results import store
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.draws import extremes
from jaxrl.spec.fields import iterations
from jaxrl.spec.settings import Spec
from jaxrl.sweep.chunk import Compiled, compile_chunk, evaluation_points, inputs
from jaxrl.sweep.lanes import memory_limit, state_bytes
from jaxrl.sweep.plan import Chunk, Lane, lanes, programs
from jaxrl.sweep.program import build, check_values
from jaxrl.sweep.run import MAX_CHUNK_LANES, steps_of

TRYING = 120.0  # ours, seconds that compiling and trying all programs may take; what is left over is not measured
PACE_SECONDS = 2.0  # ours, of running that a pace is measured on
TOGETHER = 32  # ours, lanes of an accelerator that a pace is measured on: fewer would say little of many


class Cost(NamedTuple):
    """Of the lanes of one program that are not committed yet."""

    lanes: int
    iterations: int  # of each
    steps: int  # environment steps of all
    state: int  # bytes of one lane's
    curves: int  # bytes that the curves of all take, 0 where unknown
    memory: int  # bytes per device of a chunk with as many lanes as fit, or as there are; 0 where unknown
    chunks: int
    compiling: float  # seconds
    running: float | None  # seconds; None where the program was not tried


class Forecast(NamedTuple):
    programs: tuple[Cost, ...]
    lanes: int  # of the whole spec
    skipped: int  # committed before
    points: str  # of a search: what stands for points that are not known yet
    devices: str
    limit: int  # bytes that one device may take


class _TooLong(Exception):
    """Compiling is estimated to take longer than there is left to try."""


def forecast(
    spec: Spec, out: str | Path, *, at_once: int | None = None, tell: Callable[[str], None] = lambda text: None
) -> Forecast:
    """What running every lane of `spec` that is not committed under `out` would take.

    Args:
        at_once: lanes that one device runs together; by default one on a CPU, all on an accelerator.
        tell: gets a sentence before each program is tried.

    Raises UserError as a run would.
    """
    out, points, times = Path(out), "", 1.0
    if spec.optuna:
        search = spec.optuna
        spec = spec._replace(optuna=None, zip=extremes(search.space))
        corners = max(map(len, spec.zip.values()), default=1)
        times = search.trials / corners
        points = f"{search.trials} trials x {len(spec.seeds)} seeds, estimated at {corners} corners of the search"
    if spec.halving:
        tell("[halving] stops lanes early: what follows is what all of them would take to their ends")
    everything = lanes(spec)
    mine = store.committed(out, code=code_fingerprint()) if out.exists() and not points else {}
    groups = [(static, [lane for lane in group if lane.id not in mine]) for static, group in programs(everything)]
    groups = [(static, group) for static, group in groups if group]
    found, give_up = [], time.monotonic() + TRYING
    with without_cache():
        for number, (static, group) in enumerate(groups, 1):
            tell(f"trying program {number} of {len(groups)}")
            count = max(1, round(len(group) * times))
            found.append(_cost(spec, static, tuple(group), count, at_once, give_up))
    device = jax.local_devices()[0]
    devices = f"{jax.local_device_count()} devices ({device.device_kind})"
    whole = max(1, round(len(everything) * times))
    skipped = len(mine.keys() & {lane.id for lane in everything})
    return Forecast(tuple(found), whole, skipped, points, devices, memory_limit())


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
    """Compiling takes its time, also of what was compiled before."""
    cached = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # which remembers whether it is in use
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
        compilation_cache.reset_cache()


def _cost(
    spec: Spec, static: dict[str, Any], group: tuple[Lane, ...], count: int, at_once: int | None, give_up: float
) -> Cost:
    program, devices, last = build(static, spec.objects), jax.local_device_count(), iterations(static)
    for lane in group:
        check_values(program, lane.values)
    program.check(group[0].values)
    state = state_bytes(program, group[0].values)
    few = min(len(group), devices * (1 if jax.default_backend() == "cpu" else TOGETHER))
    chunk = Chunk("forecast", static, group[:few])
    steps, foreseen = count * steps_of(static), 0.0

    def foresee(seconds: float) -> None:
        nonlocal foreseen
        foreseen = seconds
        if time.monotonic() + seconds > give_up:
            raise _TooLong

    try:
        compiled = compile_chunk(program, chunk, at_once, foresee)
    except _TooLong:
        return Cost(count, last, steps, state, 0, 0, -(-count // MAX_CHUNK_LANES), foreseen, None)
    iteration, evaluation = _pace(compiled, chunk)
    marks = len(evaluation_points(last, static["evals"]))
    rounds = count / few  # of as many lanes as were tried, one after the other
    running = rounds * (last * iteration + marks * evaluation)
    here = -(-few // devices)
    lane_bytes = state + 4 * len(compiled.metrics) * min(last, compiled.segment)
    fixed = max(0, compiled.bytes - here * lane_bytes)
    fit = devices * max(1, int((memory_limit() - fixed) // lane_bytes))
    most = min(count, fit, MAX_CHUNK_LANES)
    chunks = -(-count // most)
    memory = fixed + -(-most // devices) * lane_bytes
    curves = 4 * count * len(compiled.metrics) * last
    sizes = 1 + (count % most > 0 and chunks > 1)  # the last chunk is smaller, and so another program for XLA
    return Cost(count, last, steps, state, curves, memory, chunks, sizes * compiled.seconds, running)


def _pace(compiled: Compiled, chunk: Chunk) -> tuple[float, float]:
    """Seconds of an iteration and of an evaluation of the lanes of a chunk."""
    values, keys = inputs(chunk, compiled.rows)
    states = jax.block_until_ready(compiled.init(values, keys))
    made, seconds, n, last = 0, 0.0, 1, iterations(chunk.program)
    best = float("inf")
    while made < last and seconds < PACE_SECONDS:
        n = min(n, compiled.segment, last - made)
        clock = time.monotonic()
        states, metrics = compiled.run(values, states, jnp.int32(n))
        jax.block_until_ready(metrics)
        took = time.monotonic() - clock
        best = min(best, took / n)
        made, seconds, n = made + n, seconds + took, 2 * n
    if compiled.evaluate is None:
        return best, 0.0
    clock = time.monotonic()
    jax.block_until_ready(compiled.evaluate(values, keys, states))
    return best, time.monotonic() - clock


def text(found: Forecast, name: str) -> str:
    """A forecast in lines."""
    rows = [f"dry run of {name!r}: nothing is written, everything is an estimate"]
    steps = sum(cost.steps for cost in found.programs)
    plan = f"plan: {len(found.programs)} programs, {found.lanes:,} lanes, {found.skipped:,} committed before"
    rows.append(f"{plan}, {steps:,} environment steps to make")
    if found.points:
        rows.append(f"search: {found.points}")
    for number, cost in enumerate(found.programs, 1):
        each = cost.steps // cost.lanes
        rows.append(
            f"program {number}: {cost.lanes:,} lanes x {each:,} steps ({cost.iterations:,} iterations), "
            f"{size(cost.state)} of state a lane"
        )
        if cost.running is None:
            rows.append(f"  compiles for about {duration(cost.compiling)}, so it was not tried: its pace is not known")
            continue
        rows.append(
            f"  {cost.chunks:,} chunks, each {size(cost.memory)} of {size(found.limit)} a device; "
            f"curves {size(cost.curves)} in all"
        )
        rows.append(f"  compiles for {duration(cost.compiling)}, runs for {duration(cost.running)}")
    known = [cost.running for cost in found.programs if cost.running is not None]
    whole = sum(known) + sum(cost.compiling for cost in found.programs)
    least = "" if len(known) == len(found.programs) else "more than "
    rows.append(f"in all {least}about {duration(whole)} on {found.devices}; expect it within a factor of three")
    return "\n".join(rows)
