"""The tasks of the Ray executor, as the driver sees them: sent, listened to, told to stop. Neither Ray nor jax here."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxrl.errors import UserError
from jaxrl.executors.ray_cluster import RETRIES, Workers
from jaxrl.executors.ray_worker import ANSWER, Errand, Relay, Result, work
from jaxrl.spec.settings import Spec

LOOK = 1.0  # ours, seconds between two looks at the tasks
STOPPING = 20.0  # ours, seconds: a segment, a checkpoint and some more; a machine taken away gives half a minute


class Expected(NamedTuple):
    """Of a chunk."""

    program: int  # its number, from 1
    steps: int  # of all its lanes


def follow(
    spec: Spec,
    errands: Sequence[Errand],
    size: Workers,
    stop: Callable[[], bool],
    tell: Callable[[str, dict], None],
) -> tuple[dict[str, Result], bool]:
    """Send a task on every errand; results by chunk, and whether the tasks were told to stop.

    What interrupts this process, an exception, is raised again once the tasks have ended; at once while none of them
    has begun a chunk, because nothing is unsaved then.
    """
    import ray

    relay = ray.remote(num_cpus=0, max_restarts=-1)(Relay).remote()
    task = ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_retries=RETRIES)(work)
    try:
        sent = [ray.put(spec)]
    except Exception as error:  # whatever the user's objects raise when they are pickled
        raise UserError(f"{', '.join(spec.objects)} cannot be sent to Ray's workers: {error}") from error
    tasks = {task.remote(errand, sent, relay): errand.chunk for errand in errands}
    results: dict[str, Result] = {}
    stopping, deadline, interruption = False, math.inf, None
    running: set[str] = set()  # chunks with something to save

    def heard(chunk: str, event: dict) -> None:
        if event["kind"] in ("begin", "end of chunk"):
            (running.add if event["kind"] == "begin" else running.discard)(chunk)
        tell(chunk, event)

    try:
        while tasks and time.monotonic() < deadline:
            try:
                ready, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=LOOK)
                for chunk, event in _heard(relay, stopping):
                    heard(chunk, event)
                for one in ready:
                    chunk = tasks.pop(one)
                    results[chunk] = result = _result(one)
                    for event in result.events:
                        heard(chunk, event)
                    if result.fault:
                        tell(chunk, {"kind": "note", "text": f"chunk {chunk} failed: {result.fault}"})
                asked = stop()
            except Exception:
                raise
            except BaseException as error:  # Ctrl-C, or another signal that a handler turned into an exception
                if stopping or not running:
                    raise
                asked, interruption = True, error
            if asked and not stopping:
                stopping, deadline = True, time.monotonic() + STOPPING
    finally:
        for one in tasks:
            ray.cancel(one, force=True)
    if interruption:
        raise interruption
    return results, stopping


def _heard(relay: Any, stopping: bool) -> list[tuple[str, dict]]:
    import ray

    try:
        return ray.get(relay.heard.remote(stopping), timeout=ANSWER)
    except ray.exceptions.RayError:  # its machine died, and it starts again on another
        return []


def _result(task: Any) -> Result:
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        # A traceback that Ray sends ends with the error, its own sentences begin with it.
        text = lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0]
        return Result(None, f"its worker died {RETRIES + 1} times: {text}", [])


def merged(expected: Mapping[str, Expected], on_event: Callable[[dict], None]) -> Callable[[str, dict], None]:
    """Takes what each task tells of itself; tells `on_event` of all of them together, and of each note once."""
    done = dict.fromkeys(expected, 0)
    whole = sum(each.steps for each in expected.values())
    pace: dict[str, float] = {}
    notes: set[str] = set()

    def tell(chunk: str, event: dict) -> None:
        kind = event["kind"]
        if kind == "progress":
            done[chunk], pace[chunk] = event["done_steps"], event["steps_per_s"]
            total = {"done_steps": sum(done.values()), "total_steps": whole}
            on_event({**event, **total, "steps_per_s": sum(pace.values())})
            return
        if kind == "compile":
            event = {**event, "program": expected[chunk].program}
        if kind == "chunk":
            pace.pop(chunk, None)
        if kind == "plan" or (kind == "note" and event["text"] in notes):
            return
        if kind == "note":
            notes.add(event["text"])
        on_event(event)

    return tell
