"""What can be named, as tables: environments, fields, metrics, and factories from their docstrings. No jax here."""

import math
import re
import sys

import jaxrl.agents
import jaxrl.envs.wrappers
import jaxrl.intrinsic
import jaxrl.trainers
from jaxrl.metrics import METRICS
from jaxrl.signatures import signature, summary
from jaxrl.spec.fields import CONFIG, Field, agent_fields

CATALOGUES = {
    "bonuses": jaxrl.intrinsic.CATALOGUE,
    "agents": jaxrl.agents.CATALOGUE,
    "trainers": jaxrl.trainers.CATALOGUE,
    "wrappers": jaxrl.envs.wrappers.CATALOGUE,
}


def environments() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from jaxrl.envs.catalogue import SOURCES, rows

    state = {name: "installed" if source.installed else source.cure for name, source in SOURCES.items()}
    table: list[tuple[str, ...]] = [(*row[:-1], state[row.source]) for row in rows().values()]
    return ("environment", "source", "observation", "actions", "step limit", "solved", "state"), table


def fields() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for each field of a run with the default agent; those of a bonus are listed with it."""
    table: list[tuple[str, ...]] = [
        (name, repr(field.default), _bounds(field), "lane" if field.traced else "program", field.help)
        for name, field in sorted({**agent_fields(CONFIG["agent"].default, {}), **CONFIG}.items())
    ]
    return ("field", "default", "allowed", "each value is a", "what"), table


def metrics() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    return ("metric", "what"), list(METRICS.items())


def _bounds(field: Field) -> str:
    if field.choices:
        return ", ".join(field.choices)
    if math.isfinite(field.high):
        return f"{field.low:g} to {field.high:g}"
    return f"at least {field.low:g}" if math.isfinite(field.low) else ""


def factories(what: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for each, from the first line of its module's docstring and, of bonuses, the lines that close it."""
    closing = ("Kind", "Memory", "Knows") if what == "bonuses" else ()
    table = []
    for name, reference in CATALOGUES[what].items():
        doc = summary(reference) if what == "wrappers" else signature(reference).doc  # they share modules
        table.append((name, doc.partition("\n")[0], *(closing_line(doc, word) for word in closing)))
    return ("name", "what", *("kind", "memory of an environment", "knows")[: len(closing)]), table


def claims() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for each claim of experiments/, with the verdict of its record."""
    from jaxrl.reproduce import catalogue, report

    rows: list[tuple[str, ...]] = [(name, catalogue.title(name), *report.state(name)) for name in catalogue.names()]
    return ("claim", "what", "verdict", ""), rows


def closing_line(doc: str, word: str) -> str:
    """What follows `word` in a line of its own, and in those below that belong to it, without the full stop."""
    found = re.search(rf"^{word}: (.+?)\.?(?=\n\w+: |\n\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""


def parameters(what: str, name: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    known = signature(CATALOGUES[what][name])
    rows: list[tuple[str, ...]] = [
        (parameter, repr(default), "lane" if parameter in known.swept else "program", known.help.get(parameter, ""))
        for parameter, default in {**known.swept, **known.static}.items()
    ]
    return ("parameter", "default", "each value is a", "what"), rows


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    with console.capture() as text:
        console.print(table)
    return text.get()


TABLES = {"envs": environments, "fields": fields, "metrics": metrics, "claims": claims}
