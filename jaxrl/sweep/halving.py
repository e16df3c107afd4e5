"""Successive halving: cells run to a rung, are ranked there, and the beaten ones stay as they are. No jax here.

    OUT/halving-<id>.json     what the rule saw at each rung, sealed; the id names the lanes, the rule and the code

A cell is a point of the spec, all its seeds. What a rung decides depends on the committed lanes alone: a run that was
killed goes on as if it had not been, and a lost record is written again.
"""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl import disk
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.halving import Halving, rungs
from jaxrl.spec.settings import Spec
from jaxrl.sweep.plan import Lane, lanes

Cell = tuple[Lane, ...]


def halve(
    spec: Spec,
    out: str | Path,
    run: Callable[..., Any],
    on_event: Callable[[dict], None] = lambda event: None,
) -> bool:
    """Run the cells of a spec, of which `spec.halving` stops the beaten ones early; False where it was told to stop.

    Args:
        run: called as run(spec, only=ids, until=iteration), as `jaxrl.sweep.run.run` is; when it returns with lanes
            missing, it was told to stop.
        on_event: gets {"kind": "note", "text"} after each rung.

    Raises:
        UserError: the metric is not measured in this environment, or the record cannot be written.
    """
    assert spec.halving is not None
    out, rule, plain = Path(out), spec.halving, spec._replace(halving=None)
    left = _cells(spec)
    path = out / f"halving-{identity(spec)}.json"
    record: list[dict] = []
    points = rungs(left[0][0].program, rule)
    for number, iteration in enumerate(points, 1):
        if len(left) == 1:
            break
        ids = [lane.id for cell in left for lane in cell]
        if (values := _values(out, left, iteration, rule.metric)) is None:
            run(plain, only=ids, until=iteration)
            if (values := _values(out, left, iteration, rule.metric)) is None:
                return False
        order = ranked(values, rule.direction)
        most = math.ceil(len(left) / rule.eta)
        kept = sorted(order[:most])
        cells = [_told(cell, values[place], place in kept) for place, cell in enumerate(left)]
        record.append({"iteration": iteration, "cells": cells})
        _write(path, rule, record)
        worst, best = (f"{values[place]:.4g}" for place in order[most - 1 : most + 1])
        text = (
            f"rung {number} of {len(points)}, after {iteration} iterations: {most} of {len(left)} cells go on "
            f"({rule.metric} of the worst kept {worst}, of the best stopped {best})"
        )
        on_event({"kind": "note", "text": text})
        left = [left[place] for place in kept]
    ids = [lane.id for cell in left for lane in cell]
    if not _committed(out, math.inf).keys() >= {*ids}:
        run(plain, only=ids)
    return _committed(out, math.inf).keys() >= {*ids}


def ranked(values: Sequence[float], direction: str) -> list[int]:
    """Places of the values, the best first: what is not finite last, of equals the earlier one first."""
    sign = -1 if direction == "maximize" else 1
    key = lambda place: (0, sign * values[place]) if math.isfinite(values[place]) else (1, 0.0)
    return sorted(range(len(values)), key=key)


def identity(spec: Spec) -> str:
    """Of everything that decides what the rule sees, in any order of the seeds."""
    known = (sorted(lane.id for lane in lanes(spec)), spec.halving)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:20]


def _cells(spec: Spec) -> list[Cell]:
    found: dict[str, list[Lane]] = {}
    for lane in lanes(spec):
        found.setdefault(json.dumps([lane.program, lane.values, lane.sources], sort_keys=True), []).append(lane)
    return [tuple(cell) for cell in found.values()]


def _committed(out: Path, iteration: float) -> dict[str, Path]:
    return store.committed(out, code_fingerprint(), until=iteration) if out.exists() else {}


def _values(out: Path, cells: Sequence[Cell], iteration: int, metric: str) -> list[float] | None:
    """Each cell's mean of what its lanes had measured by then; NaN where one had diverged or measured nothing.

    None where a lane is not there yet, or its chunk is damaged and has to be run again.
    """
    import numpy as np

    where = _committed(out, iteration)
    wanted = {lane.id for cell in cells for lane in cell}
    if not where.keys() >= wanted:
        return None
    newest: dict[str, float] = {}
    for path in sorted({where[lane] for lane in wanted}):
        try:
            chunk = store.read_chunk(path)
        except store.Damaged:
            return None
        if metric not in chunk.curves:
            raise UserError(f"halving: metric = {metric!r} is not measured here; what is: {', '.join(chunk.curves)}")
        for row, curve in zip(chunk.lanes, chunk.curves[metric], strict=True):
            measured = curve[:iteration][np.isfinite(curve[:iteration])]
            good = len(measured) and (row["first_bad_iteration"] or math.inf) > iteration
            if where.get(row["lane"]) == path:
                newest[row["lane"]] = float(measured[-1]) if good else math.nan
    return [float(np.mean([newest[lane.id] for lane in sorted(cell, key=lambda lane: lane.seed)])) for cell in cells]


def _told(cell: Cell, value: float, goes_on: bool) -> dict[str, Any]:
    """What the record says of a cell; null stands for a value that is not finite."""
    return {
        "fields": {**cell[0].program, **cell[0].values},
        "lanes": sorted(lane.id for lane in cell),
        "value": value if math.isfinite(value) else None,
        "decision": "kept" if goes_on else "stopped",
    }


def _write(path: Path, rule: Halving, record: Sequence[Mapping[str, Any]]) -> None:
    content = {"rule": rule._asdict(), "code": code_fingerprint(), "rungs": record}
    partial = path.with_name(f".{uuid.uuid4().hex}.json")
    try:
        try:
            disk.write(partial, store.seal(store.redacted(content)))
            os.replace(partial, path)
            disk.sync_directory(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {disk.refusal(path, error)}") from error
