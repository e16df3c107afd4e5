"""The laboratory on made-up curves: who is trained on which seeds, what is chosen, scored and accounted for."""

import sys

import numpy as np
import pytest
from worlds import Corridor

from jaxrl.errors import UserError
from jaxrl.reproduce import lab as laboratory
from jaxrl.reproduce.lab import Lab, Stopped
from jaxrl.results import store

FIELDS = {
    "env": "probe/chain", "num_envs": 2, "num_steps": 8, "steps": 160, "hidden": (8,), "epochs": 1, "minibatches": 2,
    "evals": 2, "eval_episodes": 2,
}  # fmt: skip
STEPS = 160  # of a lane: ten iterations
PILOT = 100.0  # what every pilot seed scores more, so that none can be missed among the fresh


def coefficient(lane, count):
    """Scores the coefficient, and each seed a little differently."""
    return np.full(len(count), lane.values.get("coef", 0.0) + lane.seed % 100 * 1e-3 + PILOT * (lane.seed < 1000))


@pytest.fixture
def lab_of(made_up, tmp_path):
    def make(curve=coefficient, scale=(), **of_executor):
        executor = made_up(curve, **of_executor)
        return Lab({"seeds": 3, "pilot": 2, **dict(scale)}, tmp_path, execute=executor), executor

    return make


def compare(lab, arms, **given):
    return lab.compare(arms, **{**FIELDS, "metric": "return", **given})


def test_candidates_are_tried_on_pilot_seeds_and_judged_on_fresh_ones(lab_of):
    lab, executor = lab_of()
    panel = compare(lab, {"count": "count"}, choose={"coef": [0.1, 1.0, 0.5]})
    assert panel.dims == ("arm", "seed") and panel["seed"].values.tolist() == [1000, 1001, 1002]
    assert panel.sel(arm="count").values == pytest.approx([1.0, 1.001, 1.002])
    seeds = {lane.seed: {other.values["coef"] for other in executor.trained if other.seed == lane.seed}
             for lane in executor.trained}  # fmt: skip
    assert seeds == {**dict.fromkeys((0, 1), {0.1, 1.0, 0.5}), **dict.fromkeys((1000, 1001, 1002), {1.0})}
    (row,) = lab.chosen
    assert (row["arm"], row["at"], row["chosen"]) == ("count", {}, {"coef": 1.0})
    assert row["tried"] == [{"coef": coef, "score": pytest.approx(PILOT + coef + 0.0005)} for coef in (0.1, 1.0, 0.5)]


@pytest.mark.parametrize("pilot", range(laboratory.MAX_PILOT_SEEDS + 1))
def test_pilot_and_fresh_seeds_never_meet(tmp_path, pilot):
    lab = Lab({"seeds": 4000, "pilot": pilot}, tmp_path)
    assert not set(lab.pilot) & set(lab.seeds) and len(lab.pilot) == pilot and len(lab.seeds) == 4000


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [
        ({"seeds": 1, "pilot": 17}, r"scale: pilot = 17: must be in \[0, 16\]"),
        ({"seeds": 1, "pilot": -1}, r"scale: pilot = -1: must be in \[0, 16\]"),
        ({"seeds": 0}, "scale: seeds = 0: at least one seed decides"),
        ({}, "scale: seeds = None: at least one seed decides"),
    ],
)
def test_a_scale_with_wrong_seeds_is_refused(tmp_path, scale, sentence):
    with pytest.raises(UserError, match=sentence):
        Lab(scale, tmp_path)


def test_each_place_has_its_own_choice(lab_of):
    best_at = {8: 0.1, 16: 1.0}
    curve = lambda lane, count: np.full(len(count), float(lane.values["coef"] == best_at[lane.program["num_steps"]]))
    lab, _ = lab_of(curve)
    fields = {key: value for key, value in FIELDS.items() if key != "num_steps"}
    arms = {"count": "count", "rnd": "rnd"}
    panel = lab.compare(arms, metric="return", over={"num_steps": [8, 16]}, choose={"coef": [1.0, 0.1]}, **fields)
    assert panel.dims == ("arm", "num_steps", "seed") and (panel == 1).all()
    assert [(row["arm"], row["at"]["num_steps"], row["chosen"]["coef"]) for row in lab.chosen] == [
        ("count", 8, 0.1), ("count", 16, 1.0), ("rnd", 8, 0.1), ("rnd", 16, 1.0),
    ]  # fmt: skip


def test_of_equals_the_first_is_chosen(lab_of):
    lab, _ = lab_of(lambda lane, count: np.zeros(len(count)))
    compare(lab, {"count": "count"}, choose={"coef": [0.5, 0.1, 1.0], "discount": [0.9, 0.99]})
    assert lab.chosen[0]["chosen"] == {"coef": 0.5, "discount": 0.9}


def test_a_candidate_that_lost_a_seed_is_not_chosen(lab_of):
    lab, _ = lab_of(bad=lambda lane: lane.values["coef"] == 1.0 and lane.seed == 0)
    compare(lab, {"count": "count"}, choose={"coef": [0.1, 1.0, 0.5]})
    assert lab.chosen[0]["chosen"] == {"coef": 0.5} and np.isnan(lab.chosen[0]["tried"][1]["score"])


def test_where_every_candidate_lost_a_seed_the_first_is_taken(lab_of):
    lab, _ = lab_of(bad=lambda lane: lane.seed == 0)
    compare(lab, {"count": "count"}, choose={"coef": [0.1, 1.0]})
    assert lab.chosen[0]["chosen"] == {"coef": 0.1}


def test_without_a_bonus_no_number_of_one_is_chosen(lab_of):
    lab, executor = lab_of()
    compare(lab, {"none": "none", "bare": {"agent": "ppo"}}, choose={"coef": [0.1, 1.0]})
    assert lab.chosen == [] and {lane.seed for lane in executor.trained} == {1000, 1001, 1002}


def test_without_a_bonus_what_concerns_the_agent_is_chosen_all_the_same(lab_of):
    lab, _ = lab_of(lambda lane, count: np.full(len(count), lane.values["lr"]))
    compare(lab, {"none": "none"}, choose={"coef": [0.1, 1.0], "lr": [1e-3, 1e-2]})
    assert [row["chosen"] for row in lab.chosen] == [{"lr": 1e-2}]


def test_a_bonus_that_all_arms_share_has_its_coefficient_chosen(lab_of):
    lab, _ = lab_of()
    compare(lab, {"slow": {"lr": 1e-4}, "fast": {"lr": 1e-2}}, bonus="count", choose={"coef": [0.1, 1.0]})
    assert [row["chosen"] for row in lab.chosen] == [{"coef": 1.0}] * 2


def test_an_arm_may_choose_among_its_own(lab_of):
    lab, _ = lab_of()
    fixed = {"bonus": "e3b", "choose": {}}  # at the default, 1
    arms = {"count": "count", "other": {"bonus": "rnd", "choose": {"coef": [0.25]}}, "fixed": fixed}
    panel = compare(lab, arms, choose={"coef": [0.1, 0.5]})
    assert panel.mean("seed").values == pytest.approx([0.501, 0.251, 1.001])
    assert [row["arm"] for row in lab.chosen] == ["count"]  # one candidate is no choice


def test_candidates_without_pilot_seeds_are_refused(lab_of):
    lab, _ = lab_of(scale={"pilot": 0})
    with pytest.raises(UserError, match="arm 'count': 2 candidates and no pilot seeds to choose on"):
        compare(lab, {"count": "count"}, choose={"coef": [0.1, 1.0]})


def test_a_scale_may_train_some_arms_only(lab_of):
    lab, _ = lab_of(scale={"arms": ["rnd"]})
    assert compare(lab, {"none": "none", "rnd": "rnd"})["arm"].values.tolist() == ["rnd"]
    lab, _ = lab_of(scale={"arms": ["rdn"]})
    with pytest.raises(UserError, match="unknown arm of the scale 'rdn': did you mean 'rnd'?"):
        compare(lab, {"none": "none", "rnd": "rnd"})


@pytest.mark.parametrize(
    ("over", "score"),
    [
        ({"bonus": ["0.5*count", " rnd "]}, lambda lane: float("rnd" in lane.program["bonus"])),
        ({"env": ["probe/chain", Corridor]}, lambda lane: float("Corridor" in lane.program["env"])),
        ({"env_args": [{"length": 3}, {"length": 5}]}, lambda lane: float(lane.program["env_args"]["length"] == 5)),
        ({"bonus_episodic": [False, True]}, lambda lane: float(lane.program["bonus_episodic"])),
        ({"lr": [1e-9, 1e-8]}, lambda lane: float(lane.values["lr"] > 5e-9)),
        ({"steps": [160, 320]}, lambda lane: float(lane.program["steps"] == 320)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_place_is_found_however_its_value_is_written(lab_of, over, score):
    lab, _ = lab_of(lambda lane, count: np.full(len(count), score(lane)))
    fields = {key: value for key, value in FIELDS.items() if key not in over}
    arms = {"arm": {"agent": "ppo"} if "bonus" in over else {"bonus": "count"}}
    panel = lab.compare(arms, metric="return", over=over, **fields)
    assert panel.values.tolist() == [[[0.0] * 3, [1.0] * 3]]


def test_fields_of_the_environment_name_their_dim_by_its_last_part(lab_of):
    lab, _ = lab_of(lambda lane, count: np.full(len(count), lane.values["params.slip"]))
    fields = {**FIELDS, "env": "grid/Corridors"}
    made = lab.compare({"none": "none"}, metric="return", over={"params.slip": [0.0, 0.25]}, **fields)
    assert made.dims == ("arm", "slip", "seed") and made.sel(slip=0.25).values.tolist() == [[0.25] * 3]


@pytest.mark.parametrize(("last", "counted"), [(0.0, [10]), (1.0, range(1, 11)), (0.2, [9, 10]), (0.9, range(2, 11)),
                                               (0.25, [8, 9, 10])])  # fmt: skip
def test_the_score_is_the_mean_over_the_last_share_of_training(lab_of, last, counted):
    curve = lambda lane, count: count**2 + lane.seed
    lab, _ = lab_of(curve)
    panel = compare(lab, {"none": "none"}, last=last)
    expected = np.mean(np.array(list(counted)) ** 2)
    assert panel.values[0] == pytest.approx(expected + np.array([1000, 1001, 1002]))
    stored = store.read_chunk(next(path for path in lab.out.iterdir() if (path / "manifest.json").exists()))
    assert panel.values[0] == pytest.approx(stored.curves["return"][:, [k - 1 for k in counted]].mean(1))


def test_iterations_without_a_value_do_not_count(lab_of):
    curve = lambda lane, count: np.where(count % 3 == 0, count, np.nan)  # 3, 6, 9
    lab, _ = lab_of(curve)
    assert compare(lab, {"none": "none"}).values.tolist() == [[9.0] * 3]
    assert compare(lab, {"none": "none"}, last=0.5).values.tolist() == [[7.5] * 3]


@pytest.mark.parametrize("last", [-0.1, 1.5])
def test_a_share_of_training_outside_of_it_is_refused(lab_of, last):
    with pytest.raises(UserError, match=rf"last = {last}: a share of the training, in \[0, 1\]"):
        compare(lab_of()[0], {"none": "none"}, last=last)


def test_an_unknown_metric_names_those_there_are(lab_of):
    with pytest.raises(UserError, match="metric 'retrun' was not measured: there are return"):
        compare(lab_of()[0], {"none": "none"}, metric="retrun")


@pytest.mark.parametrize("last", [0.0, 0.5])
def test_lanes_that_diverged_are_nan_and_counted(lab_of, last):
    lab, executor = lab_of(bad=lambda lane: lane.seed == 1001)
    panel = compare(lab, {"none": "none", "count": "count"}, last=last)
    assert np.isnan(panel.values).tolist() == [[False, True, False]] * 2
    assert lab.diverged == {lane.id for lane in executor.trained if lane.seed == 1001}


def test_steps_and_seconds_are_those_of_the_lanes(lab_of):
    lab, executor = lab_of()
    compare(lab, {"none": "none", "count": "count"}, choose={"coef": [0.1, 1.0]})
    assert lab.steps == STEPS * len(executor.trained) == STEPS * (3 + 2 * 2 + 3)
    timings = [manifest["timing"] for manifest in store.chunks(lab.out)]
    assert len(timings) == 3
    assert lab.training == pytest.approx(sum(one["compile_seconds"] + one["run_seconds"] for one in timings))


def test_seconds_are_training_and_what_was_done_beside_it(lab_of, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(laboratory.time, "monotonic", lambda: clock[0])
    lab, executor = lab_of()
    clock[0] += 7  # something else than training

    def slowly(*given, **keywords):
        clock[0] += 1000
        return executor(*given, **keywords)

    lab.execute = slowly
    compare(lab, {"none": "none"})
    assert lab.seconds == pytest.approx(7 + 5)  # five seconds of a made-up chunk


def test_a_lane_that_is_asked_for_twice_is_accounted_for_once(lab_of):
    lab, executor = lab_of(bad=lambda lane: lane.seed == 1001)
    once = compare(lab, {"none": "none"}), lab.steps, lab.training, set(lab.diverged)
    again = compare(lab, {"none": "none"}), lab.steps, lab.training, set(lab.diverged)
    assert once[0].equals(again[0]) and once[1:] == again[1:] and len(executor.trained) == 3


def test_a_chunk_that_others_share_counts_by_its_lanes(lab_of):
    """Seconds are a lane's part of its chunk, so that what another scale trained is not this one's."""
    lab, executor = lab_of(scale={"seeds": 4})
    compare(lab, {"none": "none"})
    smaller = Lab({"seeds": 1}, lab.out, execute=executor)
    compare(smaller, {"none": "none"})
    assert smaller.steps == STEPS and smaller.training == pytest.approx(lab.training / 4)


def test_a_second_sitting_trains_nothing_and_accounts_for_the_same(lab_of):
    first, executor = lab_of(bad=lambda lane: lane.seed == 1001)
    arms, choose = {"none": "none", "count": "count"}, {"coef": [0.1, 1.0]}
    panel = compare(first, arms, choose=choose)
    trained = len(executor.trained)
    second = Lab(first.scale, first.out, execute=executor)
    assert compare(second, arms, choose=choose).equals(panel) and len(executor.trained) == trained
    same = ("steps", "training", "diverged", "chosen")
    assert [getattr(second, name) for name in same] == [getattr(first, name) for name in same]


def test_a_second_sitting_imports_what_the_first_ran(lab_of, monkeypatch):
    """A record names the modules that were imported: also those that only an earlier process had to run."""
    imported = []
    monkeypatch.setattr(laboratory, "import_code", lambda program, objects: imported.append(program["bonus"]))
    lab, executor = lab_of()
    compare(lab, {"none": "none", "rnd": "rnd"})
    compare(Lab(lab.scale, lab.out, execute=executor), {"none": "none", "rnd": "rnd"})
    assert imported == ["none", "rnd"] * 2


def test_code_is_imported_by_name(lab_of):
    missing = {name: sys.modules.pop(name) for name in ("jaxrl.intrinsic.byol_explore",) if name in sys.modules}
    lab, _ = lab_of()
    compare(lab, {"byol": "byol_explore"})
    assert "jaxrl.intrinsic.byol_explore" in sys.modules
    sys.modules.update(missing)


def test_a_run_that_is_told_to_end_raises_and_goes_on_where_it_was(lab_of, made_up):
    stops = lambda spec: spec.fixed["bonus"] == "count" and min(spec.seeds) >= laboratory.FRESH
    lab, executor = lab_of(stops=stops)
    with pytest.raises(Stopped):
        compare(lab, {"none": "none", "count": "count"}, choose={"coef": [0.1, 1.0]})
    before = len(executor.trained)
    going_on = Lab(lab.scale, lab.out, execute=made_up(coefficient))
    compare(going_on, {"none": "none", "count": "count"}, choose={"coef": [0.1, 1.0]})
    assert len(going_on.execute.trained) == 3 and before == 3 + 4


def test_the_executor_is_told_when_to_stop_and_whom_to_tell(tmp_path, made_up):
    heard = []
    executor = made_up(coefficient)

    def listening(spec, out, *, stop, on_event):
        assert stop() == "wish"
        on_event({"kind": "progress"})
        return executor(spec, out, stop=stop, on_event=on_event)

    lab = Lab({"seeds": 2}, tmp_path, execute=listening, stop=lambda: "wish", on_event=heard.append)
    compare(lab, {"none": "none"})
    assert heard == [{"kind": "note", "text": "none: verdict: 2 seeds x 1"}, {"kind": "progress"}]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(laboratory, panel) of one real training: two arms, two coefficients."""
    lab = Lab({"seeds": 2, "pilot": 2}, tmp_path_factory.mktemp("trained"))
    arms = {"none": "none", "count": "count"}
    return lab, lab.compare(arms, metric="eval_return", choose={"coef": [0.1, 1.0]}, **FIELDS)


def test_a_real_training_scores_what_was_stored(trained):
    lab, panel = trained
    assert np.isfinite(panel.values).all() and panel.attrs == {"metric": "eval_return"}
    assert lab.steps == STEPS * (2 + 4 + 2) and lab.diverged == set()
    stored = {lane["lane"]: curve for chunk in map(store.read_chunk, {*store.committed(lab.out).values()})
              for lane, curve in zip(chunk.lanes, chunk.curves["eval_return"][:, -1], strict=True)
              if lane["seed"] >= 1000}  # fmt: skip
    assert sorted(stored.values()) == sorted(panel.values.ravel())
    wall = sum(sum(manifest["timing"][f"{part}_seconds"] for part in ("compile", "run"))
               for manifest in store.chunks(lab.out))  # fmt: skip
    assert lab.training == pytest.approx(wall)
