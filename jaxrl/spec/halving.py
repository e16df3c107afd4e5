"""Successive halving as a spec asks for it: what is judged, when, and how many go on. No jax here.

    [halving]  metric = "eval_return"   direction = "maximize"   eta = 3   first = 0.1

After the share `first` of the iterations, after `eta` times as many, and so on, the cells (points, all seeds) that
remain are ranked by the mean of the metric's newest value, and the best 1 / eta of them, rounded up, go on.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from jaxrl.errors import UserError, quoted, unknown
from jaxrl.spec.fields import checked, evaluation_points, iterations
from jaxrl.spec.tables import OPTIONS

EVALUATED = ("eval_return", "eval_return_sampled", "solved")


class Halving(NamedTuple):
    """The [halving] table."""

    metric: str
    direction: Literal["maximize", "minimize"]
    eta: int  # of the cells that remain, the best 1 / eta go on
    first: float  # the share of the iterations after which cells are judged for the first time


def read(entries: Any) -> Halving:
    """The rule of the table; raises UserError, in one sentence, for what is none."""
    if not isinstance(entries, Mapping):
        raise UserError(f"halving = {quoted(entries)}: expected a table, such as {{eta = 3, first = 0.1}}")
    known = OPTIONS["halving"]
    for key in entries:
        if key not in known:
            raise unknown("halving entry", key, known)
    found = {key: checked(f"halving {key}", entries.get(key, field.default), field) for key, field in known.items()}
    if not 0 < found["first"] < 1:
        raise UserError(f"halving first = {found['first']}: expected a share of the iterations between 0 and 1")
    return Halving(**found)


def rungs(program: Mapping[str, Any], rule: Halving) -> list[int]:
    """The iterations after which cells are judged, before the last; where the metric is measured, so far as it can be.

    What evaluations measure is judged at the evaluation at or next after each share.
    """
    last, found, share = iterations(program), set(), rule.first
    marks = evaluation_points(last, program["evals"]) if rule.metric in EVALUATED else list(range(1, last + 1))
    while share < 1:
        due = math.ceil(round(share * last, 6))  # 0.1 * 3 * 10 is a little more than 3
        found.add(next(mark for mark in marks if mark >= due))
        share *= rule.eta
    return sorted(found - {last})


def check(programs: Iterable[Mapping[str, Any]], rule: Halving) -> None:
    """Raises UserError where the programs cannot be judged at the same iterations, or never before their end."""
    programs = list(programs)
    if rule.metric in EVALUATED and any(program["evals"] == 0 for program in programs):
        raise UserError(f"halving: metric = {rule.metric!r} is measured by evaluations, and evals = 0")
    ends = sorted({iterations(program) for program in programs})
    found = {tuple(rungs(program, rule)) for program in programs}
    if len(ends) > 1 or len(found) > 1:
        counted = f"runs of {' and '.join(map(str, ends))} iterations" if len(ends) > 1 else "several values of evals"
        raise UserError(f"halving judges all runs after the same iterations, and here are {counted}: fix steps, "
                        "num_envs, num_steps and evals")  # fmt: skip
    if found == {()}:
        raise UserError(
            f"halving: nothing is measured between first = {rule.first} of the iterations and the end: "
            "raise evals, or lower first"
        )
