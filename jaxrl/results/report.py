"""One HTML file that answers the question of a sweep and opens offline: table, figures, diverged lanes, provenance."""

import base64
import io
import json
import os
import uuid
import warnings
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxrl import disk
from jaxrl.errors import UserError
from jaxrl.metrics import METRICS
from jaxrl.results import plot
from jaxrl.results.query import curves, fields, final, lanes, swept, swept_names
from jaxrl.results.store import chunks, unfinished
from jaxrl.results.table import readable, summary
from jaxrl.results.values import shown

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #5b636d; --line: #d6dae0; --band: #f4f6f8;
        --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15181c; --faint: #a2abb5; --line: #353b43; --band: #1d2127; --accent: #56b4e9; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
       margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.65rem; line-height: 1.25; margin-bottom: .3rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p.lead, figcaption, .note { color: var(--faint); }
nav a { color: var(--accent); margin-right: 1.1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .28rem .9rem .28rem .4rem; border-bottom: 1px solid var(--line); }
th, td { white-space: nowrap; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 17rem; }
tbody tr:nth-child(even) { background: var(--band); }
figure { margin: 1.4rem 0; }
figure img { max-width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
code { font-size: .85em; }
"""


def write_report(*directories, out, strict: bool = False) -> Path:
    """Write the report on one or several results directories to the file ``out`` (".html") and return its path.

    What was left out, damaged chunks say, is told once as a warning and on the page; with ``strict`` those are errors.
    """
    out = Path(out)
    if out.suffix != ".html":
        raise UserError(f"out is {str(out)!r}, but the report is one file whose name ends in .html")
    partial = out.with_name(f".{uuid.uuid4().hex}.html")
    with disk.place(out.parent):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame, dataset = lanes(*directories, strict=strict), curves(*directories, strict=strict)
            manifests = [manifest for one in directories for manifest in chunks(one, strict)]
        told = dict.fromkeys(str(warning.message) for warning in caught)  # each was read twice
        for sentence in told:
            warnings.warn(sentence, stacklevel=2)
        page = _page(directories, frame, dataset, manifests, list(told))
        try:
            partial.write_text(page, encoding="utf-8")
            os.replace(partial, out)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(f"out = {str(out)!r} cannot be written: {disk.refusal(out.parent, error)}") from error
    return out


def figures(dataset: xr.Dataset) -> dict[str, Figure]:
    """Every figure that the measured metrics allow, by file name: solved, curves, heat map, importance; or points."""
    names = swept_names(dataset)
    measured = [name for name in ("eval_return", "coverage", "return", "solved")
                if name in dataset and dataset[name].notnull().any()]  # fmt: skip
    if names == ["point"]:
        made = {metric: plot.points(dataset, metric) for metric in measured}
        return made | _importance(dataset)
    hue = "bonus" if "bonus" in names else None
    made = {}
    if "solved" in measured:
        made["solved"] = plot.success_bars(dataset, hue=hue if len(names) > 1 else None)
    for metric in (name for name in measured if name != "solved"):
        made[metric] = plot.learning_curves(dataset, metric, hue)
    if "eval_return" in measured and len(names) > 1:
        x = "coef" if "coef" in names else names[-1]
        y = "bonus" if "bonus" in names else next(name for name in names if name != x)
        made["heatmap"] = plot.coefficient_heatmap(dataset, x=x, y=y)
    return made | (_importance(dataset) if len(names) > 1 else {})


def _importance(dataset: xr.Dataset) -> dict[str, Figure]:
    varies = "eval_return" in dataset and np.unique(final(dataset["eval_return"]).values[()]).size > 2
    return {"importance": plot.importance(dataset)} if varies else {}


def _page(directories, frame: pd.DataFrame, dataset: xr.Dataset, manifests: list[dict], told: list[str]) -> str:
    # only what was read: lanes of other code or committed twice come from chunks that are not in the frame
    read = {manifest["chunk"]: manifest for manifest in manifests}
    manifests = [manifest for chunk, manifest in read.items() if chunk in set(frame["chunk"])]
    diverged, stopped = (frame[frame["status"] == status] for status in ("diverged", "stopped"))
    abandoned = sum(len(unfinished(one)) for one in directories)
    cells = summary(frame)
    drawn = "".join(_figure(name, made) for name, made in figures(dataset).items())
    question = _question(frame)
    lead = (
        f"{len(cells)} cells, {len(frame)} lanes, {frame['seed'].nunique()} seeds; diverged lanes: {len(diverged)}."
        f"{f' {len(stopped)} lanes were stopped before their end.' if len(stopped) else ''}"
        f"{f' {abandoned} unfinished chunks were ignored.' if abandoned else ''}"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(question)}</title><style>{STYLE}</style></head><body>
<h1>{escape(question)}</h1>
<p class="lead">{escape(lead)}</p>
{"".join(f'<p class="note">{escape(sentence)}</p>' for sentence in told)}
<nav><a href="#cells">Every cell</a><a href="#figures">Figures</a><a href="#diverged">Diverged lanes</a>
<a href="#programs">Programs</a><a href="#provenance">Provenance</a></nav>
<h2 id="cells">Every cell</h2>
{_table(readable(cells))}
<p class="note">solved: seeds whose last evaluation reaches the environment's threshold, with the 95 % Wilson interval.
Evaluation return: {escape(METRICS["eval_return"])}; at the end of training, interquartile mean over seeds with its 95 %
bootstrap interval. Coverage: {escape(METRICS["coverage"])}. Diverged lanes are counted, not averaged.</p>
<h2 id="figures">Figures</h2>
{drawn or "<p>No metric was measured.</p>"}
<h2 id="diverged">Diverged lanes</h2>
{_table(diverged[["lane", *swept(frame), "seed", "first_bad_iteration"]]) if len(diverged) else "<p>None.</p>"}
{_stopped(stopped, swept(frame)) if len(stopped) else ""}
<h2 id="programs">Programs</h2>
{_table(_programs(manifests, frame))}
<h2 id="provenance">Provenance</h2>
<p>Fixed in every lane:</p>
{_table(_fixed(frame))}
<p>Chunks:</p>
{_table(_provenance(manifests))}
</body></html>
"""


def _stopped(lanes: pd.DataFrame, names: list[str]) -> str:
    note = "Counted, not averaged. The same spec without [halving] goes on with them."
    table = _table(lanes[["lane", *names, "seed", "stopped_at"]])
    return f'<h2 id="stopped">Stopped lanes</h2>\n<p>{note}</p>\n{table}'


def _question(frame: pd.DataFrame) -> str:
    names = swept(frame)
    environments = " and ".join(map(str, frame["env"].unique())) if "env" in frame else "the environment"
    if "bonus" in names:
        bonuses = ", ".join(map(str, frame["bonus"].unique()))
        return f"Which of the bonuses {bonuses} helps on {environments}, and how sure are we?"
    changed = [name for name in names if name != "env"]
    return f"What does {' and '.join(changed) or 'the agent'} do on {environments}, and how sure are we?"


def _figure(name: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    image = base64.b64encode(buffer.getvalue()).decode()
    metric = "eval_return" if name in ("heatmap", "importance") else name
    return (
        f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(metric)}: {escape(METRICS[metric])}</figcaption></figure>"
    )


def _programs(manifests: list[dict], frame: pd.DataFrame) -> pd.DataFrame:
    """One row per program: what sets it apart, its lanes, and its cost."""
    rows: dict[str, dict] = {}
    apart = [name for name in swept(frame) if frame.groupby("chunk")[name].nunique(dropna=False).max() == 1]
    for manifest in manifests:
        program = json.dumps(manifest["program"], sort_keys=True)
        first = frame[frame["chunk"] == manifest["chunk"]].iloc[0]
        row = rows.setdefault(
            program, {**{name: first[name] for name in apart}, "chunks": 0, "lanes": 0, "program": program}
        )
        row["chunks"] += 1
        row["lanes"] += len(manifest["lanes"])
        for name in ("compile_seconds", "run_seconds"):
            if isinstance(seconds := manifest["timing"].get(name), int | float):
                row[name] = round(row.get(name, 0) + seconds, 3)
    table = pd.DataFrame(rows.values())
    return table[[name for name in table if name != "program"] + ["program"]]


def _fixed(frame: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in fields(frame) if name not in swept(frame)]
    return pd.DataFrame({"field": names, "value": [frame[name].dropna().iloc[0] for name in names]})


def _provenance(manifests: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "chunk": manifest["chunk"],
            "committed (UTC)": manifest["committed"][:19],
            "seeds": _ranges(manifest["seeds"]),
            "code": manifest["code"],
            "commit": f"{manifest['commit'] or 'unknown'}{' (dirty)' if manifest['dirty'] else ''}",
            "packing": _pairs(manifest["packing"]),
            "timing": _pairs(manifest["timing"]),
            "environment": _pairs(manifest["environment"]),
        }
        for manifest in manifests
    )


def _ranges(seeds: list[int]) -> str:
    """Sorted seeds as "0-7, 12"."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _table(frame: pd.DataFrame) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in frame)
    body = "".join(f"<tr>{''.join(map(_entry, row))}</tr>\n" for row in frame.to_numpy(object))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def _entry(value) -> str:
    text = "-" if pd.isna(value) else shown(value)
    return f"<td{' class=text' if len(text) > 40 else ''}>{escape(text)}</td>"


def _pairs(mapping: dict) -> str:
    return ", ".join(f"{name} = {value}" for name, value in sorted(mapping.items()))
