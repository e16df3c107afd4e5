"""The in-process executor: plan, claim, compile, run, commit, chunk after chunk, on this process's devices.

A chunk counts once its manifest is committed. Stopping at any moment loses at most what the running chunk did since
its newest checkpoint, and running again does only what is missing; other processes may work on the same directory.
"""

import functools
import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxrl import checkpoint, disk
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.fields import iterations
from jaxrl.spec.settings import Spec
from jaxrl.sweep import extend
from jaxrl.sweep.chunk import Compiled, Ledger, Resources, compile_chunk, run_chunk
from jaxrl.sweep.claims import FOLDER, Claim, Claims
from jaxrl.sweep.lanes import memory_limit, most_lanes, packing_for, state_bytes
from jaxrl.sweep.ledger import warn_of_length, warning_of_compiling
from jaxrl.sweep.plan import Chunk, Lane, lanes, packs, programs
from jaxrl.sweep.program import build, check_values

MAX_CHUNK_LANES = 4096  # ours: bounds what one interruption can lose
SMALL = 0.05  # ours: states that take less of the memory than this need no plan
NO_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")  # the second alone when a CPU refuses in the middle of a program
POLL = 1.0  # ours, seconds between two looks at lanes that another process runs
KEPT_PROGRAMS, KEPT_SIZES = 16, 4  # ours: of a search, and of each the numbers of lanes; bounds the memory they take


class Summary(NamedTuple):
    """What a call of `run` did."""

    lanes: int  # of the whole spec
    skipped: int  # committed before
    chunks: tuple[Path, ...]  # committed by this call
    diverged: tuple[str, ...]  # lane ids among them
    steps: int  # environment steps made, evaluation and warm-up not counted
    compile_seconds: float
    run_seconds: float
    stopped: bool  # told to, before everything was committed


def run(
    spec: Spec,
    out: str | Path,
    *,
    at_once: int | None = None,
    only: Collection[str] | None = None,
    keep_state: bool = False,
    until: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    agree: Callable[[int], int] = lambda done: done,
    on_event: Callable[[dict], None] = lambda event: None,
    kept: dict[str, "Job"] | None = None,
) -> Summary:
    """Run every lane of `spec` that is not committed under `out` yet.

    Args:
        at_once: lanes that one device runs together; by default one on a CPU, all on an accelerator.
        only: ids of the lanes to run, by default all of the spec's.
        keep_state: keep the states that lanes end with, so that a later run of more steps goes on from them.
        until: the iteration to stop lanes after that have more: they are committed as stopped, with their states, and
            a later run goes on from there. By default every lane runs to its end.
        stop: asked once after every segment of a few seconds; when it says so, a checkpoint is written and `run` ends.
        agree: the iteration to end after, given the one at which `stop` said so: processes that stop together agree.
        on_event: gets dicts with a `kind`:
            plan        programs, lanes, skipped, steps (of all lanes to run), bytes (their states)
            note        text
            compile     program (number, from 1), seconds, bytes (per device, everything the program needs)
            begin       chunk (its id), program, lanes (lane, seed and values of each)
            progress    done_steps, total_steps, steps_per_s, mean_return (NaN while no episode has ended)
            metrics     chunk, iteration, step, values (mean over lanes of the newest of each metric)
            checkpoint  path, iteration, seconds
            end of chunk  chunk; whether it was committed, put off or failed, nothing of it is unsaved any more
            chunk       path, lanes, diverged (tuple of lane ids)
        kept: what earlier calls with the same dict compiled, so that nothing is compiled twice; empty at first.
    """
    out, code, kept = Path(out), code_fingerprint(), {} if kept is None else kept
    everything = [lane for lane in lanes(spec) if only is None or lane.id in only]
    for sentence in store.set_damaged_aside(out, code, {lane.id for lane in everything}) if out.exists() else ():
        on_event({"kind": "note", "text": sentence})
    last = math.inf if until is None else until
    everywhere, mine = (store.committed(out, one, until=last) if out.exists() else {} for one in (None, code))
    if foreign := len(everywhere.keys() - mine.keys()):
        text = f"{foreign} lanes in {out} were written by other code; they are kept as they are and never mixed in"
        on_event({"kind": "note", "text": text})
    _forget_finished(out)
    waiting_for = [lane for lane in everything if lane.id not in mine]
    note = lambda text: on_event({"kind": "note", "text": text})
    starts = extend.origins(out, waiting_for, spec.objects, code, note, last)
    before = [mine[lane.id] for lane in everything if lane.id in mine]
    if keep_state and (stateless := extend.without(out, before)):
        text = f"{len(stateless)} lanes were committed before without their states: keep_state keeps those that run now"
        on_event({"kind": "note", "text": text})
    jobs: list[Job] = []
    held, steps = 0, 0
    for static, group in programs(everything):
        if waiting := [lane for lane in group if lane.id not in mine]:
            jobs.append(job := _job(kept, len(jobs) + 1, group, spec.objects, at_once))
            for lane in waiting:
                check_values(job.program, lane.values)
            job.program.check(waiting[0].values)
            held += len(waiting) * job.state_bytes
            steps += len(waiting) * steps_of(static, until)
    skipped = sum(lane.id in mine for lane in everything)
    plan = {"kind": "plan", "programs": len(jobs), "lanes": len(everything), "skipped": skipped, "bytes": held}
    made = sum(steps_of(lane.program, starts[lane.id].iteration) for lane in waiting_for if lane.id in starts)
    on_event({**plan, "steps": steps - made})
    warn_of_length(steps - made, jax.default_backend(), jax.local_device_count(), on_event)

    ledger, claims = Ledger(steps, on_event), Claims(out)
    place = claims.place
    ended = lambda: stop() or place.is_gone()
    paths: list[Path] = []
    diverged: list[str] = []
    told_to_stop, told_of_waiting = False, False
    while not told_to_stop and (left := _left(jobs, _committed(place, code, last), starts)):
        if told_to_stop := ended():  # at the end of a chunk, say: nothing may be begun, nothing is lost
            break
        taken = next(((job, chunk, claim) for job, chunk in left if (claim := _claim(claims, chunk))), None)
        if taken is None:
            if not told_of_waiting:
                others = sum(len(chunk.lanes) for _, chunk in left)
                owner = claims.owner([lane.id for _, chunk in left for lane in chunk.lanes])
                on_event({"kind": "note", "text": f"waiting for {others} lanes that {owner} runs"})
                told_of_waiting = True
            time.sleep(POLL)
            continue
        job, chunk, claim = taken
        try:
            if _committed(place, code, last).keys() & {lane.id for lane in chunk.lanes}:
                continue  # another process committed and let go between the look at what is left and the claim
            if (compiled := job.compiled(chunk, ledger)) is None:
                continue  # it does not fit, and is cut smaller the next time
            checkpoints, origin = functools.partial(claims.checkpoints, chunk.id), starts.get(chunk.lanes[0].id)
            using = Resources(checkpoints, code, ledger, ended, agree, place.now, origin, keep_state, until)
            finished = _run(job, chunk, compiled, using)
            if finished is None:
                if not (told_to_stop := job.fits(chunk)):  # halved, and no half can go on from its checkpoints
                    checkpoint.forget(checkpoints())
                continue
            if not place.is_lost() and not claims.is_mine(claim):
                text = f"chunk {chunk.id} was taken over by another process while this one was suspended"
                on_event({"kind": "note", "text": text})
                continue
            if told_to_stop := place.is_lost():
                continue
            job.lane_seconds = finished.timing["run_seconds"] / compiled.rows
            finished = finished._replace(timing={**finished.timing, "cuts": job.cuts})
            paths.append(store.write_chunk(place.now(), finished))
            checkpoint.forget(checkpoints())
        finally:
            claims.release(claim)
            on_event({"kind": "end of chunk", "chunk": chunk.id})
        bad = tuple(lane["lane"] for lane in finished.lanes if lane["status"] == "diverged")
        diverged.extend(bad)
        on_event({"kind": "chunk", "path": paths[-1], "lanes": len(chunk.lanes), "diverged": bad})
    if place.is_gone():
        raise place.moved()
    return Summary(
        len(everything),
        skipped,
        tuple(paths),
        tuple(diverged),
        ledger.steps,
        ledger.compiling,
        ledger.running,
        told_to_stop,
    )


def sweep(
    out: str | Path,
    *,
    at_once: int | None = None,
    keep_state: bool = False,
    on_event=lambda event: None,
    **fields: Any,
):
    """Run the spec that the keyword arguments describe (see `jaxrl.spec.spec.spec`) and return the curves of `out`.

    With `keep_state`, a later call of more steps goes on from what this one ends with.

    Returns:
        xarray.Dataset over (swept names..., seed, iteration), as `jaxrl.results.curves` gives it.
    """
    from jaxrl.results.query import curves
    from jaxrl.spec.spec import spec
    from jaxrl.sweep.halving import halve
    from jaxrl.sweep.tune import tune

    made = spec(**fields)
    kept: dict[str, Job] = {}
    start = functools.partial(run, out=out, at_once=at_once, keep_state=keep_state, on_event=on_event, kept=kept)
    if made.optuna:
        tune(made, out, start, on_event)
    elif made.halving:
        halve(made, out, start, on_event)
    else:
        start(made)
    return curves(out)


def steps_of(static: dict, until: int | None = None) -> int:
    """Environment steps that a lane makes, to its end or to iteration `until`: whole iterations only."""
    last = iterations(static) if until is None else min(until, iterations(static))
    return last * static["num_envs"] * static["num_steps"]


class Job:
    """A program, its lanes, what was compiled for them, and what was learned of how many of them fit."""

    def __init__(self, lanes: tuple[Lane, ...], objects: Mapping[str, Callable], at_once: int | None):
        self.number = 1
        self.program = build(lanes[0].program, objects)
        self.lanes = lanes
        self.objects = objects  # of which `kept` knows the identities
        self.at_once = at_once
        self.most = MAX_CHUNK_LANES  # lanes of a chunk
        self.planned = False
        self.cuts: list[str] = []  # why `most` is less, a sentence each
        self.by_lanes: dict[int, Compiled] = {}  # the newest last
        self.lane_seconds = math.inf  # of the newest chunk, its training alone

    @functools.cached_property
    def state_bytes(self) -> int:
        """Of one lane."""
        return state_bytes(self.program, self.lanes[0].values)

    def fits(self, chunk: Chunk) -> bool:
        return len(chunk.lanes) <= self.most

    def compiled(self, chunk: Chunk, ledger: Ledger) -> Compiled | None:
        """The program for the lanes of a chunk; None when they are too many, and `most` is smaller then."""
        count, limit = len(chunk.lanes), memory_limit()
        devices = jax.local_device_count()
        if ready := self._ready(count):
            return ready._replace(seconds=0.0)
        large = count * self.state_bytes > SMALL * limit * devices
        if large and count > 2 * devices and not self.planned:
            self.planned = True
            some = lambda lanes: compile_chunk(self.program, chunk._replace(lanes=chunk.lanes[:lanes]), self.at_once)
            if (most := most_lanes(lambda lanes: some(lanes).bytes, devices, count, limit)) < count:
                self._cut(chunk, ledger, "would not fit in memory", most)
                return None
        try:
            compiled = compile_chunk(self.program, chunk, self.at_once, warning_of_compiling(self.number, ledger.tell))
        except jax.errors.JaxRuntimeError as error:
            self.out_of_memory(chunk, ledger, error)
            return None
        ledger.compiling += compiled.seconds
        event = {"kind": "compile", "program": self.number, "seconds": compiled.seconds, "bytes": compiled.bytes}
        ledger.tell(event)
        if compiled.bytes > limit and count > 1:
            self._cut(chunk, ledger, "would not fit in memory", -(-count // 2))
            return None
        self.by_lanes[count] = compiled
        while len(self.by_lanes) > KEPT_SIZES:
            del self.by_lanes[next(iter(self.by_lanes))]
        return compiled

    def _ready(self, count: int) -> Compiled | None:
        """What is compiled for so many lanes; or for more, where copies of a lane cost less time than compiling.

        The latter only where no bit can differ: of lanes that run one after the other, two or more on each device.
        """
        if compiled := self.by_lanes.get(count):
            return compiled
        packing = packing_for(count, self.at_once)
        if packing.at_once > 1 or count <= packing.devices:
            return None
        for compiled in self.by_lanes.values():
            spare = (compiled.rows - count) * self.lane_seconds
            if compiled.rows > count and compiled.packing == packing and spare < compiled.seconds:
                return compiled
        return None

    def out_of_memory(self, chunk: Chunk, ledger: Ledger, error: Exception) -> None:
        """Half as many lanes the next time; raises what is no want of memory, and UserError for a single lane."""
        if not any(words in str(error) for words in NO_MEMORY):
            raise error
        if (count := len(chunk.lanes)) == 1:
            needed = self.by_lanes[1].bytes if 1 in self.by_lanes else 0
            text = f"one lane alone needs more memory than the device has ({needed:,} bytes planned, {memory_limit():,}"
            raise UserError(f"{text} at most): lower num_envs, num_steps or the networks' sizes") from error
        self.by_lanes = {lanes: compiled for lanes, compiled in self.by_lanes.items() if lanes < count}
        self._cut(chunk, ledger, "ran out of memory", -(-count // 2))

    def _cut(self, chunk: Chunk, ledger: Ledger, why: str, most: int) -> None:
        self.most = most
        self.cuts.append(f"{len(chunk.lanes)} lanes of program {self.number} {why}: {most} at a time now")
        ledger.tell({"kind": "note", "text": self.cuts[-1]})


def _job(
    kept: dict[str, Job], number: int, lanes: tuple[Lane, ...], objects: Mapping[str, Callable], at_once: int | None
) -> Job:
    """The job of an earlier call, with these lanes, where its program, its code and its packing are the same."""
    first = lanes[0]
    own = [id(objects[name]) for name in first.sources if name in objects]
    key = json.dumps([first.program, first.sources, code_fingerprint(), own, at_once], sort_keys=True)
    kept[key] = job = kept.pop(key, None) or Job(lanes, objects, at_once)
    job.number, job.lanes = number, lanes
    while len(kept) > KEPT_PROGRAMS:
        del kept[next(iter(kept))]
    return job


def _left(jobs: list[Job], committed: Collection[str], starts: dict[str, Any]) -> list[tuple[Job, Chunk]]:
    return [(job, chunk) for job in jobs for chunk in packs(job.lanes, job.most, committed, starts)]


def _claim(claims: Claims, chunk: Chunk) -> Claim | None:
    try:
        return claims.take(chunk.id, [lane.id for lane in chunk.lanes])
    except OSError as error:
        raise UserError(f"cannot write to {claims.folder}: {disk.refusal(claims.folder, error)}") from error


def _run(job: Job, chunk: Chunk, compiled: Compiled, using: Resources) -> store.Chunk | None:
    try:
        return run_chunk(chunk, compiled, using)
    except jax.errors.JaxRuntimeError as error:
        job.out_of_memory(chunk, using.ledger, error)
        return None


def _forget_finished(out: Path) -> None:
    """Delete checkpoints of chunks whose commit was the last thing that a killed process did."""
    if not (out / FOLDER).is_symlink():
        for folder in (out / FOLDER).glob("*/"):
            if (out / folder.name / store.MANIFEST).exists():
                checkpoint.forget(folder)


def _committed(place: disk.Directory, code: str, until: float) -> dict[str, Path]:
    return store.committed(now, code, until=until) if (now := place.now()).is_dir() else {}
