"""What a number of a spec becomes: the float32 that a program computes with, written as shortly as it reads back."""

import struct

from jaxrl.errors import UserError

SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # below the smallest, processors compute with 0


def shortest(value: float) -> float:
    """The number of the fewest digits whose float32 is that of `value`, so that equal lanes have equal spellings."""
    (number,) = struct.unpack("f", struct.pack("f", value))
    spelled = (float(f"{number:.{digits}g}") for digits in range(1, 10))
    return next(spelling for spelling in spelled if struct.pack("f", spelling) == struct.pack("f", number))


def check_range(name: str, value: float) -> None:
    """Raises UserError for a number that a float32 would turn into 0 or into infinity."""
    if value and not SMALLEST <= abs(value) <= LARGEST:
        raise UserError(
            f"{name} = {value:g}: numbers are float32: must be 0, or between {SMALLEST:.4g} and {LARGEST:.4g} in size"
        )


def as_float32(name: str, value: float) -> float:
    """`value` in its shortest spelling; raises UserError as `check_range` does."""
    check_range(name, value)
    return shortest(value)
