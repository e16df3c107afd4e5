"""Figures that compare draw the numbers of `stats`, name what they compare, and fit on an axis of the reader's."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxrl import results
from jaxrl.errors import UserError
from jaxrl.results import plot, stats
from jaxrl.results.store import write_chunk


@pytest.fixture
def drawn(tmp_path, chunk):
    """Twelve points of a random sweep, three seeds each."""
    rng = np.random.default_rng(5)
    for coef, discount in zip(10 ** rng.uniform(-3, 0, 12), rng.uniform(0.9, 0.99, 12), strict=True):
        write_chunk(tmp_path, chunk("count", (coef,), values={"discount": discount}))
    return results.curves(tmp_path)


def scores(dataset, **at):
    found = results.final(dataset["eval_return"]).sel(at).values
    return found[~np.isnan(found)]


def test_profiles_are_fractions_above_every_score(sweep):
    dataset = results.curves(sweep)
    figure = plot.performance_profiles(dataset, hue="bonus")
    assert [axis.get_title() for axis in figure.axes] == ["coef = 0.01", "coef = 0.1", "coef = 1"]
    line = figure.axes[2].lines[dataset["bonus"].values.tolist().index("rnd")]
    expected = stats.performance_profile(scores(dataset, bonus="rnd", coef=1.0), line.get_xdata())
    np.testing.assert_allclose(line.get_ydata(), expected.value)
    assert line.get_ydata()[-1] == 0 and len(figure.legends[0].get_texts()) == 4


def test_improvement_is_over_the_value_that_is_named(sweep):
    dataset = results.curves(sweep).sel(coef=1.0)
    figure = plot.improvement(dataset, over="none")
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["count", "e3b", "rnd"]
    expected = [stats.probability_of_improvement(scores(dataset, bonus=bonus), scores(dataset, bonus="none")).value
                for bonus in ("count", "e3b", "rnd")]  # fmt: skip
    assert [line.get_xdata()[0] for line in axis.lines[:3]] == pytest.approx(expected)
    assert "P(higher than with bonus = none)" in figure.get_suptitle()
    with pytest.raises(UserError, match="over = 'nun': bonus has the values count, e3b, none, rnd"):
        plot.improvement(dataset, over="nun")


def test_importance_is_drawn_as_it_is_tabled(sweep):
    dataset = results.curves(sweep)
    table, axis = results.importance(dataset), plot.importance(dataset).axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == table["field"].tolist()
    assert [line.get_xdata()[0] for line in axis.lines[:2]] == pytest.approx(table["share"].tolist())


def test_slices_go_through_the_best_cell_or_the_one_that_is_named(sweep):
    dataset = results.curves(sweep)
    figure = plot.slices(dataset)
    assert "slices through bonus = count, coef = 1" in figure.get_suptitle()
    figure = plot.slices(dataset, at={"bonus": "rnd", "coef": 0.1})
    bonus, coef = figure.axes
    assert (bonus.get_xlabel(), coef.get_xlabel()) == ("bonus", "coef")
    expected = [stats.iqm(scores(dataset, bonus="rnd", coef=value)) for value in dataset["coef"].values]
    heights = [container.lines[0].get_ydata()[0] for container in coef.containers]
    assert heights == pytest.approx(expected)
    for at, words in (({"coef": 0.2}, "coef = 0.2 is not one of its values, 0.01, 0.1, 1"), ({"cof": 1}, "unknown")):
        with pytest.raises(UserError, match=words):
            plot.slices(dataset, at=at)


DRAWN_ON_ONE = [plot.learning_curves, plot.success_bars, plot.performance_profiles, plot.improvement, plot.slices]


@pytest.mark.parametrize("draw", DRAWN_ON_ONE, ids=lambda draw: draw.__name__)
def test_every_plot_takes_an_axis_and_refuses_more_panels_than_one(sweep, draw):
    dataset = results.curves(sweep)
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert draw(dataset.sel(coef=0.1), ax=left) is figure
    assert (left.lines or left.containers) and not right.lines and not right.containers and not figure.texts
    if draw is not plot.success_bars:  # which takes two names by itself
        with pytest.raises(UserError, match="ax: one axis holds one panel, and this figure has"):
            draw(dataset, ax=right)


def test_heat_map_points_visits_and_importance_take_an_axis_too(sweep, drawn):
    figure = Figure()
    axes = figure.subplots(2, 2).ravel()
    dataset = results.curves(sweep)
    assert plot.coefficient_heatmap(dataset, ax=axes[0]) is figure and len(axes[0].images) == 1
    assert plot.visitation(np.arange(6), (2, 3), ax=axes[1]) is figure and len(axes[1].images) == 1
    assert plot.importance(dataset, ax=axes[2]) is figure and len(axes[2].lines) == 3
    with pytest.raises(UserError, match="this figure has 2"):
        plot.points(drawn, ax=axes[3])


def test_points_of_a_random_sweep_are_coloured_by_a_field(drawn):
    figure = plot.learning_curves(drawn, hue="discount")
    axis, scale = figure.axes
    assert len(axis.lines) == 12 and scale.get_ylabel() == "discount" and not figure.legends
    order = np.argsort(drawn["discount"].values)
    greens = [axis.lines[i].get_color()[1] for i in order]
    assert greens == sorted(greens) and len(set(greens)) > 9  # viridis grows greener
    assert plot.learning_curves(drawn).axes[1].get_ylabel() == "coef"
    with pytest.raises(UserError, match="unknown swept name 'discont': did you mean 'discount'"):
        plot.learning_curves(drawn, hue="discont")
    for draw in (plot.success_bars, lambda dataset: plot.coefficient_heatmap(dataset, x="coef", y="discount")):
        with pytest.raises(UserError, match="points, not cells of a grid"):
            draw(drawn)


def test_improvement_over_a_field_of_points_is_a_sentence(drawn):
    with pytest.raises(UserError, match="'coef' is no dim of theirs: compare points with dim='point'"):
        plot.improvement(drawn, dim="coef")
    axis = plot.improvement(drawn, dim="point").axes[0]
    assert len(axis.get_yticklabels()) == 11


def test_labels_under_an_axis_never_run_into_each_other(tmp_path, chunk):
    write_chunk(tmp_path, chunk("count", [0.001234567 + i * 1e-4 for i in range(9)]))
    figure = plot.success_bars(results.curves(tmp_path))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    assert len(labels) == 9 and all(label.get_rotation() == 30 for label in labels)


def test_the_nearest_cell_and_the_nearest_point(sweep, drawn):
    cell = results.nearest(results.curves(sweep), coef=0.4, bonus="rnd")
    assert cell["coef"].item() == 1.0 and cell["bonus"].item() == "rnd"  # logarithms: nearer to 1
    point = results.nearest(drawn, coef=0.1)
    assert point["coef"].item() == min(drawn["coef"].values, key=lambda value: abs(np.log(value / 0.1)))
    both = results.nearest(drawn, coef=drawn["coef"].values[7], discount=drawn["discount"].values[7])
    assert both["lane"].values.tolist() == drawn["lane"].values[7].tolist()
    with pytest.raises(UserError, match="unknown swept name 'cof'"):
        results.nearest(drawn, cof=1.0)
    with pytest.raises(UserError, match="bonus = 'rmd' is not among"):
        results.nearest(results.curves(sweep), bonus="rmd")
