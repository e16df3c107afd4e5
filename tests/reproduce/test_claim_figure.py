"""The figure and the pages of a claim: fit to be shown, whatever was measured."""

import base64
import math
import re

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from jaxrl.reproduce import record, report
from jaxrl.reproduce.figure import VERDICT_COLOURS, corner, figure, line
from jaxrl.reproduce.verdict import VERDICTS, Difference, decide
from jaxrl.results.plot import COLOURS

ARMS, SEEDS = ("low", "high"), (1000, 1001, 1002, 1003)


def panel(places=(), hole=None):
    """An array of two arms, kept as a record keeps it."""
    scores = np.random.default_rng(0).normal(size=(2, *(2 for _ in places), 4))
    scores[1] += 9
    if hole is not None:
        scores[hole] = np.nan
    coordinates = {"arm": list(ARMS), **{place: [10, 0.5] for place in places}, "seed": list(SEEDS)}
    return xr.DataArray(scores, coordinates, list(coordinates), attrs={"title": "success", "units": "fraction"})


def made(panels, differences=(), **changes):
    rows = [record._difference(decide(one, panels)) for one in differences]
    return {
        "claim": "Climbing | is worth it.", "verdict": "reproduced", "differences": rows,
        "panels": {name: record._panel(array) for name, array in panels.items()}, "chosen": [],
        "seeds": [1000, 1003], "pilot_seeds": 2, "steps": 2_560_000, "seconds": 125, "diverged": 0,
        "commit": "0123456789abcdef", "dirty": False, "measured": "2026-02-03T04:05:06+00:00", "machine": "2 CPU cores",
        **changes,
    }  # fmt: skip


def axes_of(found):
    *panels, differences = figure(found).axes
    return [axis for axis in panels if axis.get_visible()], differences


GAIN = Difference("high beats low", "heights", "high", "low", 0.5)


def test_a_panel_of_arms_shows_every_seed_the_mean_and_its_interval():
    (axis,), _ = axes_of(made({"heights": panel()}))
    assert (axis.get_title(), axis.get_ylabel()) == ("heights", "success (fraction)")
    assert [label.get_text() for label in axis.get_xticklabels()] == list(ARMS)
    seeds = [drawn.get_ydata() for drawn in axis.lines if drawn.get_marker() == "."]
    assert [sorted(drawn) for drawn in seeds] == [pytest.approx(sorted(row), rel=1e-5) for row in panel().values]
    assert len(axis.collections) == 2  # an interval each


def test_a_panel_of_places_shades_the_intervals_and_names_the_axis():
    (axis,), _ = axes_of(made({"heights": panel(("hill_size",))}))
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("hill size", "success (fraction)")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["10", "0.5"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(ARMS)
    drawn = [line for line in axis.lines if line.get_label() in ARMS]
    assert [to_hex(line.get_color()) for line in drawn] == [colour.lower() for colour in COLOURS[:2]]
    assert [line.get_ydata() for line in drawn] == [
        pytest.approx(row, rel=1e-5) for row in panel(("hill_size",)).mean("seed").values
    ]
    assert len(axis.collections) == 2


@pytest.mark.parametrize("places", [(), ("size",)])
def test_twenty_arms_look_different(places):
    shape = (20, *(2 for _ in places), 4)
    arms = [f"arm {i}" for i in range(20)]
    coordinates = {"arm": arms, **{place: ["a", "b"] for place in places}, "seed": list(SEEDS)}
    array = xr.DataArray(np.random.default_rng(0).normal(size=shape), coordinates, list(coordinates),
                         attrs={"title": "success", "units": "fraction"})  # fmt: skip
    (axis,), _ = axes_of(made({"all": array}))
    means = [line for line in axis.lines if line.get_marker() not in (".", "None")]
    assert len({(line.get_markerfacecolor(), line.get_marker()) for line in means}) == 20


def test_an_arm_has_one_colour_in_all_panels():
    """Also where a panel shows it at another place among fewer arms, and as dots instead of a line."""
    panels, _ = axes_of(made({"all": panel(("size",)), "one": panel().sel(arm=["high"])}))
    colours = [[to_hex(drawn.get_color()) for drawn in axis.lines if drawn.get_marker() in "o."] for axis in panels]
    assert colours[0][1] == colours[1][0] != colours[0][0]


@pytest.mark.parametrize(("name", "turned"), [("high", 0), ("as high as a hill that stands on a hill", 30)])
def test_names_that_have_no_room_are_turned(name, turned):
    one = panel().assign_coords(arm=["low", name])
    axes, _ = axes_of(made({f"panel {number}": one for number in range(3)}))
    assert {label.get_rotation() for axis in axes for label in axis.get_xticklabels()} == {turned}


def test_two_dims_of_places_lie_along_one_axis():
    (axis,), _ = axes_of(made({"heights": panel(("size", "slope"))}))
    assert axis.get_xlabel() == "size, slope"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["10, 10", "10, 0.5", "0.5, 10", "0.5, 0.5"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_panel_is_there(count):
    panels, _ = axes_of(made({f"panel {number}": panel() for number in range(count)}))
    assert [axis.get_title() for axis in panels] == [f"panel {number}" for number in range(count)]


@pytest.mark.parametrize("places", [(), ("size",)])
def test_an_arm_of_which_every_seed_diverged_is_left_empty(places, tmp_path):
    found = made({"heights": panel(places, hole=0)})
    figure(found).savefig(tmp_path / "figure.png")
    assert "| low | -" in report.page("toy", found)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_difference_has_the_colour_of_its_verdict_in_margins(verdict):
    found = made({"heights": panel()}, [GAIN])
    (row,) = found["differences"]
    row["verdict"] = verdict
    _, axis = axes_of(found)
    (point,) = [drawn for drawn in axis.lines if drawn.get_marker() == "o"]
    assert to_hex(point.get_color()) == to_hex(VERDICT_COLOURS[verdict])
    assert point.get_xdata()[0] == pytest.approx(row["value"] / 0.5)
    assert "high beats low" in axis.get_yticklabels()[0].get_text() and axis.get_xlabel()
    assert set(VERDICT_COLOURS) == set(VERDICTS) and len(set(VERDICT_COLOURS.values())) == len(VERDICTS)


def test_a_difference_of_unknown_interval_is_drawn_and_said(tmp_path):
    flat = panel()
    flat[:] = 0.5
    found = made({"heights": flat}, [GAIN])
    figure(found).savefig(tmp_path / "figure.png")
    assert line(found["differences"][0]) == "high beats low: 0 [nan, nan], undecided"


def test_a_difference_that_lost_seeds_says_so():
    (row,) = made({"heights": panel(hole=(1, 0))}, [GAIN])["differences"]
    assert line(row).endswith("undecided (1 seeds diverged)")


def test_the_corner_says_where_a_figure_comes_from():
    assert corner(made({})) == "4 seeds (1000 to 1003) · 2.6M steps · commit 0123456789 · 2026-02-03 · 2 CPU cores"
    said = corner(made({}, dirty=True, diverged=3, steps=0, commit=None))
    assert "diverged: 3" in said and "commit unknown (changed since)" in said and "steps" not in said
    found = made({"heights": panel()})
    assert corner(found) in [text.get_text() for text in figure(found).texts]
    assert "Climbing | is worth it. Reproduced." in figure(found).get_suptitle()


def test_the_page_has_every_difference_cell_and_choice():
    chosen = [
        {"arm": "high", "at": {"size": 10}, "chosen": {"coef": 0.1},
         "tried": [{"coef": 0.1, "score": 0.123456}, {"coef": 1, "score": None}]},
        {"arm": "low", "at": {}, "chosen": {"bonus": "rnd", "wide": True},
         "tried": [{"bonus": "rnd", "wide": True, "score": 1.0}]},
    ]  # fmt: skip
    said = report.page("toy", made({"heights": panel(("size",))}, [GAIN._replace(at={"size": 10})], chosen=chosen))
    assert said.startswith("# toy: reproduced\n") and "(margin 0.5)" in said
    assert "| arm | 10.0 | 0.5 |\n|---|---|---|\n| low | " in said and "success (fraction)" in said
    assert "- high at size = 10: coef 0.1 (of coef 0.1, score 0.1235; coef 1, score None)" in said
    assert "- low: bonus rnd, wide True (of bonus rnd, wide True, score 1)" in said
    assert re.search(r"\| high \| [\d.]+ \[[\d.]+, [\d.]+\] \| ", said)
    assert "None was measured." in report.page("toy", made({"heights": panel()}))


def test_the_report_opens_offline(claims):
    found = made({"heights": panel()}, [GAIN], claim="Less < more & so on.")
    page = report.html({"toy-claim": found})
    assert not re.search(r"(src|href)=[\"'](?!#|data:)|https?://|@import|url\(", page)
    (image,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(image).startswith(b"\x89PNG")
    assert "Less &lt; more &amp; so on." in page and '<a href="#toy-claim">' in page and '<h2 id="toy-claim">' in page


def test_the_table_of_the_readme_stands_between_its_marks(claims):
    lines = report.readme_table().splitlines()
    assert (lines[0], lines[-1]) == (report.BEGIN, report.END)
    (row,) = lines[3:-1]
    assert row.startswith(
        "| [`toy-claim`](experiments/toy_claim.py) A toy claim, of \\| two arms. | **not measured** |"
    )
    assert (claims.parent / "experiments/toy_claim.py").exists()


def test_the_table_of_the_readme_shows_the_record_and_that_it_is_stale(claims):
    found = made({"heights": panel()}, [GAIN], code={})
    record.write("toy-claim", "cpu", found)
    row = report.readme_table().splitlines()[3]
    assert f"| **reproduced** | {line(found['differences'][0])} | 2.6M steps, 2 min |" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert report.state("toy-claim") == ("reproduced", "")
    stale = {f"jaxrl/gone{number}.py": "0" for number in range(4)}
    record.write("toy-claim", "cpu", {**found, "code": stale})
    assert "| **reproduced** (stale) |" in report.readme_table()
    assert report.state("toy-claim") == (
        "reproduced", "stale: jaxrl/gone0.py, jaxrl/gone1.py, jaxrl/gone2.py ... changed",
    )  # fmt: skip
    record.put(record.path("pending"), {"toy-claim": "other | keys"})
    assert report.state("toy-claim") == ("reproduced", "pending: other | keys")
    assert "| **reproduced** (pending: other \\| keys) |" in report.readme_table()
    record.write("toy-claim", "cpu", found)
    assert report.state("toy-claim") == ("reproduced", "")
    assert report.state("toy-claim", "gpu") == ("not measured", "")
    assert math.isfinite(found["differences"][0]["value"])
