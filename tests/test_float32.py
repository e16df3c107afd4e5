"""Numbers of a spec are float32, in their shortest spelling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl.errors import UserError
from jaxrl.float32 import LARGEST, SMALLEST, as_float32, shortest


@given(st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=False))
def test_a_spelling_reads_back_and_none_is_shorter(value):
    found = shortest(value)
    assert np.float32(found) == np.float32(value) and shortest(found) == found
    assert len(f"{found:.9g}") <= len(f"{float(value):.9g}") and float(str(np.float32(value))) == found


def test_what_one_float32_stands_for_has_one_spelling():
    assert {shortest(x) for x in (0.1, 0.10000000149011612, float(np.float32(0.1)), 0.1 + 1e-10)} == {0.1}
    assert [shortest(x) for x in (0.0, 1.0, 2.5e-4, 1 / 3, 1e-38 * 2)] == [0.0, 1.0, 2.5e-4, 0.33333334, 2e-38]


@pytest.mark.parametrize("value", [1e39, -1e39, 1e-46, -1e-39, math.nextafter(SMALLEST, 0)])
def test_what_would_become_0_or_infinite_is_refused(value):
    with pytest.raises(UserError, match="numbers are float32: must be 0, or between 1.175e-38 and 3.403e[+]38 in size"):
        as_float32("coef", value)


def test_the_bounds_themselves_are_taken():
    assert np.float32(as_float32("x", LARGEST)) == np.finfo(np.float32).max
    assert np.float32(as_float32("x", SMALLEST)) == np.finfo(np.float32).tiny
