"""Calibration: exact counts by brute force, the measures on bonuses whose score is known, the command."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from jaxrl import calibrate, cli
from jaxrl.calibrate import Protocol, measures, score, walks, worlds
from jaxrl.errors import UserError
from jaxrl.intrinsic import CATALOGUE, expression
from jaxrl.intrinsic.base import stateless
from jaxrl.results import stats
from jaxrl.types import IntrinsicReward, Transition

SMALL = Protocol(side=5, limit=20, num_envs=3, num_steps=8, rollouts=60, picture_rollouts=20)
SEEDS = (3, 4, 5)


def walk_of(seed=3, noise=0.0, rollouts=SMALL.rollouts):
    return jax.tree.map(lambda x: x[0], walks.walks((seed,), SMALL, rollouts, noise))


def moves(walk):
    side = SMALL.side
    return np.stack([walk.next_cell // side - walk.cell // side, walk.next_cell % side - walk.cell % side], -1)


def test_a_walk_is_a_stream_of_episodes_that_start_in_the_corner():
    walk = walk_of()
    first, last = walk.first.reshape(-1, 3), walk.last.reshape(-1, 3)
    assert first[0].all() and (first[1:] == last[:-1]).all() and (walk.cell[walk.first] == 0).all()
    lengths = {int(length) for n in range(3) for length in np.diff(np.flatnonzero(first[:, n]))[1:]}
    assert lengths == {SMALL.limit}
    cell, arrived = walk.cell.reshape(-1, 3), walk.next_cell.reshape(-1, 3)
    assert (cell[1:] == arrived[:-1])[~last[:-1]].all()
    step = moves(walk)
    free = np.abs(step).sum(-1) == 1
    assert (step[free] == walks.MOVES[walk.action[free]]).all() and free.mean() > 0.5
    assert len(np.unique(walk.next_cell)) == SMALL.side**2
    assert (np.unique(first.argmin(0)) >= 0).all() and len({tuple(column) for column in first.T}) == 3  # staggered


def test_action_noise_and_stickiness_are_what_they_say():
    walk = walk_of(noise=walks.NOISE, rollouts=400)
    inside = (np.abs(moves(walk)).sum(-1) == 1) & (np.abs(walk.cell // 5 - 2) < 2) & (np.abs(walk.cell % 5 - 2) < 2)
    wrong = (moves(walk) != walks.MOVES[walk.action]).any(-1)[inside].mean()
    assert wrong == pytest.approx(0.75 * walks.NOISE, abs=0.03)
    action, first = walk.action.reshape(-1, 3), walk.first.reshape(-1, 3)
    kept = (action[1:] == action[:-1])[~first[1:]].mean()
    assert kept == pytest.approx(walks.STICKY + 0.25 * (1 - walks.STICKY), abs=0.03)


def test_a_seed_walks_the_same_way_whatever_the_other_seeds():
    one, many = walks.walks((4,), SMALL, 5, 0.3), walks.walks(SEEDS, SMALL, 5, 0.3)
    assert all((a[0] == b[1]).all() for a, b in zip(one, many, strict=True))
    assert (many.next_cell[0] != many.next_cell[1]).any()


def test_counts_are_those_of_a_brute_force_count():
    walk = walk_of()
    n = walks.visits(walk)
    before: dict = {}
    episode: list[dict] = [{} for _ in range(3)]
    for r in range(SMALL.rollouts):
        now = list(walk.next_cell[r].ravel())
        for t, e in np.ndindex(walk.cell.shape[1:]):
            if walk.first[r, t, e]:
                episode[e] = {int(walk.cell[r, t, e]): 1}
            x = int(walk.next_cell[r, t, e])
            episode[e][x] = episode[e].get(x, 0) + 1
            expected = before.get(x, 0) + 1, episode[e][x], now.count(x)
            assert (n["lifelong"][r, t, e], n["episode"][r, t, e], n["batch"][r, t, e]) == expected
        for x in now:
            before[int(x)] = before.get(int(x), 0) + 1
    assert (n["lifelong x episode"] == n["lifelong"] * n["episode"]).all()


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    bonus, wanted = rng.integers(9, size=200).astype(float), rng.integers(5, size=200).astype(float)
    assert measures.spearman(bonus, wanted) == pytest.approx(scipy.stats.spearmanr(bonus, wanted).statistic)
    assert np.isnan(measures.spearman(np.ones(9), np.arange(9.0)))
    assert np.isnan(measures.spearman(np.array([1.0, np.nan]), np.array([1.0, 2.0])))


@pytest.mark.parametrize("power", [-0.5, -1.0, -0.25])
def test_slope_and_half_life_of_powers_of_n(power):
    n = np.arange(1, 3000)
    bonus = 7.0 * n**power
    assert measures.slope(bonus, n**-0.5) == pytest.approx(power)
    assert measures.half_life(bonus, n) == pytest.approx(2 ** (-1 / power), rel=0.03)


def test_measures_without_a_value_say_so():
    n = np.arange(1.0, 100.0)
    assert measures.half_life(np.ones(99), n) == 99  # never halved: the largest n
    assert np.isnan(measures.half_life(np.zeros(99), n))
    assert np.isnan(measures.slope(n - 50.0, n**-0.5))


def test_noise_pay_compares_equal_counts_of_the_later_half():
    n = np.concatenate([np.full(50, 3), np.tile([4, 100], 50)])
    noisy = np.arange(150) % 10 == 4
    bonus = n**-0.5 * np.where(noisy, 6.0, 1.0)
    bonus[:50] = 1000.0
    assert measures.noise_pay(bonus, n, noisy) == pytest.approx(6.0)
    assert np.isnan(measures.noise_pay(bonus, np.where(noisy, 7, n), noisy))


def test_noise_kept_is_the_end_over_the_beginning():
    bonus = np.concatenate([np.full(10, 4.0), np.full(60, 9.0), np.ones(30)])
    assert measures.noise_kept(bonus) == pytest.approx(1 / 4)
    assert np.isnan(measures.noise_kept(np.zeros(100))) and np.isnan(measures.noise_kept(np.ones(19)))


def test_lifelong_counts_rank_cells_and_others_rank_transitions():
    walk = walk_of()
    n = walks.visits(walk)["lifelong"]
    bonus = np.random.default_rng(0).random(n.shape)
    late = walk.next_cell[SMALL.rollouts // 2 :]
    mean, wanted = measures.units_of(bonus, n, walk, "lifelong")
    cells = np.unique(late)
    np.testing.assert_allclose(mean, [bonus[SMALL.rollouts // 2 :][late == cell].mean() for cell in cells])
    np.testing.assert_allclose(wanted, [(n[SMALL.rollouts // 2 :][late == cell] ** -0.5).mean() for cell in cells])
    assert len(measures.units_of(bonus, n, walk, "episode")[0]) == late.size


@pytest.fixture(scope="module")
def calibrated():
    bonuses = ("count", "episodic_count", "count * episodic_count")
    return {bonus: calibrate.calibrate(bonus, SEEDS, SMALL) for bonus in bonuses}


@pytest.mark.parametrize(
    ("bonus", "counts"),
    [("count", "lifelong"), ("episodic_count", "episode"), ("count * episodic_count", "lifelong x episode")],
)
def test_exact_counts_score_as_counts_must(calibrated, bonus, counts):
    done = calibrated[bonus]
    assert done.counts == counts
    for measure in ("spearman", "spearman_x0.01", "spearman_x100", "spearman_picture"):
        np.testing.assert_allclose(done.scores[measure], 1.0, atol=1e-4)  # float32 parts some ties
    np.testing.assert_allclose(done.scores["slope"], -0.5, atol=1e-3)
    np.testing.assert_allclose(done.scores["half_life"], 4.0, rtol=0.02)
    own = {"lifelong": "spearman_lifelong", "episode": "spearman_episode"}
    assert all((done.scores[own[counts]] > 0.999).all() for _ in [0] if counts in own)


def test_noise_is_a_new_state_at_each_visit_to_exact_counts(calibrated):
    assert (calibrated["count"].scores["noise_pay"] > 3).all()  # never seen, so paid 1 for ever
    counted = calibrated["count"].scores["spearman_episode"]
    assert (counted < 0.9).all(), "lifelong counts are not those of an episode"
    np.testing.assert_allclose(calibrated["count"].scores["noise_kept"], 1.0)


def test_the_control_of_exchanged_bonuses_scores_zero(calibrated):
    for done in calibrated.values():
        value, low, high = done.shuffled
        assert low < 0.0 < high and abs(value) < 0.03 and high - low < 0.6
        assert done.scores["spearman"].min() > high


def near() -> IntrinsicReward:
    """Pays for arriving near the corner, where everybody has been."""
    return stateless(lambda batch: 5.0 - batch.next_obs.reshape(*batch.reward.shape, -1)[..., :5] @ jnp.arange(5.0))


def test_a_bonus_of_the_users_own_is_lifelong_and_can_score_badly():
    done = calibrate.calibrate("near", SEEDS, SMALL, {f"{__name__}:near": near})
    assert done.counts == "lifelong" and (done.scores["spearman"] < -0.3).all()


def test_the_torso_of_pictures_is_chosen_unless_it_is_written():
    chosen = score.torsos(expression.parse("rnd + e3b * count"), "conv")
    assert chosen == {"rnd.torso": "conv", "e3b.torso": "conv"}
    see = jax.vmap(worlds.pixels(SMALL))
    cells = jnp.array([0, 1, SMALL.side])
    np.testing.assert_array_equal(see(cells, cells).sum((1, 2, 3)), 4 * 255)  # 2 x 2 pixels
    flags = jnp.zeros(3, bool)
    example = Transition(see(cells, cells), cells, jnp.zeros(3), see(cells, cells), flags, flags, flags, ())

    def layers(bonus):
        reward = expression.build(expression.parse(bonus), chosen)
        return str(jax.tree.structure(jax.eval_shape(reward.init, jax.random.key(0), example)[0]))

    assert "Conv_0" in layers("rnd") and "Conv_0" not in layers("rnd(torso=mlp)")


def test_the_television_is_noise_in_one_cell_only():
    show = worlds.one_hots(SMALL, 2.0, 1.0, jax.random.key(0))
    here, there, elsewhere = show(SMALL.television, 1), show(SMALL.television, 2), show(SMALL.television + 1, 1)
    assert here[:10].sum() == 4.0 and (here[:10] == there[:10]).all() and (elsewhere[10:] == 0).all()
    assert (here[10:] != there[10:]).all() and (here == show(SMALL.television, 1)).all()
    assert (worlds.one_hots(SMALL, 1.0, 0.0, jax.random.key(0))(SMALL.television, 1)[10:] == 0).all()


def test_kinds_are_those_that_modules_declare():
    kind = lambda text: score.kind(expression.parse(text))
    assert [kind(text) for text in ("rnd", "e3b", "rnd + count", "rnd * e3b")] == [
        "lifelong", "episodic", "lifelong", "composed",
    ]  # fmt: skip
    for name in calibrate.default_bonuses():
        assert kind(name) in score.COUNTS, name
    assert set(calibrate.default_bonuses()) <= set(CATALOGUE) - {"none"}


def test_the_table_holds_estimates_over_seeds_and_the_control(calibrated):
    table = calibrate.table(list(calibrated.values()))
    assert list(table["bonus"]) == list(calibrated) and (table["seeds"] == 3).all()
    row, values = table.iloc[0], calibrated["count"].scores["spearman_episode"]
    expected = tuple(stats.bootstrap_interval(values, stats.mean, 0))
    assert tuple(row[f"spearman_episode{end}"] for end in ("", "_low", "_high")) == pytest.approx(expected)
    assert expected[1] < expected[0] < expected[2]
    assert row["shuffled_low"] < 0 < row["shuffled_high"]
    text = calibrate.text(table)
    assert "lifelong x episode" in text and "1.00 [1.00, 1.00]" in text and "nan" not in text.lower()
    head, rule, first, *_ = calibrate.markdown(table).splitlines()
    assert head.startswith("| bonus | compared_with | spearman |") and set(rule) == set("| -")
    assert first.startswith("| count | lifelong | ") and first.count("|") == head.count("|")


def test_a_measure_that_one_seed_lacks_has_no_value(calibrated):
    done = calibrated["count"]
    lacking = done._replace(scores={**done.scores, "slope": np.array([-0.5, np.nan, -0.4])})
    row = calibrate.table([lacking]).iloc[0]
    assert np.isnan([row["slope"], row["slope_low"], row["slope_high"]]).all()


def test_the_figure_has_a_panel_per_bonus_with_units_and_intervals(calibrated):
    made = calibrate.figure(list(calibrated.values()))
    panels = [axis for axis in made.axes if axis.get_visible()]
    assert len(panels) == 3 and [axis.get_title().split("\n")[0] for axis in panels] == list(calibrated)
    assert "visits" in made.get_supxlabel() and "bonus" in made.get_supylabel()
    for axis in panels:
        assert len(axis.lines) == 3 and len(axis.collections) == 2  # 1/sqrt(n), grid, picture; two shaded intervals
    grid = panels[0].lines[1]
    np.testing.assert_allclose(grid.get_ydata()[:10], grid.get_xdata()[:10] ** -0.5, rtol=1e-3)


def fake_calibrate(monkeypatch, calibrated, fails=None):
    def one(bonus, seeds, protocol):
        if bonus == "rnd":
            raise fails
        return calibrated[bonus]

    monkeypatch.setattr("jaxrl.calibrate.report.calibrate", one)
    monkeypatch.setenv("XLA_FLAGS", "")


def test_the_command_writes_table_and_figure_and_says_how_far_it_is(monkeypatch, tmp_path, calibrated, capsys):
    fake_calibrate(monkeypatch, calibrated)
    assert cli.main(["calibrate", "count", "episodic_count", "--out", str(tmp_path / "here"), "--seeds", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/2 count: Spearman 1.00") and lines[1].startswith("2/2 episodic_count")
    assert lines[-1].endswith("calibration.png")
    table = pd.read_csv(tmp_path / "here" / "calibration.csv")
    assert list(table["bonus"]) == ["count", "episodic_count"]
    assert (tmp_path / "here" / "calibration.png").stat().st_size > 10_000


def test_an_interruption_keeps_what_is_done(monkeypatch, tmp_path, calibrated, capsys):
    fake_calibrate(monkeypatch, calibrated, KeyboardInterrupt())
    assert cli.main(["calibrate", "count", "rnd", "--out", str(tmp_path)]) == 130
    assert list(pd.read_csv(tmp_path / "calibration.csv")["bonus"]) == ["count"]
    printed = capsys.readouterr().out
    assert "interrupted: 1 of 2 bonuses done" in printed and "calibration.csv" in printed


def test_a_bonus_that_cannot_be_calibrated_is_named_and_the_rest_kept(monkeypatch, tmp_path, calibrated, capsys):
    fake_calibrate(monkeypatch, calibrated, UserError("k=9 is too large"))
    assert cli.main(["calibrate", "count", "rnd", "--out", str(tmp_path)]) == 2
    assert "bonus 'rnd' cannot be calibrated: k=9 is too large" in capsys.readouterr().err
    assert list(pd.read_csv(tmp_path / "calibration.csv")["bonus"]) == ["count"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rdn"], "unknown bonus 'rdn': did you mean 'rnd'?"),
        (["rnd", "--seeds", "x"], "seeds = 'x'"),
        (["rnd", "--out", "taken"], "'taken' cannot be written"),
    ],
)
def test_mistakes_end_with_code_2(monkeypatch, tmp_path, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    monkeypatch.setitem(sys.modules, "jaxrl.calibrate", None)  # refused before it is imported
    assert cli.main(["calibrate", *arguments]) == 2
    assert sentence in capsys.readouterr().err


FRESH = range(200, 210)  # seeds that no default and no measure was chosen on


@pytest.mark.slow
def test_cfn_tracks_counts_better_than_rnd():
    """By at least 0.1 in Spearman correlation, as a lower bound over 10 seeds."""
    cfn, rnd = (calibrate.calibrate(bonus, FRESH).scores["spearman"] for bonus in ("cfn", "rnd"))
    difference = stats.paired_difference(cfn, rnd, 0)
    assert difference.low >= 0.1, (difference, cfn, rnd)


@pytest.mark.slow
def test_disagreement_falls_on_noise_where_prediction_error_does_not():
    kept = {bonus: calibrate.calibrate(bonus, FRESH).scores["noise_kept"] for bonus in ("disagreement", "icm")}
    estimates = {bonus: stats.bootstrap_interval(values, stats.mean, 0) for bonus, values in kept.items()}
    assert estimates["disagreement"].high < 0.5 and estimates["icm"].low > 0.9, estimates
