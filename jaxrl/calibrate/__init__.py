"""Bonuses against exact visit counts, without an agent: `jaxrl calibrate`.

A scripted walk visits the cells of a grid. Each of its rollouts is labelled and then learned from, as in training, and
what the bonus pays for a transition is compared with 1 / sqrt(n), what a count pays. Which n depends on the kind that
the bonus's module declares:

    lifelong, recurrent   1 + the arrivals at the cell in earlier rollouts, by all environments   (as `count`)
    episodic              visits in this episode by this environment, this one included           (as `episodic_count`)
    batch                 arrivals at the cell in the rollout
    composed              the product of the first two

The walk starts each episode in a corner and repeats its action half of the time, so far cells are rarely seen. It is
shown as one-hot row and column, at three scales, once with a television (a cell with a new random picture at each
visit), and, with action noise, as a picture of `VisualGrid`. The same seed walks the same way for every bonus. CFN's
paper compares bonuses with counts on a visual grid (Lobel et al. 2023, arXiv:2306.03186); the walk, its length, the
measures and the television are ours. Observation moments have no warm-up here.
"""

from jaxrl.calibrate.report import figure, line, markdown, run, table, text
from jaxrl.calibrate.score import Calibration, calibrate, default_bonuses
from jaxrl.calibrate.walks import Protocol

__all__ = [
    "Calibration",
    "Protocol",
    "calibrate",
    "default_bonuses",
    "figure",
    "line",
    "markdown",
    "run",
    "table",
    "text",
]
