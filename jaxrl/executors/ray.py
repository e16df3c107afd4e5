"""The Ray executor: one Ray Core task per chunk, each the in-process executor on lanes of its own. No jax here.

The results directory, on storage that all machines share, is the queue: Ray holds nothing that is needed again. A task
whose worker dies is retried and goes on from the chunk's checkpoint; losing the cluster loses what its running chunks
did since theirs. Lanes are cut alike at every start, as long as the cluster has as many workers.
"""

import contextlib
import math
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxrl.errors import UserError
from jaxrl.executors.ray_cluster import Workers, connected, wanted, workers
from jaxrl.executors.ray_tasks import Expected, follow, merged
from jaxrl.executors.ray_worker import Errand, home
from jaxrl.results import store
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.settings import Spec
from jaxrl.sweep.claims import FOLDER
from jaxrl.sweep.plan import Chunk, Lane, lanes, packs, programs

if TYPE_CHECKING:
    from jaxrl.sweep.run import Summary


def run(
    spec: Spec,
    out: str | Path,
    *,
    at_once: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    keep_state: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_event: Callable[[dict], None] = lambda event: None,
) -> "Summary":
    """Run every lane of `spec` that is not committed under `out` yet, as `jaxrl.sweep.run.run` does, on a Ray cluster.

    A Ray that this process is connected to already is used as it is.

    Args:
        at_once: lanes that one device runs together, as there.
        address: "auto" or "HOST:PORT" of a cluster; by default one is started on this machine until the call ends.
        cpus: of a task, by default all of a machine's (of the smallest one's), or one beside its GPUs.
        gpus: of a task, by default one if the cluster has any.
        keep_state: as there.
        stop: asked every second; when it says so, tasks write their checkpoints and end, within 20 seconds.
        on_event: gets what it gets there, of all tasks; `progress` is that of all together, and the plan's `bytes` 0.

    Raises:
        UserError: chunks that failed, with their sentences, once all others are committed; no cluster at the address,
            or none with room for a task.
    """
    wanted("ray", address, cpus, gpus)
    from jaxrl.sweep.run import MAX_CHUNK_LANES, Summary, steps_of

    out = Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    everything, code = lanes(spec), code_fingerprint()
    for sentence in store.set_damaged_aside(out, code, {lane.id for lane in everything}):
        on_event({"kind": "note", "text": sentence})
    committed = store.committed(out, code=code)
    groups = [group for _, group in programs(everything)]
    waiting = [group for group in groups if any(lane.id not in committed for lane in group)]
    skipped = sum(lane.id in committed for lane in everything)
    plan = {"kind": "plan", "programs": len(waiting), "lanes": len(everything), "skipped": skipped, "bytes": 0}
    on_event({**plan, "steps": sum(steps_of(lane.program) for lane in everything if lane.id not in committed)})
    if not waiting:
        return Summary(len(everything), skipped, (), (), 0, 0.0, 0.0, False)

    with connected(address, on_event), _marked(out) as mark:
        size = workers(cpus, gpus)
        chunks = cut(groups, committed, size, MAX_CHUNK_LANES)
        text = f"{len(chunks)} chunks on Ray, {size.slots} at a time with {size.cpus} CPUs and {size.gpus} GPUs each"
        on_event({"kind": "note", "text": text})
        here = home(spec.objects, {name for lane in everything for name in lane.sources if ":" in name})
        errands = [Errand(chunk.id, _ids(chunk), out, mark, at_once, size.cpus, here, keep_state) for chunk in chunks]
        number = {lane.id: n for n, group in enumerate(waiting, 1) for lane in group}
        steps = [len(chunk.lanes) * steps_of(chunk.program) for chunk in chunks]
        expected = {c.id: Expected(number[c.lanes[0].id], each) for c, each in zip(chunks, steps, strict=True)}
        results, stopped = follow(spec, errands, size, stop, merged(expected, on_event))
        if faults := {chunk: result.fault for chunk, result in results.items() if result.fault}:
            listed = "; ".join(f"chunk {chunk}: {fault}" for chunk, fault in faults.items())
            raise UserError(f"{len(faults)} of {len(chunks)} chunks failed, the others are committed: {listed}")
    done = [result.summary for result in results.values() if result.summary]
    return Summary(
        len(everything),
        skipped,
        tuple(path for each in done for path in each.chunks),
        tuple(lane for each in done for lane in each.diverged),
        sum(each.steps for each in done),
        sum(each.compile_seconds for each in done),
        sum(each.run_seconds for each in done),
        stopped,
    )


def cut(groups: Sequence[tuple[Lane, ...]], committed: Collection[str], size: Workers, most: int) -> list[Chunk]:
    """What is left of the lanes of all programs, in chunks of at most `most`: fewer where workers would be idle.

    Nothing that is committed changes how lanes are cut, so a later start finds the checkpoints of this one.
    """
    if sum(math.ceil(len(group) / most) for group in groups) < size.slots:
        share = math.ceil(sum(map(len, groups)) / size.slots)
        devices = 1 if size.gpus else size.cpus
        most = min(most, devices * math.ceil(share / devices))
    return [chunk for group in groups for chunk in packs(group, most, committed)]


@contextlib.contextmanager
def _marked(out: Path) -> Iterator[str]:
    """The name of an empty file that tells `out` from a directory of the same name on another machine."""
    mark = out / FOLDER / f"{uuid.uuid4().hex}.driver"
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    try:
        yield mark.name
    finally:
        mark.unlink(missing_ok=True)


def _ids(chunk: Chunk) -> tuple[str, ...]:
    return tuple(lane.id for lane in chunk.lanes)
