"""The promise of the planner: no change of packing, seeds or values redoes or orphans a committed lane."""

import importlib.metadata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrl.signatures
from jaxrl.errors import UserError
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import chunk_id, lanes, packs, plan, programs

PARTS = """
from jaxrl.types import Agent, IntrinsicReward
def agent(streams, lr=1e-3, *, minibatches=4) -> Agent: ...
def surprise(scale=1.0) -> IntrinsicReward: ...
def flat() -> IntrinsicReward: ...
"""


@pytest.fixture(autouse=True)
def parts(tmp_path, monkeypatch):
    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)


def small(grid, seeds=2, **fixed):
    defaults = {"agent": "parts:agent", "bonus": "parts:surprise"}
    return spec(grid=grid, seeds=seeds, **{key: value for key, value in defaults.items() if key not in grid} | fixed)


_AXES = {
    "coef": st.floats(0, 10, width=32, allow_subnormal=False),
    "lr": st.floats(0, 1, width=32, allow_subnormal=False),
    "surprise.scale": st.floats(-5, 5, width=32, allow_subnormal=False),
    "bonus": st.sampled_from(["parts:flat", "parts:surprise", "parts:surprise + parts:flat"]),
    "minibatches": st.sampled_from([1, 2, 4, 8]),
}
_GRIDS = st.fixed_dictionaries(
    {}, optional={name: st.lists(values, min_size=1, max_size=3, unique=True) for name, values in _AXES.items()}
)


@settings(max_examples=40)
@given(
    grid=_GRIDS,
    seeds=st.sets(st.integers(0, 50), min_size=1, max_size=4),
    extra_seed=st.integers(51, 60),
    extra_coef=st.floats(11, 12, width=32),
    at_once=st.integers(1, 9),
    finished=st.randoms(use_true_random=False),
    data=st.data(),
)
def test_extension_keeps_what_is_committed_and_plans_only_the_rest(
    grid, seeds, extra_seed, extra_coef, at_once, finished, data
):
    grid.setdefault("coef", [1.0])
    if not any("surprise" in bonus for bonus in grid.get("bonus", ["parts:surprise"])):
        grid.pop("surprise.scale", None)  # refused: no program would have it
    before = plan(small(grid, sorted(seeds)), (), at_once)
    planned = [lane.id for chunk in before.chunks for lane in chunk.lanes]
    assert len(set(planned)) == len(planned) == before.lanes and before.skipped == 0

    done = [chunk for chunk in before.chunks if finished.random() < 0.6]
    committed = {lane.id for chunk in done for lane in chunk.lanes}
    # Whoever plans later plans the same chunks, and so finds their claims and checkpoints.
    again = plan(small(grid, sorted(seeds)), committed, at_once)
    assert again.chunks == tuple(chunk for chunk in before.chunks if chunk not in done)

    wider = {**grid, "coef": [extra_coef, *grid["coef"]]}
    wider = {name: data.draw(st.permutations(wider[name])) for name in data.draw(st.permutations(sorted(wider)))}
    extended = small(wider, [extra_seed, *sorted(seeds)])
    everything = {lane.id for lane in lanes(extended)}
    assert set(planned) < everything

    after = plan(extended, committed, max(1, at_once // 2))
    to_run = [lane.id for chunk in after.chunks for lane in chunk.lanes]
    assert len(set(to_run)) == len(to_run)
    assert not committed & set(to_run)
    assert committed | set(to_run) == everything
    assert (after.lanes, after.skipped) == (len(everything), len(committed))
    for chunk in after.chunks:
        assert 1 <= len(chunk.lanes) <= max(1, at_once // 2)
        assert all(lane.program == chunk.program for lane in chunk.lanes)
        assert chunk.id == chunk_id(reversed([lane.id for lane in chunk.lanes]))


def test_equal_numbers_and_reordered_keys_give_equal_ids():
    first = lanes(small({"coef": [1, "1e-3"], "lr": [0.1, 0.2], "bonus": ["parts:flat", "parts:surprise"]}))
    second = lanes(small({"bonus": ["parts:flat", "(parts:surprise())"], "lr": ["1e-1", 0.2], "coef": [1.0, 0.001]}))
    assert [lane.id for lane in first] == [lane.id for lane in second]
    assert len(lanes(small({"coef": [1, 1.0, "1"]}, seeds=1))) == 1


def test_the_seed_does_not_depend_on_the_cell():
    cells = [lanes(small({"coef": [coef]}, seeds=[3, 5])) for coef in (0.1, 0.2)]
    assert [[lane.seed for lane in cell] for cell in cells] == [[3, 5], [3, 5]]


@pytest.mark.parametrize(
    "change",
    [
        {"coef": 1.0000001},
        {"seeds": [7]},
        {"steps": 200_001},
        {"env_args": {"size": 9}},
        {"bonus": "parts:flat"},
    ],
)
def test_whatever_decides_the_numbers_changes_the_id(change):
    (before,) = lanes(small({}, seeds=1))
    (after,) = lanes(small({}, **{"seeds": 1, **change}))
    assert before.id != after.id


def test_the_name_of_a_spec_is_not_part_of_the_id():
    assert lanes(small({}, name="a"))[0].id == lanes(small({}, name="b"))[0].id


def test_code_of_the_library_and_of_the_user_is_part_of_the_id(tmp_path, monkeypatch):
    user, catalogued = small({}, seeds=1), small({}, seeds=1, agent="ppo", bonus="none")
    before = lanes(user)[0].id, lanes(catalogued)[0].id
    (tmp_path / "parts.py").write_text(PARTS.replace("def flat", "MORE = 1\ndef flat"))
    assert lanes(user)[0].id != before[0]
    assert lanes(catalogued)[0].id == before[1]
    monkeypatch.setattr("jaxrl.sweep.plan.code_fingerprint", lambda: "another")
    assert lanes(catalogued)[0].id != before[1]
    assert jaxrl.signatures.code_fingerprint() != "another"


def test_numbers_that_are_one_float32_are_one_lane():
    """In a grid, in a bonus expression, and as what a field is fixed to."""
    one = small({"coef": [0.1, 0.10000000149011612, 0.1 + 1e-12]}, seeds=2)
    assert [lane.values["coef"] for lane in lanes(one)] == [0.1, 0.1]
    written = [small({}, seeds=1, bonus=f"{scale} * parts:surprise(scale={scale})") for scale in (0.3, 0.3 + 1e-10)]
    assert lanes(written[0])[0].id == lanes(written[1])[0].id
    fixed = [small({}, seeds=1, lr=lr) for lr in (1 / 3, 0.33333334)]
    assert lanes(fixed[0])[0].id == lanes(fixed[1])[0].id and lanes(fixed[0])[0].values["lr"] == 0.33333334


def test_programs_group_lanes_by_static_configuration():
    groups = programs(lanes(small({"minibatches": [2, 4], "coef": [0.1, 1.0]}, seeds=3)))
    assert [(program["minibatches"], len(group)) for program, group in groups] == [(2, 6), (4, 6)]
    assert [len(chunk.lanes) for chunk in packs(groups[0][1], 4, ())] == [4, 2]
    with pytest.raises(UserError, match="at_once = 0"):
        plan(small({}), (), 0)


def test_the_version_of_the_environments_library_is_part_of_a_lane(monkeypatch):
    """Of navix for its environments, and for no other's."""
    made = {env: lanes(spec(env=env))[0] for env in ("navix/Empty-5x5", "grid/Empty-5x5")}
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0" if name == "navix" else version(name))
    assert made["navix/Empty-5x5"].sources == {"navix": version("navix"), "settings of jax": "defaults"}
    assert made["grid/Empty-5x5"].sources == {"settings of jax": "defaults"}
    assert lanes(spec(env="navix/Empty-5x5"))[0].id != made["navix/Empty-5x5"].id
    assert lanes(spec(env="grid/Empty-5x5"))[0].id == made["grid/Empty-5x5"].id
