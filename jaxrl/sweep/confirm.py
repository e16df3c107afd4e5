"""The best point of a sweep or a search as a spec on fresh seeds, read from committed lanes. No jax here.

What was chosen on some seeds is too good on them: the best of many is partly luck. So its value is measured again on
seeds that no lane of the directory has.
"""

import json
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.errors import UserError, unknown
from jaxrl.references import check_allowed
from jaxrl.results import query, store
from jaxrl.results.values import shown
from jaxrl.signatures import code_fingerprint, identity
from jaxrl.spec.settings import Spec, catalogued
from jaxrl.spec.spec import spec
from jaxrl.spec.tables import parse_seeds
from jaxrl.sweep.plan import lanes


class Best(NamedTuple):
    """The point that was chosen."""

    directory: Path
    fields: dict[str, Any]  # all of them
    told: dict[str, Any]  # those that differ between points
    value: float  # mean over `seeds` of the metric's last measured value
    seeds: tuple[int, ...]
    points: int  # among which it is the best
    left_out: int  # points with a seed that diverged, is missing or was not measured
    used: frozenset[int]  # seeds of any lane of the directory


def best(directory: str | Path, metric: str = "eval_return", direction: str = "maximize") -> Best:
    """The point whose committed lanes have the best mean of `metric`; of equals the first.

    Raises:
        UserError: no such metric, or no point that was measured on all seeds.
    """
    frame = query.lanes(directory)
    if (column := query.FINAL + metric) not in frame:
        measured = [name.removeprefix(query.FINAL) for name in frame if name.startswith(query.FINAL)]
        raise unknown(f"metric in {directory}", metric, measured)
    names = query.swept(frame)
    groups = [group for _, group in frame.groupby(names, dropna=False, sort=False)] if names else [frame]
    most = max(group["seed"].nunique() for group in groups)
    whole = [g for g in groups if len(g) == most and (g["status"] == "ok").all() and g[column].notna().all()]
    if not whole:
        raise UserError(f"no point in {directory} has a finite {metric} on all of its {most} seeds")
    means = np.array([group[column].to_numpy(np.float64).mean() for group in whole])
    place = int(means.argmax() if direction == "maximize" else means.argmin())
    chosen = whole[place]
    row = chosen.iloc[0]
    path = Path(directory) / row["chunk"]
    if (manifest := store.read_manifest(path))["code"] != code_fingerprint():
        warnings.warn(f"{directory} was written by other code: what runs now may not be what ran then", stacklevel=2)
    values = next(lane["values"] for lane in store.read_chunk(path).lanes if lane["lane"] == row["lane"])
    return Best(
        Path(directory),
        {**manifest["program"], **values},
        {name: row[name] for name in names if row[name] == row[name]},
        float(means[place]),
        tuple(sorted(map(int, chosen["seed"]))),
        len(whole),
        len(groups) - len(whole),
        frozenset(map(int, frame["seed"])),
    )


def again(
    point: Best,
    seeds: int | str | Sequence[int] | None = None,
    own: Sequence[Callable] = (),
    allow: Collection[str] = (),
) -> Spec:
    """The spec of a point on fresh seeds: by default as many as it was chosen on, after the largest that was used.

    Args:
        own: the Python environments, bonuses, agents and trainers that the point names.
        allow: references to others that it names and that may be imported, as for `load_policy`.

    Raises:
        UserError: a seed that was used, or user code that is neither in `own` nor allowed.
    """
    first, count = max(point.used) + 1, len(point.seeds)
    chosen = parse_seeds(f"{first}:{first + count}" if seeds is None else seeds)
    if taken := sorted(point.used & {*chosen}):
        raise UserError(
            f"seeds = {seeds!r}: seed {taken[0]} was used in the search, so it cannot confirm what was chosen on it; "
            f"take others, as in seeds = '{first}:{first + count}'"
        )
    objects = {identity(thing): thing for thing in own}
    check_allowed(point.fields, {*catalogued(), *allow, *objects}, point.directory)
    given: Mapping[str, Any] = {name: value for name, value in point.fields.items() if value is not None}
    named = ("env", "bonus", "agent", "trainer")
    fixed = {name: objects.get(value, value) if name in named else value for name, value in given.items()}
    made = spec(name="confirm", seeds=chosen, own=tuple(own), **fixed)
    (lane, *_) = lanes(made)
    if json.loads(json.dumps({**lane.program, **lane.values})) != json.loads(json.dumps(point.fields)):
        raise UserError("the point's fields do not make the program that they were: it was run by another jaxrl")
    return made


def sentence(point: Best, metric: str) -> str:
    """What was chosen, among what, and what its value is not."""
    told = ", ".join(f"{name} = {shown(value)}" for name, value in point.told.items()) or "the only point"
    left = f" ({point.left_out} left out: a seed diverged or is missing)" if point.left_out else ""
    return (
        f"best of {point.points} points{left} by {metric}, {point.value:.4g} in the mean of {len(point.seeds)} seeds: "
        f"{told}; that value is the best of many, the table below is of fresh seeds"
    )
