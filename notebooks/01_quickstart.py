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
# # Quickstart: train, compose, sweep, plot
#
# DeepSea is a grid of 10 x 10 cells. The agent starts at the top left and sinks one row a step, going left or right;
# the only reward that is worth having lies at the bottom right, and each step towards it costs a little. Random play
# finds it in one episode of $2^{10}$, and an agent that learns from the cost alone turns away from it. Does a bonus for
# novelty help, and how sure are we?
#
# jaxrl compiles an environment, an agent and a bonus into one program, and runs it for many (hyperparameter, seed)
# pairs at once.

# %%
# %matplotlib inline
import os
import tempfile

import matplotlib

from jaxrl import results, sweep
from jaxrl.devices import prepare_jax
from jaxrl.results import plot

prepare_jax(os.environ)  # before jax is imported: one CPU device per core, and a cache of what was compiled
matplotlib.rcParams["figure.dpi"] = 80
folder = tempfile.TemporaryDirectory()
out = folder.name  # a directory of your own keeps the results
task = {"env": "DeepSea-bsuite", "env_args": {"size": 10}, "steps": 30_720, "lr": 2e-3, "evals": 5}

# %% [markdown]
# ## Train
#
# Any field that is not named has its default; `jaxrl list envs`, `jaxrl list bonuses` and `jaxrl list agents` show what
# there is. First PPO alone. Four seeds run together, and come back as an `xarray.Dataset` over (seed, iteration).

# %%
curves = sweep.sweep(out, bonus="none", seeds=4, **task)
curves[["eval_return", "return", "coverage"]]

# %%
results.lanes(out)[["seed", "status", "final_eval_return", "final_coverage"]]

# %% [markdown]
# ## Compose
#
# A bonus is an expression: numbers scale, `+` adds, `*` multiplies, and arguments are written as in Python, so
# `0.5 * rnd(dim=16) + count` is one, too. `count` pays $1/\sqrt{n + 1}$ for arriving at a state that was visited $n$
# times before; the second factor pays for a state only once an episode. The same expressions can be given to
# `jaxrl train --bonus` and in a TOML file.

# %%
bonuses = ["count", "count * episodic_count(first_visit=True)"]

# %% [markdown]
# ## Sweep
#
# A grid over the bonus and its coefficient. A coefficient is a number, so all coefficients of a bonus run in one
# compiled program; a bonus is code, so each is a program of its own. What was committed to the directory before is
# never run again and comes back as well: the runs without a bonus, which have no coefficient. A sweep that is killed
# goes on where it was.

# %%
curves = sweep.sweep(out, grid={"bonus": bonuses, "coef": [0.01, 0.1, 1.0]}, seeds=4, **task)
dict(curves.sizes)

# %% [markdown]
# ## Plot
#
# Lines are interquartile means over the seeds, the shade is their 95 % bootstrap interval, and the corner says what the
# figure was made from. Pick a part of the data with xarray's `sel`, and give it to any of the figures.

# %%
plot.learning_curves(curves, "coverage", hue="bonus")

# %%
plot.success_bars(curves, "solved", hue="bonus")

# %% [markdown]
# The two bonuses agree, as they should: nothing is visited twice in an episode of DeepSea, so the second factor is
# always 1. Every combination has its row, none is crowned:

# %%
table = results.summary(results.lanes(out))
results.table.readable(table)

# %% [markdown]
# Curves and lanes can also be asked in SQL:

# %%
results.sql(
    """
    select bonus, coef, min(step) as solved_first, count(distinct lane) as seeds
    from metrics join lanes using (lane, seed)
    where metrics.solved = 1
    group by all order by solved_first
    """,
    out,
)

# %%
folder.cleanup()
solved = table.groupby("bonus")[["solved", "seeds"]].sum().astype(int)
said = [f"{row.solved} of {row.seeds} runs with {bonus}" for bonus, row in solved.iterrows()]
print(f"DeepSea-10 was solved in {', '.join(said)}.")
