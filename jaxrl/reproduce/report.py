"""Claims and their verdicts as text: the page of one, the table of all, and one HTML report with every figure."""

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from jaxrl.reproduce import catalogue
from jaxrl.reproduce.figure import corner, figure, line
from jaxrl.reproduce.record import changed, panels_of, pending, read
from jaxrl.reproduce.verdict import mean
from jaxrl.results.report import STYLE
from jaxrl.results.values import shown

BEGIN, END = "<!-- claims: written by `make claims` -->", "<!-- end of claims -->"


def page(name: str, record: Mapping[str, Any]) -> str:
    """The claim, its verdict, every difference, every cell and every choice, as markdown."""
    lines = [f"# {name}: {record['verdict']}", "", record["claim"], "", corner(record), "", "## Differences", ""]
    lines += [f"- {line(one)} (margin {one['margin']:g})" for one in record["differences"]] or ["None was measured."]
    for panel, array in panels_of(record).items():
        lines += ["", f"## {panel}", "", f"{array.attrs['title']} ({array.attrs['units']}), mean [95 % interval]", ""]
        places = [str(dim) for dim in array.dims[1:-1]]
        along = array.stack(place=places) if places else array.expand_dims("place", 1)
        values = along["place"].values.tolist() if places else ["score"]
        heads = [", ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values]
        lines += [_row("arm", *heads), "|---" * (1 + len(heads)) + "|"]
        for arm in array["arm"].values:
            cells = [_cell(along.sel(arm=arm).isel(place=place).values) for place in range(len(heads))]
            lines.append(_row(str(arm), *cells))
    if record["chosen"]:
        lines += ["", "## Chosen on pilot seeds", ""]
        for row in record["chosen"]:
            at = ", ".join(f"{field} = {value}" for field, value in row["at"].items())
            tried = "; ".join(map(_said, row["tried"]))
            lines.append(f"- {row['arm']}{f' at {at}' if at else ''}: {_said(row['chosen'])} (of {tried})")
    return "\n".join(lines) + "\n"


def state(name: str, scale: str = "cpu") -> tuple[str, str]:
    """(verdict, why it does not count any more) of the record of a claim; ("not measured", "") without one."""
    found = read(name, scale)
    if found is None:
        return "not measured", ""
    if not (files := changed(found)):
        return found["verdict"], ""
    if reason := pending().get(name):
        return found["verdict"], f"pending: {reason}"
    return found["verdict"], f"stale: {', '.join(files[:3])}{' ...' if len(files) > 3 else ''} changed"


def readme_table(scale: str = "cpu") -> str:
    """The table of claims and verdicts of the README, markdown between its two marks."""
    rows = ["| claim | verdict | measured | cost |", "|---|---|---|---|"]
    for name in catalogue.names():
        found = read(name, scale)
        verdict, why = state(name, scale)
        if why.startswith("stale"):  # the files are for the console
            why = "stale"
        measured = "<br>".join(f"{line(one)}" for one in found["differences"]) if found else ""
        cost = f"{found['steps'] / 1e6:.1f}M steps, {found['seconds'] / 60:.0f} min" if found else ""
        linked = f"[`{name}`](experiments/{name.replace('-', '_')}.py) {catalogue.title(name)}"
        rows.append(_row(linked, f"**{verdict}**{f' ({why})' if why else ''}", measured, cost))
    return "\n".join([BEGIN, *rows, END])


def html(records: Mapping[str, Mapping[str, Any]]) -> str:
    """One page that opens offline: the table of verdicts, then each claim with its figure and its differences."""
    rows = "".join(
        f'<tr><td><a href="#{name}">{name}</a></td><td>{found["verdict"]}</td><td class="text">{escape(found["claim"])}'
        f"</td><td>{found['seconds'] / 60:.0f} min</td></tr>"
        for name, found in records.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Claims and verdicts</title><style>{STYLE}</style></head><body>
<h1>Claims and verdicts</h1>
<div class="wide"><table><thead><tr><th>claim</th><th>verdict</th><th>in a sentence</th><th>cost</th></tr></thead>
<tbody>{rows}</tbody></table></div>
{"".join(_section(name, found) for name, found in records.items())}
</body></html>
"""


def _section(name: str, found: Mapping[str, Any]) -> str:
    buffer = io.BytesIO()
    figure(found).savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    image = base64.b64encode(buffer.getvalue()).decode()
    differences = "".join(f"<li>{escape(line(one))}</li>" for one in found["differences"])
    return (
        f'<h2 id="{name}">{name}: {found["verdict"]}</h2><pre>{escape(catalogue.doc(name))}</pre><ul>{differences}</ul>'
        f'<figure><img alt="{name}" src="data:image/png;base64,{image}"></figure>'
    )


def _said(choice: Mapping[str, Any]) -> str:
    measured = lambda key, value: key == "score" and isinstance(value, float)
    return ", ".join(f"{key} {f'{x:.4g}' if measured(key, x) else shown(x)}" for key, x in choice.items())



def _row(*cells: str) -> str:
    """A row of a markdown table: what would end a cell is written so that it does not."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(scores: np.ndarray) -> str:
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return "-"
    value, low, high = mean(scores)
    return f"{value:.3g}" if np.isnan(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"
