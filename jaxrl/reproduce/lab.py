"""What a claim's `measure` works with: training on pilot seeds and on fresh ones, and an account of what it cost.

Coefficients are chosen on pilot seeds, from 0, and judged on fresh ones, from 1000: never the same.
"""

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxrl import references
from jaxrl.errors import UserError, unknown
from jaxrl.intrinsic.expression import parse, terms
from jaxrl.results.query import FINAL, lanes, sql
from jaxrl.results.store import chunks
from jaxrl.spec.fields import IDLE
from jaxrl.spec.settings import Spec
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes as lanes_of
from jaxrl.sweep.plan import programs
from jaxrl.sweep.program import build
from jaxrl.sweep.run import run, steps_of

MAX_PILOT_SEEDS = 16
FRESH = 1000
Arm = str | Callable | Mapping[str, Any]  # a bonus, or fields


class Stopped(Exception):
    """The run was told to end before everything was measured."""


class Lab:
    """One sitting of one claim at one scale."""

    def __init__(
        self,
        scale: Mapping[str, Any],
        out: Path,
        *,
        execute: Callable | None = None,
        stop: Callable[[], bool] = lambda: False,
        on_event: Callable[[dict], None] = lambda event: None,
    ):
        """`scale` has `seeds`, how many decide, `pilot`, how many choose, `arms`, if not all of them are trained, and
        whatever else the claim asks for.
        """
        if scale.get("seeds", 0) < 1:
            raise UserError(f"scale: seeds = {scale.get('seeds')}: at least one seed decides")
        if not 0 <= scale.get("pilot", 0) <= MAX_PILOT_SEEDS:
            raise UserError(f"scale: pilot = {scale['pilot']}: must be in [0, {MAX_PILOT_SEEDS}]")
        self.scale = scale
        self.seeds = range(FRESH, FRESH + scale["seeds"])
        self.pilot = range(scale.get("pilot", 0))
        self.out = out
        self.execute = execute or functools.partial(run, kept={})
        self.stop, self.on_event = stop, on_event
        self.steps = 0  # environment steps of every lane, of earlier sittings too
        self.training = 0.0  # seconds of compiling and running them
        self.waited = 0.0  # seconds of this sitting inside of `train`
        self.began = time.monotonic()
        self.trained: set[str] = set()  # lane ids, each accounted for once
        self.diverged: set[str] = set()  # lane ids
        self.chosen: list[dict] = []  # a row for each choice: arm, where, what was chosen, what each candidate scored

    @property
    def seconds(self) -> float:
        """What the measurement took, were it done in one sitting."""
        return self.training + time.monotonic() - self.began - self.waited

    def compare(
        self,
        arms: Mapping[str, Arm],
        *,
        metric: str,
        choose: Mapping[str, Sequence[float]] | None = None,
        over: Mapping[str, Sequence] | None = None,
        last: float = 0.0,
        **fields: Any,
    ) -> xr.DataArray:
        """Train every arm and return what it scored on the fresh seeds: dims (arm, *over, seed).

        Args:
            arms: name -> bonus, or fields of the arm's own; its `choose` replaces the common one. An arm without a
                bonus chooses no number of one.
            metric: of `jaxrl.metrics`, or a bonus's or an agent's.
            choose: field -> candidates. For each arm and place the combination with the highest mean over pilot
                seeds is chosen; of equals, the one that comes first; none with a seed that diverged.
            over: field -> values, the places.
            last: share of the training, from its end, that the score is the mean over; 0 is the last measured value.
            fields: fixed, for all arms.
        """
        for name in self.scale.get("arms", ()):
            if name not in arms:
                raise unknown("arm of the scale", name, arms)
        arms = {name: arms[name] for name in self.scale.get("arms", arms)}
        over = {field: list(values) for field, values in (over or {}).items()}
        for field, values in over.items():
            if not values:
                raise UserError(f"over: {field} = []: a claim has at least one place")
        at = [dict(zip(over, place, strict=True)) for place in itertools.product(*over.values())]
        shape = [len(values) for values in over.values()]
        found = []
        for name, arm in arms.items():
            own: dict[str, Any] = dict(arm) if isinstance(arm, Mapping) else {"bonus": arm}
            candidates: Mapping[str, Sequence] = own.pop("choose", choose) or {}
            mine = {**fields, **own}
            if mine.get("bonus", "none") == "none":
                candidates = {key: values for key, values in candidates.items() if not _of_bonus(key)}
            best = self._chosen(name, candidates, at, metric, last, mine)
            points = [{**place, **choice} for place, choice in zip(at, best, strict=True)]
            scores = self.train(f"{name}: verdict", points, self.seeds, metric, last, **mine)
            found.append(scores.reshape(*shape, len(self.seeds)))
        coordinates: dict[str, list] = {"arm": list(arms), **{_dim(field): _names(over[field]) for field in over}}
        coordinates["seed"] = list(self.seeds)
        return xr.DataArray(np.array(found), coordinates, list(coordinates), metric, {"metric": metric})

    def _chosen(self, name: str, choose, at: list[dict], metric: str, last: float, fields: dict) -> list[dict]:
        """The best candidate at each place."""
        candidates = [dict(zip(choose, values, strict=True)) for values in itertools.product(*choose.values())]
        if len(candidates) == 1:
            return candidates * len(at)
        if not self.pilot:
            raise UserError(f"arm {name!r}: {len(candidates)} candidates and no pilot seeds to choose on")
        points = [{**place, **candidate} for place in at for candidate in candidates]
        scores = self.train(f"{name}: pilot", points, self.pilot, metric, last, **fields)
        means = scores.mean(-1).reshape(len(at), -1)  # NaN where a seed diverged: not to be chosen
        best = [int(np.nanargmax(row)) if np.isfinite(row).any() else 0 for row in means]
        for place, row, index in zip(at, means, best, strict=True):
            tried = [{**candidate, "score": float(mean)} for candidate, mean in zip(candidates, row, strict=True)]
            self.chosen.append({"arm": name, "at": place, "chosen": candidates[index], "tried": tried})
        return [candidates[index] for index in best]

    def train(
        self, what: str, points: Sequence[Mapping[str, Any]], seeds: Sequence[int], metric: str, last: float = 0.0,
        **fields: Any,
    ) -> np.ndarray:  # fmt: skip
        """Run `fields` with those of every point on every seed: scores ``[points, seeds]``, NaN where one diverged."""
        if not 0 <= last <= 1:
            raise UserError(f"last = {last}: a share of the training, in [0, 1]")
        columns = {key: [point[key] for point in points] for key in points[0]}
        # A column that does not vary is fixed, so that a structural field may be among them.
        fixed = {key: values[0] for key, values in columns.items() if len(set(map(repr, values))) == 1}
        columns = {key: values for key, values in columns.items() if key not in fixed}
        made = spec(seeds=list(seeds), zip=columns, **{**fields, **fixed})
        clock = time.monotonic()
        self.on_event({"kind": "note", "text": f"{what}: {len(seeds)} seeds x {len(points)}"})
        if self.execute(made, self.out, stop=self.stop, on_event=self.on_event).stopped:
            raise Stopped
        self.waited += time.monotonic() - clock
        self._account(made)
        ids = [[lane.id for lane in lanes_of(spec(seeds=list(seeds), **{**fields, **point}))] for point in points]
        return self._scores(metric, last).loc[np.concatenate(ids)].to_numpy().reshape(len(points), len(seeds))

    def _account(self, made: Spec) -> None:
        fresh = {}
        for lane in lanes_of(made):
            if lane.id not in self.trained:
                fresh[lane.id] = lane
                self.steps += steps_of(lane.program)
        self.trained |= fresh.keys()
        for program, _ in programs(fresh.values()):
            import_code(program, made.objects)
        for manifest in chunks(self.out):
            if share := len(fresh.keys() & set(manifest["lanes"])):
                timing = manifest["timing"]
                seconds = timing["compile_seconds"] + timing["run_seconds"]
                self.training += seconds * share / len(manifest["lanes"])
            self.diverged |= fresh.keys() & set(manifest["diverged"])

    def _scores(self, metric: str, last: float) -> pd.Series:
        """The score of every lane in `out`, by id."""
        frame = lanes(self.out).set_index("lane")
        if FINAL + metric not in frame:
            known = [name.removeprefix(FINAL) for name in frame if name.startswith(FINAL)]
            raise UserError(f"metric {metric!r} was not measured: there are {', '.join(sorted(known))}")
        if not last:
            return frame[FINAL + metric]
        name = '"' + metric.replace('"', '""') + '"'
        # Rounded, because 1 - 0.9 of the steps is a little less than a tenth of them.
        statement = (
            f"select lane, avg({name}) as score from metrics join "
            "(select lane, max(step) as until from metrics group by lane) using (lane) "
            f"where round(step / until, 9) > {round(1 - last, 9)} group by lane"
        )
        means = sql(statement, self.out).set_index("lane")["score"]
        return means.reindex(frame.index).where(frame["status"] == "ok")


def import_code(program: Mapping[str, Any], objects: Mapping[str, Callable]) -> None:
    """Import all that a program runs, also if an earlier sitting trained it: records name what is imported."""
    build(program, objects)
    for call in terms(parse(program["bonus"], objects)):
        references.load("bonus", call.reference, objects)


def _of_bonus(field: str) -> bool:
    """True of a field that means nothing without a bonus."""
    owner, dot, _ = field.partition(".")
    return field in IDLE["none"] or (bool(dot) and owner not in ("params", "env_args"))


def _names(places: Sequence) -> list:
    """Coordinates along a dim: lists, which an array would take for a dim of their own, by their text."""
    return [str(place) if isinstance(place, list | tuple) else place for place in places]


def _dim(field: str) -> str:
    """A dim's name: the last part of a field's."""
    return field.rpartition(".")[2]
