"""Values of fields as text, in as many digits as read back the same value. Measured numbers are rounded elsewhere."""

from typing import Any


def shown(value: Any) -> str:
    """The shortest text that a spec would read as this value; "none" where a field does not apply.

    Lanes hold their values as float32, so a number that a float32 holds exactly is told as the shortest decimal that
    becomes it: 0.10000000149011612 is "0.1". Two values that differ are never shown as one.
    """
    import numpy as np  # here, because the command line names this module before it needs a number

    if not isinstance(value, float | np.floating):
        return str(value) or "none"
    if np.isnan(value):
        return "none"
    value = float(value)
    with np.errstate(over="ignore"):
        kept = float(np.float32(value)) == value
    read = lambda text: float(np.float32(text) if kept else text) == value
    return next(text for digits in range(6, 18) if read(text := f"{value:.{digits}g}"))
