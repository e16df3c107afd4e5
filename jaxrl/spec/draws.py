"""Distributions of fields: what a spec's [random] table draws from and [optuna] searches. No jax here.

Draw i of a field depends on (seed, field, i) alone: more draws keep the first ones, another field changes none.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from jaxrl.errors import UserError, quoted, unknown
from jaxrl.float32 import shortest
from jaxrl.signatures import coerce

KEYS = ("low", "high", "log", "step", "choices")
EXAMPLE = "{ low = 1e-5, high = 1e-2, log = true } or { choices = [1, 2] }"


class Distribution(NamedTuple):
    """Uniform over [low, high], both included, or over choices."""

    low: float
    high: float
    log: bool = False  # uniform in the logarithm
    step: float | None = None  # only low, low + step, ...
    choices: tuple = ()
    whole: bool = False  # whole numbers only


class Search(NamedTuple):
    """The [optuna] table: a search for the point with the best mean over the spec's seeds of a final metric."""

    trials: int
    batch: int  # trials that are asked for, and run, together
    metric: str
    direction: Literal["maximize", "minimize"]
    seed: int
    space: dict[str, Distribution]


def read(name: str, table: Mapping[str, Any]) -> Distribution:
    """The distribution that a table describes; `whole` where all its numbers are, until the field is known.

    Raises UserError naming the field for an unknown, missing or impossible entry.
    """
    for key in table:
        if key not in KEYS:
            raise unknown(f"entry of {name}", key, KEYS)
    if "choices" in table:
        return Distribution(0, 0, choices=_choices(name, table))
    for key in ("low", "high"):
        if key not in table:
            raise UserError(f"{name}: {key!r} is missing; a distribution is written {EXAMPLE}")
    numbers = {key: coerce(f"{name}: {key}", table[key], 0.0) for key in ("low", "high", "step") if key in table}
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    log = coerce(f"{name}: log", table.get("log", False), False)
    if low > high:
        raise UserError(f"{name}: low = {low:g} is above high = {high:g}")
    if log and low <= 0:
        raise UserError(f"{name}: low = {low:g}: must be above 0 where log = true")
    if log and step is not None:
        raise UserError(f"{name}: step = {step:g} and log = true exclude each other: drop one")
    if step is not None:
        if step <= 0:
            raise UserError(f"{name}: step = {step:g}: must be above 0")
        high = float(f"{low + step * _steps(low, high, step):.9g}")
    return settled(name, Distribution(low, high, log, step), all(isinstance(table[key], int) for key in numbers))


def settled(name: str, distribution: Distribution, whole: bool) -> Distribution:
    """The distribution of a field whose values are `whole` numbers, or are not; raises UserError where they cannot."""
    numbers = {key: getattr(distribution, key) for key in ("low", "high", "step")}
    for key, number in numbers.items() if whole else ():
        if number is not None and number != int(number):
            raise UserError(f"{name}: {key} = {number:g}: expected a whole number, as the field's values are")
    convert = int if whole else float
    low, high, step = convert(distribution.low), convert(distribution.high), distribution.step
    return distribution._replace(low=low, high=high, step=step and convert(step), whole=whole)


def draw(space: Mapping[str, Distribution], n: int, seed: int) -> dict[str, tuple]:
    """`n` draws of every field, by field."""
    return {name: tuple(_drawn(one, u) for u in _uniform(name, n, seed)) for name, one in space.items()}


def extremes(space: Mapping[str, Distribution]) -> dict[str, tuple]:
    """Columns of one length with every field's bounds, or all its choices: what is checked before anything is drawn."""
    ends = {name: one.choices or (one.low, one.high) for name, one in space.items()}
    longest = max(map(len, ends.values()), default=0)
    return {name: tuple(values[i % len(values)] for i in range(longest)) for name, values in ends.items()}


def rounded(one: Distribution, number: float) -> float:
    """A number of the distribution as the float32 that it becomes, in its shortest spelling.

    The last bits of a logarithm or of a sum of steps differ between processors, and lanes are known by their values.
    """
    if one.whole:
        return int(min(max(round(number), one.low), one.high))
    return min(max(shortest(number), one.low), one.high)


def _drawn(one: Distribution, u: float) -> Any:
    """What a uniform number in [0, 1) stands for."""
    if one.choices:
        return one.choices[int(u * len(one.choices))]
    if one.log:  # a whole number k owns [k - 1/2, k + 1/2], so that the first and the last are not rare
        low, high = (one.low - 0.5, one.high + 0.5) if one.whole else (one.low, one.high)
        return rounded(one, math.exp(math.log(low) + u * (math.log(high) - math.log(low))))
    if step := one.step or (1 if one.whole else None):
        return rounded(one, one.low + step * int(u * (_steps(one.low, one.high, step) + 1)))
    return rounded(one, one.low + u * (one.high - one.low))


def _uniform(name: str, n: int, seed: int) -> list[float]:
    """The first `n` of the field's stream in [0, 1): raw bits of PCG64, which NumPy never changes."""
    import numpy as np

    bits = np.random.PCG64(np.random.SeedSequence([seed, *name.encode()])).random_raw(n)
    return ((bits >> np.uint64(11)) * 2.0**-53).tolist()


def _steps(low: float, high: float, step: float) -> int:
    return math.floor((high - low) / step + 1e-9)


def _choices(name: str, table: Mapping[str, Any]) -> tuple:
    choices = table["choices"]
    if len(table) > 1:
        other = next(key for key in table if key != "choices")
        raise UserError(f"{name}: choices stand alone, without {other!r}")
    if not isinstance(choices, (tuple, list)) or not choices:
        raise UserError(f"{name}: choices = {quoted(choices)}: expected a list of at least one value")
    if len({str(choice) for choice in choices}) < len(choices):
        raise UserError(f"{name}: choices = {quoted(choices)}: one of them is there twice")
    return tuple(choices)
