"""The ranges of constructor arguments and of params: outside of them a sentence instead of a strange world."""

from typing import Any

import jax
import numpy as np

from jaxrl.errors import UserError


def check_whole(name: str, value: Any, least: int, most: int) -> int:
    """``value`` as an int; UserError unless it is a whole number from ``least`` to ``most``."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and least <= value <= most):
        raise UserError(f"{name}={value!r} must be a whole number from {least:,} to {most:,}")
    return int(value)


def check_params(params: Any, defaults: Any, limits: dict[str, tuple[float, float]]) -> None:
    """Raises UserError for a number of ``params`` outside its limits; what is traced cannot be checked.

    A field whose default is an int must be whole.
    """
    for name, (low, high) in limits.items():
        value = getattr(params, name)
        if not is_known(value):
            continue
        whole = isinstance(getattr(defaults, name), int)
        single = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "buif"
        number = float(value) if single else np.nan
        if not low <= number <= high or (whole and not number.is_integer()):
            kind = "a whole number" if whole else "a number"
            raise UserError(f"params.{name}={value!r} must be {kind} from {low:g} to {high:g}")


def is_known(*numbers: Any) -> bool:
    """Are all of them here now, none traced?"""
    return not any(isinstance(number, jax.core.Tracer) for number in numbers)
