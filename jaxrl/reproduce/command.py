"""`jaxrl reproduce`, once its arguments are known to be good: one claim, or every claim. Both return an exit code."""

import functools
import sys
from pathlib import Path

from jaxrl import display
from jaxrl.executors.signals import Told, listening
from jaxrl.reproduce import catalogue, record, report, reproduce
from jaxrl.reproduce.lab import Stopped
from jaxrl.sweep.claims import leave


def one(claim: str, scale: str, out: Path, keep: bool) -> int:
    """Measure a claim, print its page and, with `keep`, put its record into experiments/records."""
    shown = display.fitting()

    def on_event(event: dict) -> None:
        wish.follow(event)
        if event["kind"] in ("note", "progress"):
            shown(event)

    number = 0
    with listening(unwind=False) as wish:
        sentence = f"interrupted: run the same command again to go on from what is in {out}"
        wish.words = functools.partial(print, sentence, flush=True)
        wish.farewells += [lambda: leave(reproduce.place(claim, scale, out)), lambda: shown({"kind": "end"})]
        try:
            found = reproduce.reproduce(claim, scale, out, stop=wish, on_event=on_event)
        except (Told, Stopped):
            number = wish.number
        finally:
            shown({"kind": "end"})
    if number:
        wish.say()
        return 128 + number
    earlier = record.read(claim, scale)
    folder = reproduce.place(claim, scale, out)
    print(report.page(claim, found))
    for row in found.get("planted", ()):
        print(f"planted data, {row['says']}: reproduced in {row['null_reproduced']:.1%} of null data "
              f"and in {row['effect_reproduced']:.0%} of effects")  # fmt: skip
    if earlier:
        print(f"recorded before, at commit {str(earlier['commit'])[:10]}: {earlier['verdict']}")
    print(f"{claim}: {found['verdict']}; figure, table and record: {folder / 'figure.png'}, claim.md, record.json")
    if keep:
        print(f"kept in {record.write(claim, scale, found)}")
    return 0


def every(scale: str, out: Path, keep: bool) -> int:
    """Measure every claim that has no fresh record in `out`, and write one report on all."""
    names, failed = catalogue.names(), []
    with listening() as wish:
        wish.words = lambda: print("interrupted: run the same command again to go on", flush=True)
        try:
            for name, code in reproduce.measure_all(names, scale, out, wish):
                if code >= 128:
                    sentence = f"interrupted at {name}: run the same command again to go on"
                    wish.words = functools.partial(print, sentence, flush=True)
                    wish.say()
                    return code
                if code:
                    failed.append(name)
                elif keep and (found := reproduce.kept(name, scale, out)):
                    record.write(name, scale, found)
        except Told as told:
            wish.say()
            return 128 + told.number
    done = {name: found for name in names if name not in failed and (found := reproduce.kept(name, scale, out))}
    page = out / f"report-{scale}.html"
    page.write_text(report.html(done), encoding="utf-8")
    print("\n".join(f"{name:24} {found['verdict']}" for name, found in done.items()))
    print(f"report: {page}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
