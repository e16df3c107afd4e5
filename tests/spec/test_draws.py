"""[zip] and [random]: which points a spec stands for, and that growing it keeps them."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import jaxrl.sweep.plan
from jaxrl.errors import UserError
from jaxrl.spec.draws import draw, read
from jaxrl.spec.settings import settings
from jaxrl.spec.spec import load_toml, spec
from jaxrl.sweep.plan import lanes

PARTS = """
from jaxrl.types import Agent, IntrinsicReward
def agent(streams, lr=1e-3, *, minibatches=4) -> Agent: ...
def surprise(scale=1.0, *, depth=2) -> IntrinsicReward: ...
def flat() -> IntrinsicReward: ...
"""
FLOAT, LOG = {"low": 0.0, "high": 1.0}, {"low": 1e-5, "high": 1e-2, "log": True}


@pytest.fixture(autouse=True)
def parts(tmp_path, monkeypatch):
    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    # What reads source code is not asked here, and takes most of the time.
    monkeypatch.setattr(jaxrl.sweep.plan, "code_fingerprint", lambda: "pinned")
    monkeypatch.setattr(jaxrl.sweep.plan, "source_fingerprint", lambda thing: f"source of {thing}")


def small(**fields):
    """A spec of the parts, with `fields` on top; what a table sweeps is not fixed."""
    defaults = {"env": "probe/chain", "agent": "parts:agent", "bonus": "parts:surprise"}
    tables = [fields[table] for table in ("grid", "zip", "random", "optuna") if isinstance(fields.get(table), dict)]
    return spec(**{key: value for key, value in defaults.items() if not any(key in t for t in tables)} | fields)


def points(made, *names):
    """The swept values of every lane, as a sorted list."""
    return sorted(tuple({**lane.program, **lane.values}[name] for name in names) for lane in lanes(made))


def test_the_points_are_the_product_of_grid_and_zip_and_draws():
    made = small(
        grid={"discount": [0.9, 0.99]},
        zip={"lr": [1e-3, "3e-4"], "minibatches": [2, 4]},
        random={"n": 3, "coef": FLOAT},
    )
    coefs = made.random["coef"]
    assert len(set(coefs)) == 3
    expected = [(d, *row, c) for d in (0.9, 0.99) for row in ((3e-4, 4), (1e-3, 2)) for c in coefs]
    assert points(made, "discount", "lr", "minibatches", "coef") == sorted(expected)


def test_a_row_may_choose_the_program_its_structure_and_its_numbers_at_once():
    made = small(zip={"bonus": ["none", "parts:surprise"], "coef": [1.0, 0.25], "surprise.depth": [7, 3]})
    found = [(program["bonus"], program.get("surprise.depth"), values) for program, (values,) in settings(made)]
    assert [(bonus, depth, values.get("coef")) for bonus, depth, values in found] == [
        ("none", None, None),
        ("parts:surprise", 3, 0.25),
    ]


@pytest.mark.parametrize("table", [{"zip": {"lr": [0.1, 0.2]}}, {"random": {"n": 2, "lr": FLOAT}}])
def test_seeds_multiply_every_point(table):
    assert len(lanes(small(**table, seeds=3))) == 6


_SPACES = st.fixed_dictionaries(
    {"coef": st.just(FLOAT)},
    optional={
        "lr": st.sampled_from([LOG, {"choices": [0.1, 0.2, 0.3]}]),
        "num_envs": st.just({"low": 8, "high": 64, "step": 8}),
        "bonus": st.just({"choices": ["parts:flat", "parts:surprise"]}),
        "minibatches": st.just({"choices": [1, 2, 4]}),
    },
)


@examples(max_examples=20)
@given(space=_SPACES, n=st.integers(1, 12), more=st.integers(1, 12), seed=st.integers(0, 9), data=st.data())
def test_more_draws_keep_the_first_and_another_field_changes_none(space, n, more, seed, data):
    before = small(random={"n": n, "seed": seed, **space})
    after = small(random={"n": n + more, "seed": seed, **space})
    assert {lane.id for lane in lanes(before)} <= {lane.id for lane in lanes(after)}
    names = sorted(space)
    dropped = data.draw(st.sampled_from(names))
    shuffled = {name: space[name] for name in data.draw(st.permutations(names)) if name != dropped}
    if shuffled:
        fewer = small(random={"n": n, "seed": seed, **shuffled})
        assert fewer.random == {name: before.random[name] for name in shuffled}


@examples(max_examples=20)
@given(
    rows=st.lists(
        st.tuples(st.floats(0, 1, width=32, allow_subnormal=False), st.sampled_from([1, 2, 4])),
        min_size=2, max_size=5, unique=True,
    ),
    kept=st.integers(1, 4),
    data=st.data(),
)
def test_a_longer_zip_runs_only_what_is_new(rows, kept, data):
    kept = min(kept, len(rows) - 1)
    spec_of = lambda rows: small(zip={"lr": [row[0] for row in rows], "minibatches": [row[1] for row in rows]})
    before = {lane.id for lane in lanes(spec_of(rows[:kept]))}
    after = {lane.id for lane in lanes(spec_of(data.draw(st.permutations(rows))))}
    assert before < after and len(after) == len(rows)


def test_draws_fill_their_distributions():
    space = {
        "coef": read("coef", FLOAT),
        "lr": read("lr", LOG),
        "num_envs": read("num_envs", {"low": 8, "high": 67, "step": 8}),
        "epochs": read("epochs", {"low": 1, "high": 3}),
        "depth": read("depth", {"low": 1, "high": 64, "log": True}),
        "slip": read("slip", {"low": 0.1, "high": 0.3, "step": 0.1}),
        "agent": read("agent", {"choices": ["ppo", "ppo_rnn"]}),
    }
    drawn = {name: np.array(values) for name, values in draw(space, 4000, 0).items()}
    np.testing.assert_allclose(np.histogram(drawn["coef"], 4, (0, 1))[0], 1000, atol=120)
    decades = np.histogram(np.log10(drawn["lr"]), 3, (-5, -2))[0]
    np.testing.assert_allclose(decades, 4000 / 3, atol=120)
    assert drawn["lr"].min() >= 1e-5 and drawn["lr"].max() <= 1e-2
    for name, values in {"num_envs": range(8, 65, 8), "epochs": (1, 2, 3), "agent": ("ppo", "ppo_rnn")}.items():
        found, counts = np.unique(drawn[name], return_counts=True)
        assert list(found) == list(values)
        np.testing.assert_allclose(counts, 4000 / len(found), rtol=0.25)
    assert set(drawn["slip"].tolist()) == {0.1, 0.2, 0.3}
    assert drawn["num_envs"].dtype.kind == drawn["depth"].dtype.kind == "i"
    octaves = [np.mean((drawn["depth"] >= 2**k) & (drawn["depth"] < 2 ** (k + 1))) for k in range(6)]
    shares = [math.log((2 ** (k + 1) - 0.5) / (2**k - 0.5)) / math.log(64.5 / 0.5) for k in range(6)]
    np.testing.assert_allclose(octaves, shares, atol=0.03)


def test_draws_never_change():
    """Lanes are known by their values: another stream would orphan every random search that was ever run."""
    space = {"coef": read("coef", FLOAT), "rnd.lr": read("rnd.lr", LOG)}
    assert draw(space, 2, 0) == {"coef": (0.36793545, 0.5724805), "rnd.lr": (0.00015833003, 3.2676046e-05)}
    assert draw(space, 2, 1)["coef"][0] != 0.36793545


def test_whole_numbers_stay_whole_and_others_do_not_become_so():
    made = small(
        random={"n": 8, "coef": {"low": 0, "high": 1}, "num_envs": {"low": 8.0, "high": 32.0}, "params.goal": FLOAT,
                "env_args.size": {"low": 4, "high": 9}, "params.cells": {"low": 2, "high": 5}}
    )  # fmt: skip
    assert all(isinstance(value, int) for name in ("num_envs", "env_args.size") for value in made.random[name])
    assert not any(float(value).is_integer() for name in ("coef", "params.goal") for value in made.random[name])
    assert set(made.random["params.cells"]) <= {2, 3, 4, 5}


def test_toml_writes_the_tables_as_python_does(tmp_path):
    (tmp_path / "sweep.toml").write_text(
        'seeds = 2\n[fixed]\nenv = "probe/chain"\nagent = "parts:agent"\nbonus = "parts:surprise"\n'
        "[zip]\nlr = [1e-3, 3e-4]\ncoef = [0.1, 1.0]\n"
        "[random]\nn = 5\nsurprise.scale = { low = 1e-5, high = 1e-2, log = true }\n"
        '"surprise.depth" = { choices = [1, 3] }'
    )
    same = small(
        seeds=2,
        zip={"coef": [0.1, 1], "lr": [1e-3, 3e-4]},
        random={"n": 5, "seed": 0, "surprise.scale": LOG, "surprise": {"depth": {"choices": [1, 3]}}},
    )
    assert [lane.id for lane in lanes(load_toml(tmp_path / "sweep.toml"))] == [lane.id for lane in lanes(same)]
    assert len(lanes(same)) == 20


def rows(**table):
    return {"random": {"n": 3, **table}}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"zip": {"lr": [1], "coef": [1, 2]}}, "equally many values, but 'lr' has 1, 'coef' has 2"),
        ({"zip": {"lr": 3}}, "zip field 'lr' = 3: expected a list"),
        ({"zip": {"lrr": [3]}}, "unknown field 'lrr': did you mean 'lr'"),
        ({"zip": {"discount": [0.5, 2]}}, "discount = 2.0: must be in"),
        ({"lr": 1, "zip": {"lr": [1]}}, r"'lr' is given twice, in \[fixed\] and in \[zip\]"),
        ({"grid": {"lr": [1]}, "zip": {"lr": [1]}}, r"'lr' is given twice, in \[grid\] and in \[zip\]"),
        ({"zip": {"lr": [1]}, **rows(lr=FLOAT)}, r"'lr' is given twice, in \[zip\] and in \[random\]"),
        ({"random": 3}, "random = 3: expected a table"),
        ({"random": {"lr": FLOAT}}, "random: 'n' is missing"),
        ({"random": {"n": 3}}, "random: name at least one field"),
        (rows(n=0, lr=FLOAT), "random n = 0: must be in"),
        (rows(n=1.5, lr=FLOAT), "random n = 1.5: expected a whole number"),
        (rows(seed=-1, lr=FLOAT), "random seed = -1: must be at least 0"),
        (rows(sede=1, lr=FLOAT), "unknown random entry 'sede': did you mean 'seed'"),
        (rows(lr=0.1), "unknown random entry 'lr': allowed: n, seed; a field takes a distribution"),
        (rows(lrr=FLOAT), "unknown field 'lrr': did you mean 'lr'"),
        (rows(lr={"low": 0, "hihg": 1}), "unknown entry of random field 'lr' 'hihg': did you mean 'high'"),
        (rows(lr={"low": 0}), "random field 'lr': 'high' is missing"),
        (rows(lr={"low": 2, "high": 1}), "random field 'lr': low = 2 is above high = 1"),
        (rows(lr={"low": 0, "high": 1, "log": True}), "low = 0: must be above 0 where log = true"),
        (rows(lr={"low": "a", "high": 1}), "random field 'lr': low = 'a': expected a finite number"),
        (rows(lr={"low": 0, "high": math.inf}), "random field 'lr': high = inf: expected a finite number"),
        (rows(lr={"low": 0, "high": 1, "log": 1}), "log = 1: expected True or False"),
        (rows(lr={"low": 0, "high": 1, "step": 0}), "step = 0: must be above 0"),
        (rows(lr={"low": 1, "high": 2, "step": 1, "log": True}), "exclude each other"),
        (rows(lr={"choices": []}), r"choices = \[\]: expected a list of at least one"),
        (rows(lr={"choices": [1, 1]}), "one of them is there twice"),
        (rows(lr={"choices": [1], "low": 0}), "choices stand alone, without 'low'"),
        (rows(lr={"choices": [0.1, -1]}), "lr = -1.0: must be at least 0"),
        (rows(agent={"choices": ["ppo", "pppo"]}), "unknown agent 'pppo': did you mean 'ppo'"),
        (rows(agent={"low": 0, "high": 1}), "agent = 0: expected a word"),
        (rows(discount={"low": 0.5, "high": 1.5}), "discount = 1.5: must be in"),
        (rows(lr={"low": -0.5, "high": 1.5}), "lr = -0.5: must be at least 0"),
        (rows(num_envs={"low": 8.5, "high": 16}), "num_envs = 8.5: expected a whole number"),
        (rows(num_envs={"low": 8, "high": 16, "step": 0.5}), "field 'num_envs': step = 0.5: expected a whole number"),
        (rows(minibatches={"low": 1, "high": 4}, n=20), "minibatches = 3: must divide"),
        ({"bonus": "none", **rows(coef=FLOAT)}, "'coef' changes nothing in any program of this spec"),
        ({"grid": {"lr": range(2000)}, **rows(n=2000, coef=FLOAT)}, "more than 1,000,000"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        small(**fields)


GRIDS = {
    "3963bb0bfe58778b": {"seeds": 3, "coef": 0.5},
    "e1b58ca06ea756ba": {"seeds": "2:4", "grid": {"lr": [1e-3, 3e-4], "coef": [1, 0.1, 0.5], "params.goal": [3, 7]}},
    "522c3ce58973f558": {
        "steps": 20_480, "grid": {"num_envs": [8, 16], "minibatches": [4, 2], "discount": [0.9, 0.99]}
    },
    "859809a373f3fb6b": {
        "seeds": 2,
        "grid": {"surprise.scale": [2, 1], "bonus": ["parts:flat", "parts:surprise", "none"], "coef": [0.1, 1.0],
                 "surprise.depth": [1, 2], "streams": ["split", "sum"], "wrap": [[], ["frame_stack"]]},
    },
    "d637549df924603b": {
        "env_args": {"length": 5}, "grid": {"env_args.length": [4, 6], "bonus": ["parts:flat + parts:surprise"]}
    },
}  # fmt: skip


@pytest.mark.parametrize("digest", GRIDS)
def test_a_spec_without_the_new_tables_keeps_its_lanes_and_their_order(digest):
    """Ids as they were before [zip] and [random] existed; a field added to every program changes them rightly."""
    ids = "".join(lane.id for lane in lanes(small(**GRIDS[digest])))
    assert hashlib.sha256(ids.encode()).hexdigest()[:16] == digest
