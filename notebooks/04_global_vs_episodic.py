# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Global and episodic bonuses: a claim, its record, and what lies behind it
#
# `jaxrl reproduce global-vs-episodic` decides a claim of Henaff, Jiang and Raileanu (2023, arXiv:2306.03236). What was
# measured is kept as a record beside the claim's file. This notebook reads the record, and the curves of the very runs
# that it was made from; nothing is trained here.

# %%
# %matplotlib inline
import json
from pathlib import Path

import matplotlib
import numpy as np
from IPython.display import Markdown, display
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jaxrl import results
from jaxrl.reproduce import catalogue, record
from jaxrl.reproduce.figure import corner, figure
from jaxrl.results import plot, stats

matplotlib.rcParams["figure.dpi"] = 80
NAME, STORED = "global-vs-episodic", Path("results/global_vs_episodic")
found = record.read(NAME, "cpu")
Markdown("```text\n" + catalogue.doc(NAME) + "\n```")

# %% [markdown]
# ## The figure
#
# Above, what was measured; below, the differences that were registered before the run, each with its interval. Grey is
# the margin inside of which a difference counts as none.

# %%
figure(found)

# %% [markdown]
# A coefficient was chosen for each bonus and each place, on other seeds than those of the verdict:

# %%
for choice in found["chosen"]:
    where = ", ".join(f"{name} = {value}" for name, value in choice["at"].items()) or "one world"
    print(f"{choice['arm']:9} {where:22} coef = {choice['chosen']['coef']:g}")

# %% [markdown]
# ## How it came about
#
# The return of the exploring policy while it learns: mean over the seeds, with its 95 % bootstrap interval.

# %%
arms = json.loads((STORED / "arms.json").read_text())  # a bonus, as its lanes name it -> the claim's name for it
frame = results.sql(
    """
    select env, "params.contexts" as contexts, bonus, metrics.seed, step, "return"
    from metrics join lanes using (lane)
    where status = 'ok'
    """,
    STORED,
)
# Few episodes end in one iteration: twenty points a curve are means over many.
frame["point"] = frame.groupby("env")["step"].transform(lambda step: np.ceil(20 * step / step.max()))
frame["contexts"] = frame["contexts"].fillna(-1).replace(0, np.inf)  # one world for ever, and a new one each time
panels = list(frame.groupby(["contexts", "env"]))

made = Figure(figsize=(3.2 * len(panels), 3.4), layout="constrained")
axes = made.subplots(1, len(panels), squeeze=False)[0]
for axis, ((contexts, env), panel) in zip(axes, panels, strict=True):
    million = panel["step"].max() / 20 / 1e6
    for (bonus, arm), colour in zip(arms.items(), plot.COLOURS, strict=False):
        table = panel[panel["bonus"] == bonus].pivot_table(index="point", columns="seed", values="return")
        bands = [stats.bootstrap_interval(row, stats.mean, 0, nan_policy="omit") for row in table.values]
        value, low, high = np.array(bands).T
        axis.plot(table.index * million, value, color=colour, lw=1.6, label=arm)
        axis.fill_between(table.index * million, low, high, color=colour, alpha=0.16, lw=0)
    worlds = {-1: "", np.inf: ", always new"}.get(contexts, f", |C| = {contexts:.0f}")
    axis.set(title=env.removeprefix("grid/") + worlds, xlabel="million environment steps", ylim=(-0.03, 1.03))
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("training return")
axes[0].legend(frameon=False)
made.text(0.99, -0.04, corner(found), ha="right", fontsize=6.5, color="0.4")
display(made)

# %% [markdown]
# ## Where the policies go
#
# What the trained policies visit in the one world of `Corridors`, as they explore: the agent starts in the middle of
# the hall on the left, and the goal is at the end of the topmost corridor. White is wall, or was not visited.

# %%
with np.load(STORED / "visits.npz") as kept:
    shares = {arm: kept[arm] / kept[arm].sum() for arm in kept}
made = Figure(figsize=(3.1 * len(shares), 2.9), layout="constrained")
axes = made.subplots(1, len(shares))
norm = LogNorm(min(share[share > 0].min() for share in shares.values()), 1)
for axis, (arm, share) in zip(axes, shares.items(), strict=True):
    image = axis.imshow(np.ma.masked_equal(share, 0), cmap="viridis", norm=norm)
    axis.set(title=f"{arm}: {(share > 0).sum()} cells", xlabel="column")
axes[0].set_ylabel("row")
made.colorbar(image, ax=list(axes), label="share of steps", shrink=0.7)
display(made)

# %%
verdicts = [one["verdict"] for one in found["differences"]]
said = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in sorted(set(verdicts)))
print(f"The claim is {found['verdict']}: of {len(verdicts)} differences registered before the run, {said}.")
