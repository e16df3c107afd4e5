import sys

import numpy as np
import pytest
from conftest import write_sweep

from jaxrl import results
from jaxrl.errors import UserError
from jaxrl.results import frame, plot, stats
from jaxrl.results.store import write_chunk


def shown(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


def words(figure):
    found = [text.get_text() for text in figure.texts] + [figure.get_supylabel() or ""]
    return " | ".join(found + [axis.get_xlabel() for axis in shown(figure)])


def test_learning_curves_draw_the_iqm_and_its_interval_of_every_cell(sweep):
    dataset = results.curves(sweep)
    figure = plot.learning_curves(dataset, "eval_return", "bonus")
    assert [axis.get_title() for axis in shown(figure)] == ["coef = 0.01", "coef = 0.1", "coef = 1"]
    axis = shown(figure)[2]
    for line, band, bonus in zip(axis.lines, axis.collections, dataset["bonus"].values, strict=True):
        values = dataset["eval_return"].sel(bonus=bonus, coef=1.0).values[:, 3::4]
        values = values[~np.isnan(values).all(axis=1)]  # the diverged seed is not there
        assert line.get_xdata().tolist() == [1024 * i for i in range(4, 41, 4)]
        np.testing.assert_allclose(line.get_ydata(), stats.iqm(values, axis=0), rtol=1e-5)
        last = stats.bootstrap_interval(values[:, -1], stats.iqm, 0, resamples=1000)
        edge = band.get_paths()[0].vertices
        at_end = edge[edge[:, 0] == 40 * 1024, 1]
        np.testing.assert_allclose([at_end.min(), at_end.max()], last[1:], rtol=1e-5)
    note = words(figure)
    assert "environment steps" in note and "code c0de" in note and "4 seeds (0 to 3)" in note
    assert "diverged lanes left out: 1" in note and "(reward)" in note


def test_success_bars_are_counts_with_wilson_intervals(sweep):
    dataset = results.curves(sweep)
    axis = shown(plot.success_bars(dataset, hue="bonus"))[0]
    final = results.final(dataset["solved"])
    expected, intervals, counts = [], [], []
    for bonus in dataset["bonus"].values:
        for coef in dataset["coef"].values:
            seeds = final.sel(bonus=bonus, coef=coef).dropna("seed").values
            rate = stats.wilson(int(seeds.sum()), len(seeds))
            expected.append(rate.value)
            intervals.append(rate[1:])
            counts.append(f"{seeds.sum():.0f}/{len(seeds)}")
    np.testing.assert_allclose([bar.get_height() for bar in axis.patches], expected)
    drawn = [line.get_paths()[0].vertices[:, 1] for line in axis.collections]
    np.testing.assert_allclose(drawn, intervals)
    assert [text.get_text() for text in axis.texts] == counts
    assert "3/3" in counts and "0/4" in counts
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axis.patches]
    assert len({round(x, 6) for x in centres}) == 12 and min(np.diff(sorted(centres))) > 0.15


def test_heat_map_shows_and_writes_every_cell(tmp_path):
    write_sweep(tmp_path, ("none", "count"), (0.01, 1.0), range(4))
    dataset = results.curves(tmp_path)
    axis = shown(plot.coefficient_heatmap(dataset))[0]
    final = results.final(dataset["eval_return"])
    expected = [[stats.iqm(final.sel(bonus=bonus, coef=coef), nan_policy="omit") for coef in dataset["coef"].values]
                for bonus in dataset["bonus"].values]  # fmt: skip
    np.testing.assert_allclose(axis.images[0].get_array(), expected, rtol=1e-5)
    assert [text.get_text() for text in axis.texts] == [f"{value:.3g}" for value in np.ravel(expected)]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["count", "none"]


def test_cells_without_lanes_get_no_panel_and_a_dash(tmp_path, chunk):
    write_chunk(tmp_path, chunk("none"))
    write_chunk(tmp_path, chunk("rnd", coefs=(0.1, 1.0), values={"rnd.lr": 1e-4}))
    write_chunk(tmp_path, chunk("rnd", values={"rnd.lr": 1e-3}))
    dataset = results.curves(tmp_path)
    figure = plot.learning_curves(dataset, "return", "bonus")
    titles = [axis.get_title() for axis in shown(figure)]
    assert sorted(titles) == ["coef = 0.1, rnd.lr = 0.0001", "coef = 0.1, rnd.lr = 0.001", "coef = 1, rnd.lr = 0.0001"]
    # `none` has no rnd.lr: it is drawn beside every one, where its coefficient has lanes
    lines = {axis.get_title(): [line for line in axis.lines if len(line.get_xdata())] for axis in shown(figure)}
    assert [len(lines[title]) for title in sorted(titles)] == [2, 2, 1]
    heat = plot.coefficient_heatmap(dataset, "return", "coef", "rnd.lr")
    assert "-" in [text.get_text() for axis in shown(heat) for text in axis.texts]


def test_one_cell_one_seed_still_draws_its_line(tmp_path, chunk):
    write_chunk(tmp_path, chunk(seeds=[0]))
    axis = shown(plot.learning_curves(results.curves(tmp_path), "return"))[0]
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), chunk(seeds=[0]).curves["return"][0])


def test_colours_of_one_figure_differ():
    styles = [tuple(frame.style(number).values()) for number in range(len(plot.COLOURS) * len(plot.DASHES))]
    assert len(set(styles)) == len(styles)


def test_twenty_series_of_one_figure_look_different(tmp_path, chunk):
    write_chunk(tmp_path, chunk(coefs=[i / 20 for i in range(1, 21)], seeds=[0]))
    dataset = results.curves(tmp_path)
    (legend,) = plot.success_bars(dataset, hue="coef").legends
    assert len({(patch.get_facecolor(), patch.get_hatch()) for patch in legend.get_patches()}) == 20
    bars = shown(plot.success_bars(dataset, hue="coef"))[0]
    assert len({(patch.get_facecolor(), patch.get_hatch()) for patch in bars.patches}) == 20
    points = [line for line in bars.lines if line.get_marker() != "None"]
    assert len({(line.get_markerfacecolor(), line.get_marker()) for line in points}) == 20
    lines = shown(plot.learning_curves(dataset, "return", hue="coef"))[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 20


def test_mistakes_are_sentences(tmp_path, chunk, monkeypatch):
    write_sweep(tmp_path, ("none", "count"), seeds=range(2))
    dataset = results.curves(tmp_path)
    with pytest.raises(UserError, match="unknown metric 'eval_retrun': did you mean 'eval_return'"):
        plot.learning_curves(dataset, "eval_retrun")
    with pytest.raises(UserError, match="unknown swept name 'cof': did you mean 'coef'"):
        plot.success_bars(dataset, hue="cof")
    with pytest.raises(UserError, match="measured in no lane"):
        plot.learning_curves(dataset.assign(solved=dataset["solved"] * np.nan), "solved")
    monkeypatch.setattr(frame, "MAX_PANELS", 2)
    with pytest.raises(UserError, match="3 panels"):
        plot.learning_curves(dataset, "eval_return", "bonus")


def test_pyplot_is_never_imported(tmp_path):
    import subprocess

    script = "import sys; from jaxrl.results import plot, report; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_every_column_of_panels_has_its_axis_labelled(tmp_path):
    write_sweep(tmp_path, ("none", "count"), (0.1, 0.2, 0.3, 0.4, 0.5), range(2))
    axes = shown(plot.learning_curves(results.curves(tmp_path), "return", "bonus"))
    assert [axis.get_xlabel() for axis in axes] == ["", "", *["environment steps"] * 3]  # three above two


def test_a_name_pinned_with_sel_moves_from_the_panels_to_the_note(sweep):
    dataset = results.curves(sweep).sel(coef=0.1)
    figure = plot.learning_curves(dataset)
    assert len(shown(figure)) == 1 and "coef = 0.1" in words(figure)
    assert [bar.get_height() for bar in shown(plot.success_bars(dataset))[0].patches][2] == 0  # count e3b none rnd
