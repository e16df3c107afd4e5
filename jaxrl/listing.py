"""What can be named, as tables: environments, and bonuses, agents and trainers from their docstrings. No jax here."""

import re
import sys

import jaxrl.agents
import jaxrl.intrinsic
import jaxrl.trainers
from jaxrl.signatures import signature


def environments() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from jaxrl.envs.catalogue import SOURCES, rows

    state = {name: "installed" if source.installed else source.cure for name, source in SOURCES.items()}
    table: list[tuple[str, ...]] = [(*row[:-1], state[row.source]) for row in rows().values()]
    return ("environment", "source", "observation", "actions", "step limit", "solved", "state"), table


def _catalogue(what: str) -> dict[str, str]:
    return {
        "bonuses": jaxrl.intrinsic.CATALOGUE,
        "agents": jaxrl.agents.CATALOGUE,
        "trainers": jaxrl.trainers.CATALOGUE,
    }[what]


def factories(what: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for each, from the first line of its module's docstring and, of bonuses, the lines that close it."""
    closing = ("Kind", "Memory", "Knows") if what == "bonuses" else ()
    table = []
    for name, reference in _catalogue(what).items():
        doc = signature(reference).doc
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
    known = signature(_catalogue(what)[name])
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
