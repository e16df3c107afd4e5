"""What was measured of a claim, as JSON beside its file: scores, intervals, verdicts, cost, and the code behind them.

A record counts as long as no code that decided its numbers has changed: the claim's own file and every module of
jaxrl that was imported to measure it, without comments and docstrings. After that it is stale, and `pending.json`
beside the records says why where it is not measured again at once.
"""

import json
import math
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from jaxrl import disk, foreign, signatures
from jaxrl.devices import cores
from jaxrl.errors import UserError, unknown
from jaxrl.reproduce import catalogue
from jaxrl.reproduce.lab import Lab
from jaxrl.reproduce.verdict import Decided, overall
from jaxrl.results.stats import Estimate
from jaxrl.results.store import git_state

# What decides scores and verdicts, though no lane's numbers.
DECIDING = (
    *("calibrate/", "results/stats.py", "results/query.py"),
    *("reproduce/counts.py", "reproduce/lab.py", "reproduce/verdict.py"),
)
MOST_BYTES = 2**24  # ours: of a file of records; the largest has 60,000
NUMBER = (float, None)
DIFFERENCE_FORM = {
    **{"says": str, "panel": str, "first": str, "second": str, "at": dict, "share": float, "margin": float},
    **{"gain": bool, "value": NUMBER, "low": NUMBER, "high": NUMBER, "verdict": str, "lost": int},
}
FORM = {
    **{"claim": str, "verdict": str, "seeds": [int], "steps": int, "seconds": float, "diverged": int},
    **{"measured": str, "machine": str, "commit": (str, None), "dirty": (bool, None), "code": {str: str}},
    "differences": [DIFFERENCE_FORM],
    "panels": {str: {"title": str, "units": str, "coords": {str: list}, "scores": list}},
    "chosen": [{"arm": str, "at": dict, "chosen": dict, "tried": [dict]}],
}
DIGITS = 6  # significant, of a score


def path(name: str) -> Path:
    """The record of a claim: {scale: what was measured}."""
    return catalogue.folder() / "records" / f"{name}.json"


def read(name: str, scale: str) -> dict[str, Any] | None:
    """What was measured of a claim at a scale; None where nothing was. Raises UserError if the file is damaged."""
    found = parsed(path(name)).get(scale) if path(name).exists() else None
    return None if found is None else checked(path(name), found)


def parsed(file: Path) -> dict[str, Any]:
    """A JSON file with one mapping."""
    try:
        found = foreign.parsed(disk.read(file, MOST_BYTES))
        foreign.check(found, dict)
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is damaged: {error}") from None
    return found


def checked(file: Path, found: Any) -> dict[str, Any]:
    """A record of a file, if the fields that it has are those of one; raises UserError naming the first that is not."""
    try:
        foreign.check(found, dict)
        foreign.check(found, {name: form for name, form in FORM.items() if name in found})
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}") from None
    return found


def write(name: str, scale: str, record: Mapping[str, Any]) -> Path:
    """Keep a record in the place of an earlier one of the same scale."""
    file = path(name)
    scales = parsed(file) if file.exists() else {}
    file.parent.mkdir(exist_ok=True)
    put(file, {**scales, scale: record})
    return file


def put(file: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file whole, or leave it as it was."""
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(file)


def made(name: str, lab: Lab, panels: Mapping[str, xr.DataArray], decided: list[Decided]) -> dict[str, Any]:
    """The record of what a lab measured, JSON values."""
    return {
        "claim": catalogue.title(name),
        "verdict": overall(decided),
        "differences": [_difference(one) for one in decided],
        "panels": {panel: _panel(array) for panel, array in panels.items()},
        "chosen": _plain(lab.chosen),
        "seeds": [min(lab.seeds), max(lab.seeds)],
        "pilot_seeds": len(lab.pilot),
        "steps": lab.steps,
        "seconds": round(lab.seconds),
        "diverged": len(lab.diverged),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        **git_state(),
        "machine": machine(),
        "versions": signatures.installed(signatures.NUMERIC_DEPENDENCIES),
        "code": code(name),
    }


def machine() -> str:
    """In words: the accelerators, or the processor's cores."""
    import jax

    kinds = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    return f"{len(kinds)} x {kinds[0]}" if kinds else f"{cores()} CPU cores, {platform.machine()}"


def code(name: str) -> dict[str, str]:
    """Fingerprint of the claim's file and of every module of jaxrl that is imported and decides numbers."""
    package = signatures.PACKAGE
    files = {Path(found).resolve() for module in list(sys.modules.values()) if (found := _file(module))}
    kept = sorted(file for file in files if file.is_relative_to(package) and decides(file.relative_to(package)))
    return {_key(file): signatures.file_fingerprint(file) for file in (catalogue.path(name), *kept)}


def decides(relative: Path) -> bool:
    """True of a file of jaxrl, named from the package, that can change what is measured of a claim."""
    here = relative.as_posix()
    if here.startswith(DECIDING):
        return True
    return not any(here == other or here.startswith(f"{other}/") for other in signatures.WITHOUT_EFFECT_ON_NUMBERS)


def changed(record: Mapping[str, Any]) -> list[str]:
    """The files that differ from those that a record was measured with: it is stale if there are any."""
    root = catalogue.folder().parent
    now = {file: signatures.file_fingerprint(root / file) for file in record["code"] if (root / file).exists()}
    return [file for file, was in record["code"].items() if now.get(file) != was]


def pending() -> dict[str, str]:
    """{claim: why its stale record is not measured again yet}.

    Raises UserError for a name that is no claim's and for a reason that says nothing.
    """
    file = path("pending")
    found = parsed(file) if file.exists() else {}
    for name, reason in found.items():
        if name not in catalogue.names():
            raise unknown(f"claim in {file.name}", name, catalogue.names())
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"{file}: {name!r} gives {reason!r} as its reason: write in words what changed")
    return found


def panels_of(record: Mapping[str, Any]) -> dict[str, xr.DataArray]:
    """The panels as `measure` returned them."""
    return {
        panel: xr.DataArray(np.array(_numbers(kept["scores"]), float), kept["coords"], list(kept["coords"]),
                            kept["title"], {"title": kept["title"], "units": kept["units"]})
        for panel, kept in record["panels"].items()
    }  # fmt: skip


def estimate_of(row: Mapping[str, Any]) -> Estimate:
    return Estimate(*(row[part] for part in ("value", "low", "high")))


def _difference(one: Decided) -> dict[str, Any]:
    asked, estimate = one.difference, one.estimate
    return {
        **{"says": asked.says, "panel": asked.panel, "first": asked.first, "second": asked.second},
        **{"at": dict(asked.at), "share": asked.share, "margin": asked.margin, "gain": asked.gain},
        **{part: _rounded(value) for part, value in estimate._asdict().items()},
        "verdict": one.verdict,
        "lost": one.lost,
    }


def _plain(value):
    """As JSON can say it: code by its name, a number that is none as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if callable(value):
        return value.__name__
    return _rounded(value) if isinstance(value, float) else value


def _panel(array: xr.DataArray) -> dict[str, Any]:
    return {
        "title": array.attrs.get("title", str(array.name)),
        "units": array.attrs.get("units", "1"),
        "coords": {str(dim): _plain(array[dim].values.tolist()) for dim in array.dims},
        "scores": _lists(array.values),
    }


def _lists(values: np.ndarray):
    return [_lists(row) for row in values] if values.ndim else _rounded(float(values))


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _numbers(rows):
    return [_numbers(row) for row in rows] if isinstance(rows, list) else math.nan if rows is None else rows


def _file(module) -> str | None:
    found = getattr(module, "__file__", None)
    return found if found and getattr(module, "__name__", "").partition(".")[0] == "jaxrl" else None


def _key(file: Path) -> str:
    return file.resolve().relative_to(catalogue.folder().parent.resolve()).as_posix()
