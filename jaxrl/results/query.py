"""From results directories to arrays, frames and SQL.

Never mixed: within a directory the code fingerprint committed last is read and the lanes of others are counted in a
warning; between directories a difference of code becomes a dimension like any other. Diverged lanes are left out of
``curves`` and named in ``attrs["diverged"]``, by id; ``lanes`` and ``sql`` show every lane with its status.
"""

import json
import math
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from jaxrl.errors import UserError, unknown
from jaxrl.metrics import METRICS
from jaxrl.results.layout import CONTINUES, FINAL, LANE_COLUMNS, METRIC_COLUMNS, PROVENANCE, STOPPED_AT
from jaxrl.results.reading import chunks, furthest, passing_over_damage, read_tables
from jaxrl.signatures import code_fingerprint

UNITS = {
    "return": "reward", "eval_return": "reward", "eval_return_sampled": "reward", "bonus_mean": "reward",
    "bonus_max": "reward", "length": "environment steps", "episodes": "episodes", "coverage": "fraction of states",
    "first_visit": "environment steps",
}  # fmt: skip
MAX_CELLS = 10**7
SPARSE = 8  # ours: cells of a grid for each point in it, beyond which the points are listed instead


def lanes(*directories, strict: bool = False) -> pd.DataFrame:
    """One row per lane: id, seed, status, provenance, every static field and value, last measured value of each metric.

    `directories` are one or several, or a list of them, here and below.
    ``continues`` is the id of the shorter lane that it went on from, or "". A lane with the status "stopped" ends
    after the iteration ``stopped_at``, before its program does; one that went on since is no longer told of as stopped.
    A metric is called "final_" + its name, and is NaN for a diverged lane. A field is NaN where it does not apply.
    A chunk that is damaged is left out with a warning, or with ``strict`` an error.
    """
    return _load(directories, strict)[0]


def sql(statement: str, *directories, strict: bool = False) -> pd.DataFrame:
    """Run SQL (DuckDB) over two tables, ``lanes`` and ``metrics``.

    ``lanes`` is what ``lanes()`` gives; ``metrics`` has lane, seed, iteration, step and a column per metric. What was
    not measured is NULL. Diverged and stopped lanes are there: join with ``lanes`` on lane and keep status = 'ok'.
    """
    import duckdb

    frame, metrics = _load(directories, strict)
    for name in frame:  # a field that is a number in one program and a word in another is text here
        if frame[name].dtype == object and frame[name].dropna().map(type).nunique() > 1:
            frame[name] = frame[name].map(lambda value: value if pd.isna(value) else str(value))
    # No statement reads or writes a file: the tables are all there is.
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("lanes", pa.Table.from_pandas(frame, preserve_index=False))
        connection.register("metrics", metrics)
        try:
            found = connection.execute(statement)
            if found is None:
                raise UserError(f"the query {statement!r} asks for nothing")
            return found.df()
        except duckdb.Error as error:
            raise UserError(f"the query failed: {error}") from error


def curves(*directories, include_diverged: bool = False, strict: bool = False) -> xr.Dataset:
    """Every metric over dims (swept names..., seed, iteration), float32, NaN where missing or not measured.

    Swept is every field that takes more than one value over the lanes; the others are ``attrs``. The field "steps" is
    called "budget" here, because the coordinate ``steps`` holds environment steps: over iteration, or over the swept
    names as well where lanes differ in it. Points that are far from a grid of their values, as random ones are, lie
    along one dim, "point", with the swept names as coordinates along it. Coordinates ``lane``, ``status`` and
    ``packing`` describe each lane, "" where there is none. Raises ``UserError`` if two lanes claim the same place.
    """
    frame, table = _load(directories, strict)
    varied = swept(frame)
    names, points = _axes(frame, varied)
    frame = frame.assign(**points)
    coordinates = {name: _coordinate(frame[name]) for name in [*names, "seed"]}
    metrics = table.to_pandas()
    coordinates["iteration"] = np.unique(metrics["iteration"])
    dims = list(coordinates)
    shape = tuple(len(values) for values in coordinates.values())
    if math.prod(shape) > MAX_CELLS:
        raise UserError(
            f"{len(frame)} lanes span a grid of {dict(zip(dims, shape, strict=True))}, too sparse for an array: "
            "use results.lanes() or results.sql()"
        )

    cells = dict(zip(frame["lane"], _cells(frame, coordinates), strict=True))
    described = {name: np.full(shape[:-1], "", object) for name in ("lane", "status", "packing")}
    for row in frame[["lane", "status", "packing"]].to_dict("records"):
        cell = cells[row["lane"]]
        if other := described["lane"][cell]:
            raise UserError(
                f"lanes {other} and {row['lane']} have the same {', '.join(dims[:-1])} but are different lanes: "
                "what sets them apart is not a field; load their directories one at a time"
            )
        for name, array in described.items():
            array[cell] = row[name]

    diverged = list(frame["lane"][frame["status"] == "diverged"])
    columns = [name for name in metrics if name not in METRIC_COLUMNS]
    data = {name: np.full(shape, np.nan, np.float32) for name in columns}
    steps = np.full(shape, np.nan)
    of_rows = np.array([cells[lane] for lane in frame["lane"]])[pd.Index(frame["lane"]).get_indexer(metrics["lane"])]
    place = (*of_rows.T, np.searchsorted(coordinates["iteration"], metrics["iteration"]))
    steps[place] = metrics["step"]
    shown = np.full(len(metrics), True) if include_diverged else ~metrics["lane"].isin(diverged).to_numpy()
    place = tuple(index[shown] for index in place)
    for name in columns:
        data[name][place] = metrics[name][shown]

    dataset = xr.Dataset({name: (dims, data[name], _describe(name)) for name in columns}, coordinates)
    dataset = dataset.assign_coords({name: (dims[:-1], array) for name, array in described.items()})
    for name in [name for name in varied if name not in names]:
        values = frame.drop_duplicates("point").sort_values("point")[name]
        dataset = dataset.assign_coords({name: ("point", values.to_numpy())})
    dataset.coords["steps"] = _steps(xr.DataArray(steps, coordinates, dims))
    dataset["iteration"].attrs = {"units": "iterations", "description": "one rollout and one update each"}
    dataset.attrs = {
        # Numbers and text alone, because netCDF has no flags of NumPy's and no lists.
        **{name: _plain(frame[name].dropna().iloc[0]) for name in fields(frame) if name not in {*names, *varied}},
        "swept": ", ".join(names),
        "diverged": " ".join(diverged),
        "commits": ", ".join(sorted({f"{commit or 'unknown'}{' (dirty)' if dirty else ''}"
                           for commit, dirty in zip(frame["commit"], frame["dirty"], strict=True)})),
    }  # fmt: skip
    return dataset


def final(curve: xr.DataArray) -> xr.DataArray:
    """Last measured value along iteration; NaN where nothing was measured, and in lanes stopped before their end."""
    measured = curve.notnull()
    if "status" in curve.coords:
        measured = measured & (curve["status"] != "stopped")
    last = xr.where(measured, np.arange(curve.sizes["iteration"]), -1).max("iteration")
    return curve.isel(iteration=last.clip(0)).where(last >= 0).drop_vars("iteration")


def nearest(dataset: xr.Dataset, **values) -> xr.Dataset:
    """The part of a ``curves`` dataset at the cell, or the point, that lies nearest to the values of some swept names.

    Numbers are compared by their logarithms where all of a field's values are positive, and each field by its own
    range; a word must be equal. Raises ``UserError`` for an unknown name and a word that is not among the values.
    """
    along = "point" if swept_names(dataset) == ["point"] and "point" in dataset.dims else None
    distance: float | np.ndarray = 0.0
    for name, value in values.items():
        known = [str(one) for one in dataset.coords if dataset[one].dims == ((along or one),) and one != "point"]
        if name not in known or name in ("seed", "iteration"):
            raise unknown("swept name", name, [one for one in known if one not in ("seed", "iteration")])
        apart = _apart(name, dataset[name].values, value)
        if along is None:
            dataset = dataset.isel({name: int(np.nanargmin(apart))})
        else:
            distance = distance + apart**2
    return dataset if along is None else dataset.isel(point=int(np.nanargmin(distance)))


def _apart(name: str, known: np.ndarray, value) -> np.ndarray:
    """Distance of each known value to one, in ranges of the known."""
    if not np.issubdtype(known.dtype, np.number) or isinstance(value, str):
        if value not in known.tolist():
            raise UserError(f"{name} = {value!r} is not among {known.tolist()}")
        return np.where(known == value, 0.0, np.inf)
    if (known[~np.isnan(known)] > 0).all() and value > 0:
        known, value = np.log(known), np.log(value)
    return np.abs(known - value) / (np.nanmax(known) - np.nanmin(known) or 1.0)


def paired(
    dataset: xr.Dataset, metric: str, dim: str, first, second, *, allow_packing_mix: bool = False
) -> tuple[xr.DataArray, xr.DataArray]:
    """Final ``metric`` at ``dim`` = first and at ``dim`` = second, over equal dims and seeds, for paired statistics.

    The same seed starts both from the same key, so their difference is the choice's; but how lanes were packed
    (lanes at once, devices) changes the last bits, hence different packings are refused unless ``allow_packing_mix``.
    """
    if metric not in dataset:
        raise unknown("metric", metric, map(str, dataset.data_vars))
    if dim not in swept_names(dataset):
        raise unknown("swept name", dim, swept_names(dataset))
    for value in (first, second):
        if value not in dataset[dim].values:
            raise UserError(f"{dim} = {value!r} is not among {dataset[dim].values.tolist()}")
    x, y = (dataset[metric].sel({dim: value}) for value in (first, second))
    both = (x["packing"] != "") & (y["packing"] != "")
    mixed = int((both & (x["packing"] != y["packing"])).sum())
    if mixed and not allow_packing_mix:
        packings = sorted(set(np.concatenate([x["packing"].values[both], y["packing"].values[both]])))
        raise UserError(
            f"{mixed} of {int(both.sum())} pairs were run under different packings ({'; '.join(packings)}), which "
            "changes the last bits: run them together, or pass allow_packing_mix=True"
        )
    x, y = (final(array).drop_vars(["lane", "status", "packing", "steps", dim], errors="ignore") for array in (x, y))
    return x, y


def fields(frame: pd.DataFrame) -> list[str]:
    """Columns of a ``lanes`` frame that are fields of the lanes' configuration."""
    reserved = {*LANE_COLUMNS, *PROVENANCE, CONTINUES, STOPPED_AT}
    return [name for name in frame if name not in reserved and not name.startswith(FINAL)]


def swept_names(dataset: xr.Dataset) -> list[str]:
    """The swept names of a ``curves`` dataset, in the order of its dims."""
    return list(filter(None, dataset.attrs["swept"].split(", ")))


def swept(frame: pd.DataFrame) -> list[str]:
    """Fields that take more than one value over a ``lanes`` frame; where a field does not apply is not a value."""
    return [name for name in fields(frame) if frame[name].nunique() > 1]


def _axes(frame: pd.DataFrame, varied: list[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The dims of an array of these lanes, and the column "point" where their values make too sparse a grid."""
    grid = math.prod(len(_coordinate(frame[name])) for name in varied)
    number = frame.groupby(varied, dropna=False).ngroup().to_numpy() if varied else np.zeros(len(frame), int)
    if grid <= SPARSE * (number.max() + 1):
        return varied, {}
    return ["point"], {"point": number}


def _load(directories, strict: bool) -> tuple[pd.DataFrame, pa.Table]:
    """The ``lanes`` frame and the ``metrics`` table of all directories; of a lane's commits `furthest` is read."""
    directories = [one for entry in directories for one in (entry if isinstance(entry, list | tuple) else [entry])]
    if not directories:
        raise UserError("name at least one results directory")
    rows: list[dict] = []
    tables: list[pa.Table] = []
    found = list(_read(directories, strict))
    places = furthest([manifest for manifest, *_ in found])
    for place, (manifest, lane_table, metric_table) in enumerate(found):
        program = _flat(manifest["program"])
        provenance = {name: manifest[name] for name in ("code", *PROVENANCE)}
        fresh = [row for row in lane_table.to_pylist() if places[row["lane"]] == place]
        names = [row["lane"] for row in fresh]
        before = manifest.get(CONTINUES, {}).get("lanes", {})
        continued = {lane: other for lane, other in before.items() if other != lane}  # the same lane, once stopped
        rows += [
            {**{name: row.pop(name) for name in LANE_COLUMNS}, CONTINUES: continued.get(lane, ""),
             STOPPED_AT: manifest.get("stopped") if lane not in manifest["diverged"] else None, **provenance,
             **program, **row}
            for lane, row in zip(names, fresh, strict=True)
        ]  # fmt: skip
        if len(fresh) < lane_table.num_rows:
            metric_table = metric_table.filter(pc.is_in(metric_table["lane"], pa.array(names, pa.string())))
        tables.append(metric_table)
    if not tables:
        raise UserError(f"no chunk of {', '.join(map(str, directories))} can be read")
    metrics = pa.concat_tables(tables, promote_options="default")
    frame = pd.DataFrame(rows).astype({"first_bad_iteration": "Int64", STOPPED_AT: "Int64"})
    last = metrics.drop_columns(["seed", "iteration", "step"]).to_pandas().groupby("lane").last().add_prefix(FINAL)
    frame = frame.join(last, on="lane")
    frame.loc[frame["status"] == "diverged", list(last)] = np.nan
    return frame, metrics


def _read(directories, strict: bool) -> Iterator[tuple[dict, pa.Table, pa.Table]]:
    """(manifest, lanes, metrics) of every chunk."""
    for directory in directories:
        for manifest in _one_code(directory, strict):
            tables: tuple[pa.Table, ...] = ()
            with passing_over_damage(strict):
                tables = read_tables(f"{directory}/{manifest['chunk']}", manifest)
            if tables:
                yield manifest, *tables


def _one_code(directory, strict: bool) -> list[dict]:
    manifests = chunks(directory, strict)
    if not manifests:
        raise UserError(f"no chunk was committed in {str(directory)!r}")
    # What runs now reads what it wrote, also where other code wrote later.
    codes = [manifest["code"] for manifest in manifests]
    code = running if (running := code_fingerprint()) in codes else codes[-1]
    other: dict[str, int] = {}
    for manifest in manifests:
        if manifest["code"] != code:
            other[manifest["code"]] = other.get(manifest["code"], 0) + len(manifest["lanes"])
    if other:
        counted = ", ".join(f"{count} lanes of {fingerprint}" for fingerprint, count in other.items())
        warnings.warn(f"{directory} was written by several versions of the code: reading {code}, leaving out {counted}",
                      stacklevel=4)  # fmt: skip
    kept = [manifest for manifest in manifests if manifest["code"] == code]
    newest = {name: source for manifest in kept for name, source in manifest["sources"].items()}
    current = [manifest for manifest in kept if manifest["sources"].items() <= newest.items()]
    if len(current) < len(kept):
        others = [manifest for manifest in kept if manifest not in current]
        old = sum(len(manifest["lanes"]) for manifest in others)
        what = {name for manifest in others for name, source in manifest["sources"].items() if newest[name] != source}
        warnings.warn(f"{directory} holds {old} lanes made with other {', '.join(sorted(what))}: leaving them out",
                      stacklevel=4)  # fmt: skip
    return current


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _flat(program: dict, prefix: str = "") -> dict:
    """Fields as scalars: a mapping becomes dotted names, a list its JSON text, "steps" is renamed to "budget"."""
    flat = {}
    for name, value in program.items():
        name = prefix + ("budget" if prefix + name == "steps" else name)
        if isinstance(value, dict):
            flat.update(_flat(value, f"{name}."))
        else:
            flat[name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return flat


def _coordinate(column: pd.Series) -> np.ndarray:
    """Sorted distinct values; where the field does not apply comes first, as NaN or ""."""
    present = column.dropna()
    numeric = pd.api.types.is_numeric_dtype(present.infer_objects())
    values = np.unique(present.to_numpy() if numeric else present.astype(str).to_numpy(object).astype(str))
    missing = [np.nan if numeric else ""] if len(present) < len(column) else []
    return np.concatenate([missing, values]) if missing else values


def _cells(frame: pd.DataFrame, coordinates: dict) -> list[tuple]:
    """Index of every lane in the grid (swept names..., seed)."""
    columns = []
    for name in list(coordinates)[:-1]:
        values = coordinates[name]
        numeric = values.dtype.kind != "U"
        place = {value: index for index, value in enumerate(values.tolist()) if value == value}
        columns.append([0 if pd.isna(value) else place[value if numeric else str(value)] for value in frame[name]])
    return list(zip(*columns, strict=True))


def _steps(steps: xr.DataArray) -> xr.DataArray:
    """Environment steps without the dimensions they do not depend on: never seed, often iteration alone."""
    for dim in map(str, steps.dims[:-1]):
        smallest, largest = steps.min(dim), steps.max(dim)
        if smallest.equals(largest):
            steps = smallest
    steps = steps if steps.isnull().any() else steps.astype(np.int64)
    steps.attrs = {"units": "environment steps", "description": "environment steps of one lane, all its environments"}
    return steps


def _describe(metric: str) -> dict[str, str]:
    owner = metric.split("/")[0]
    return {"units": UNITS.get(metric, "1"), "description": METRICS.get(metric, f"{metric}, described by {owner}")}
