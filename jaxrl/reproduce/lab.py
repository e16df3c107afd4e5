"""What a claim's `measure` works with: training on pilot seeds and on fresh ones, and an account of what it cost.

Coefficients are chosen on pilot seeds, from 0, and judged on fresh ones, from 1000: never the same.
"""

import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxrl.errors import UserError
from jaxrl.results.query import FINAL, lanes, sql
from jaxrl.results.store import chunks
from jaxrl.spec.settings import Spec
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes as lanes_of
from jaxrl.sweep.run import run, steps_of

MAX_PILOT_SEEDS = 16
FRESH = 1000
MODULES = ("env", "bonus", "agent", "trainer", "wrap")  # fields that name code
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
        execute: Callable = run,
        stop: Callable[[], bool] = lambda: False,
        on_event: Callable[[dict], None] = lambda event: None,
    ):
        """`scale` has `seeds`, how many decide, `pilot`, how many choose, `arms`, if not all of them are trained, and
        whatever else the claim asks for.
        """
        if not 0 <= scale.get("pilot", 0) <= MAX_PILOT_SEEDS:
            raise UserError(f"scale: pilot = {scale['pilot']}: must be in [0, {MAX_PILOT_SEEDS}]")
        self.scale = scale
        self.seeds = range(FRESH, FRESH + scale["seeds"])
        self.pilot = range(scale.get("pilot", 0))
        self.out = out
        self.execute, self.stop, self.on_event = execute, stop, on_event
        self.steps = 0  # environment steps of every lane, of earlier sittings too
        self.training = 0.0  # seconds of compiling and running them
        self.waited = 0.0  # seconds of this sitting inside of `train`
        self.began = time.monotonic()
        self.diverged: list[str] = []  # lane ids
        self.chosen: list[dict] = []  # a row for each choice: arm, where, what was chosen, what each candidate scored
        self.named: dict[str, set[str]] = {field: set() for field in MODULES}

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
            arms: name -> bonus expression, or fields of the arm's own; its `choose` replaces the common one, and an
                arm without a bonus has nothing to choose.
            metric: of `jaxrl.metrics`, or a bonus's or an agent's.
            choose: field -> candidates. For each arm and place the combination with the highest mean over pilot
                seeds is chosen; of equals, the one that comes first.
            over: field -> values, the places.
            last: share of the training, from its end, that the score is the mean over; 0 is the last measured value.
            fields: fixed, for all arms.
        """
        arms = {name: arms[name] for name in self.scale.get("arms", arms)}
        over = {field: list(values) for field, values in (over or {}).items()}
        places = list(itertools.product(*over.values()))
        found = np.full((len(arms), *map(len, over.values()), len(self.seeds)), np.nan)
        for number, (name, arm) in enumerate(arms.items()):
            own = dict(arm) if isinstance(arm, Mapping) else {"bonus": arm}
            given = own.pop("choose", None if own.get("bonus", "none") == "none" else choose) or {}
            at = [dict(zip(over, place, strict=True)) for place in places]
            best = self._chosen(name, given, at, {**fields, **own}, metric, last) if given else [{}] * len(at)
            points = [{**place, **choice} for place, choice in zip(at, best, strict=True)]
            frame = self.train(f"{name}: verdict", points, self.seeds, metric, last, **{**fields, **own})
            for index, point in zip(np.ndindex(*map(len, over.values())), points, strict=True):
                found[(number, *index)] = _at(frame, point).set_index("seed")["score"].reindex(list(self.seeds))
        coordinates = {"arm": list(arms), **{_dim(field): values for field, values in over.items()}}
        coordinates["seed"] = list(self.seeds)
        return xr.DataArray(found, coordinates, list(coordinates), metric, {"metric": metric})

    def _chosen(self, name: str, choose, at: list[dict], fields: dict, metric: str, last: float) -> list[dict]:
        """The best candidate at each place."""
        candidates = [dict(zip(choose, values, strict=True)) for values in itertools.product(*choose.values())]
        if len(candidates) == 1:
            return candidates * len(at)
        if not self.pilot:
            raise UserError(f"arm {name!r}: {len(candidates)} candidates and no pilot seeds to choose on")
        points = [{**place, **candidate} for place in at for candidate in candidates]
        frame = self.train(f"{name}: pilot", points, self.pilot, metric, last, **fields)
        best = []
        for place in at:
            means = [float(_at(frame, {**place, **candidate})["score"].mean()) for candidate in candidates]
            best.append(candidates[int(np.nanargmax(means)) if np.isfinite(means).any() else 0])
            tried = [{**candidate, "score": mean} for candidate, mean in zip(candidates, means, strict=True)]
            self.chosen.append({"arm": name, "at": place, "chosen": best[-1], "tried": tried})
        return best

    def train(
        self, what: str, points: Sequence[Mapping[str, Hashable]], seeds: Sequence[int], metric: str, last: float = 0.0,
        **fields: Any,
    ) -> pd.DataFrame:  # fmt: skip
        """Run `fields` at every point on every seed: a row per lane, with its fields, `seed` and `score`."""
        columns = {key: [point[key] for point in points] for key in points[0]}
        # A column that does not vary is fixed, so that a structural field may be among them.
        fixed = {key: values[0] for key, values in columns.items() if len(set(map(repr, values))) == 1}
        columns = {key: values for key, values in columns.items() if key not in fixed}
        made = spec(name=what, seeds=list(seeds), zip=columns, **{**fields, **fixed})
        clock = time.monotonic()
        self.on_event({"kind": "note", "text": f"{what}: {len(seeds)} seeds x {len(points)}"})
        if self.execute(made, self.out, stop=self.stop, on_event=self.on_event).stopped:
            raise Stopped
        self.waited += time.monotonic() - clock
        self._account(made)
        return self._scored(made, metric, last)

    def _account(self, made: Spec) -> None:
        ids = set()
        for lane in lanes_of(made):
            ids.add(lane.id)
            self.steps += steps_of(lane.program)
            for field, names in self.named.items():
                value = lane.program[field]
                names.update(value if isinstance(value, tuple) else (value,))
        for manifest in chunks(self.out):
            if share := len(ids & set(manifest["lanes"])):
                timing = manifest["timing"]
                seconds = timing["compile_seconds"] + timing["run_seconds"]
                self.training += seconds * share / len(manifest["lanes"])

    def _scored(self, made: Spec, metric: str, last: float) -> pd.DataFrame:
        ids = [lane.id for lane in lanes_of(made)]
        frame = lanes(self.out).set_index("lane").loc[ids].reset_index()
        if FINAL + metric not in frame:
            known = [name.removeprefix(FINAL) for name in frame if name.startswith(FINAL)]
            raise UserError(f"metric {metric!r} was not measured: there are {', '.join(sorted(known))}")
        frame["score"] = frame[FINAL + metric]
        if last:
            name = '"' + metric.replace('"', '""') + '"'
            means = sql(
                f"select lane, avg({name}) as score from metrics "
                f"where step > {1 - last} * (select max(step) from metrics as m where m.lane = metrics.lane) "
                "group by lane",
                self.out,
            ).set_index("lane")["score"]
            frame["score"] = frame["lane"].map(means)
        bad = frame["status"] == "diverged"
        frame.loc[bad, "score"] = np.nan
        self.diverged += list(frame.loc[bad, "lane"])
        return frame


def _at(frame: pd.DataFrame, point: Mapping[str, Hashable]) -> pd.DataFrame:
    """The rows at a point; a field that the frame knows under no name does not vary."""
    kept = np.ones(len(frame), bool)
    for field, value in point.items():
        column = frame["budget" if field == "steps" else field]
        kept &= np.isclose(column.astype(float), float(value)) if isinstance(value, (int, float)) else column == value
    return frame[kept]


def _dim(field: str) -> str:
    """A dim's name: the last part of a field's."""
    return field.rpartition(".")[2]
