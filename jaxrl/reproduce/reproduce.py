"""One claim at one scale, from its file to its verdict: measure, decide, keep, draw."""

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxrl.errors import UserError
from jaxrl.executors.signals import Wish
from jaxrl.keys import with_generator
from jaxrl.reproduce import catalogue, record, report
from jaxrl.reproduce.figure import figure
from jaxrl.reproduce.lab import Lab
from jaxrl.reproduce.verdict import Difference, binary, decide, planted

MOST_FALSE = 0.05  # of null data that may come out reproduced
LEAST_TRUE = 0.9  # of planted effects that must
OUT = Path("results/reproduce")


def reproduce(
    name: str,
    scale: str = "cpu",
    out: Path = OUT,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_event: Callable[[dict], None] = lambda event: None,
) -> dict[str, Any]:
    """Measure a claim and write record.json, claim.md and figure.png to ``out/NAME-SCALE``; returns the record.

    What was trained before, by the same code, is not trained again.

    Raises:
        Stopped: `stop` said so; the same call goes on.
        UserError: there is no such claim, or its file lacks a part.
    """
    claim = catalogue.load(name)
    lab = Lab(claim.SCALES[scale], place(name, scale, out), stop=stop, on_event=on_event)
    panels = with_generator(claim.measure)(lab)
    if not panels:
        raise UserError(f"{name}: measure returned no panel")
    registered = list(claim.DIFFERENCES)
    if scale == "smoke":  # which may leave out panels, arms and places
        registered = [one for one in registered if asked(one, panels)]
        if not registered:
            raise UserError(f"{name}: at the scale smoke not one difference can be decided")
    with warnings.catch_warnings():  # scipy's, of scores that are all but equal: the interval is as narrow
        warnings.simplefilter("ignore", RuntimeWarning)
        decided = [decide(one, panels) for one in registered]
    found = record.made(name, lab, panels, decided)
    if scale == "smoke":
        found["planted"] = check_planted(claim, panels)
    keep(found, place(name, scale, out), name)
    return found


def asked(one: Difference, panels) -> bool:
    """True where a small run measured both sides of a difference."""
    if one.panel not in panels:
        return False
    panel = panels[one.panel]
    there = {dim: set(panel[dim].values.tolist()) for dim in panel.dims}
    if missing := [dim for dim in one.at if dim not in there]:
        raise UserError(f"{one.says!r}: panel {one.panel!r} has no dim {missing[0]!r}")
    return {one.first, one.second} <= there["arm"] and all(value in there[dim] for dim, value in one.at.items())


def place(name: str, scale: str, out: Path) -> Path:
    return out / f"{name}-{scale}"


def keep(found: dict[str, Any], folder: Path, name: str) -> None:
    """Write the three files of a record."""
    folder.mkdir(parents=True, exist_ok=True)
    figure(found).savefig(folder / "figure.png", dpi=150, metadata={"Software": None})
    (folder / "claim.md").write_text(report.page(name, found), encoding="utf-8")
    record.put(folder / "record.json", found)


def check_planted(claim: ModuleType, panels) -> list[dict[str, Any]]:
    """What the verdict says of made-up data, as many seeds as on a CPU; raises UserError where it is deceived."""
    rows = []
    for one in claim.DIFFERENCES:
        proportion = one.panel in panels and binary(panels[one.panel].values)
        shares = planted(one, claim.SCALES["cpu"]["seeds"], proportion)
        false, true = shares["null"]["reproduced"], shares["effect"]["reproduced"]
        if false > MOST_FALSE or true < LEAST_TRUE:
            raise UserError(
                f"{one.says!r}: of planted null data {false:.0%} come out reproduced, of planted effects {true:.0%}, "
                f"where at most {MOST_FALSE:.0%} and at least {LEAST_TRUE:.0%} should: it needs more seeds"
            )
        rows.append({"says": one.says, "null_reproduced": false, "effect_reproduced": true})
    return rows


def measure_all(names: Sequence[str], scale: str, out: Path, wish: Wish) -> Iterator[tuple[str, int]]:
    """Each claim that has no fresh record in `out`, in a process of its own; (name, exit code) as each ends.

    Signals are passed on, and what was told to end is waited for, so that it can save; after one nothing is begun. A
    code of 128 or more is a signal's.
    """
    for name in names:
        if wish():
            yield name, 128 + wish.number
            return
        if (found := kept(name, scale, out)) and not record.changed(found):
            yield name, 0
            continue
        command = [sys.executable, "-m", "jaxrl", "reproduce", name, "--scale", scale, "--out", str(out)]
        process = subprocess.Popen(command, start_new_session=True)  # a terminal's Ctrl-C comes from here alone
        wish.saving, told = True, False
        try:
            while (code := _waited(process)) is None:
                if wish() and not told:
                    process.send_signal(wish.number)
                    told = True
        finally:  # told twice: nobody waits any longer
            wish.saving = False
            process.terminate()
        code = 128 - code if code < 0 else code
        if told and code == 128 + wish.number:
            wish.hush()
        yield name, code


def _waited(process: subprocess.Popen) -> int | None:
    try:
        return process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return None


def kept(name: str, scale: str, out: Path) -> dict[str, Any] | None:
    """The record of an earlier sitting in `out`; None where there is none that can be read."""
    file = place(name, scale, out) / "record.json"
    try:
        return record.checked(file, record.parsed(file)) if file.exists() else None
    except UserError:
        return None
