"""Values of fields are told apart, and read back, wherever a person sees them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl import results
from jaxrl.results import plot, report, table
from jaxrl.results.store import write_chunk
from jaxrl.results.values import shown
from jaxrl.spec.draws import Distribution, Search
from jaxrl.sweep import trials

CLOSE = (0.99995, 0.99999, 1.0)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_reads_back(value):
    assert float(shown(value)) == value or np.float32(shown(value)) == np.float32(value) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_what_a_lane_holds_is_told_in_the_fewest_digits_that_become_it(value):
    text = shown(value)
    assert np.float32(text) == np.float32(value)
    digits = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 9


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (0.10000000149011612, "0.1"), (1e39, "1e+39"), (2.0**24 + 1, "16777217"), (10.0, "10"),
     (65536.0, "65536"), (3, "3"), ("", "none"),
     (np.float64("nan"), "none"), (True, "True")],
)  # fmt: skip
def test_examples(value, text):
    assert shown(value) == text


@pytest.fixture
def close(tmp_path, chunk):
    write_chunk(tmp_path, chunk("rnd", CLOSE))
    return tmp_path


def test_values_that_differ_are_told_apart_in_table_report_and_figures(close):
    texts = [shown(value) for value in CLOSE]
    assert table.readable(table.summary(results.lanes(close)))["coef"].tolist() == texts
    page = report.write_report(close, out=close / "page.html").read_text()
    assert all(f"<td>{text}</td>" in page for text in texts)
    dataset = results.curves(close)
    legend = plot.learning_curves(dataset, hue="coef").legends[0]
    assert [text.get_text() for text in legend.get_texts()] == texts
    ticks = plot.success_bars(dataset).axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == texts


def test_the_best_point_of_a_search_can_be_typed_in_again():
    search = Search(2, 2, "eval_return", "maximize", 0, {"lr": Distribution(1e-5, 1e-2)})
    tried = [trials.Trial(0, {"lr": 0.000123456789}, 0.5, ""), trials.Trial(1, {"lr": 0.000123412345}, 0.25, "")]
    text = trials.text(tried, search, [0, 1], Path("OUT"))
    assert "at lr = 0.000123456789\n" in text and "0.000123412345" in text
