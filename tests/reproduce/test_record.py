"""Records: what is kept comes back, what is damaged is said, and which change of code makes one stale."""

import json
import math
import re

import numpy as np
import pytest
import xarray as xr

from jaxrl.errors import UserError
from jaxrl.reproduce import record
from jaxrl.reproduce.lab import Lab
from jaxrl.reproduce.verdict import Difference, decide
from jaxrl.signatures import PACKAGE

GAIN = Difference("high beats low", "heights", "high", "low", 0.1, {"size": 20})


@pytest.fixture
def panel():
    scores = np.random.default_rng(0).normal(size=(2, 2, 4)) + np.array([0.0, 9.0])[:, None, None]
    scores[1, 0, 2] = np.nan
    coordinates = {"arm": ["low", "high"], "size": [10, 20], "seed": [1000, 1001, 1002, 1003]}
    return xr.DataArray(scores, coordinates, list(coordinates), attrs={"title": "height", "units": "metres"})


@pytest.fixture
def toy(claims, monkeypatch):
    """The toy claim, measured by no code."""
    monkeypatch.setattr(record, "code", lambda name: {})


@pytest.fixture
def made(toy, panel, tmp_path):
    lab = Lab({"seeds": 4, "pilot": 2}, tmp_path)
    lab.steps, lab.diverged = 1280, {"lane"}
    lab.chosen = [{"arm": "high", "at": {"env": Lab}, "chosen": {"coef": 0.1},
                   "tried": [{"coef": 0.1, "score": math.nan}, {"coef": 1, "score": 0.5}]}]  # fmt: skip
    return record.made("toy-claim", lab, {"heights": panel}, [decide(GAIN, {"heights": panel})])


def through_json(found, folder):
    record.put(folder / "record.json", found)
    return record.parsed(folder / "record.json")


def test_panels_come_back_as_they_were_measured(made, panel, tmp_path):
    (name, found), = record.panels_of(through_json(made, tmp_path)).items()  # fmt: skip
    assert name == "heights" and found.dims == panel.dims and found.attrs == panel.attrs
    xr.testing.assert_allclose(found, panel.rename(None), rtol=1e-5)
    for dim in panel.dims:
        assert found[dim].values.tolist() == panel[dim].values.tolist()


def test_the_verdict_follows_from_the_record_alone(made, tmp_path):
    found = through_json(made, tmp_path)
    again = decide(GAIN, record.panels_of(found))
    (row,) = found["differences"]
    assert (again.verdict, again.lost) == (row["verdict"], row["lost"]) == (found["verdict"], 0)
    assert record.estimate_of(row) == pytest.approx(again.estimate, rel=1e-4)
    assert {key: row[key] for key in ("says", "panel", "first", "second", "at", "margin", "share", "gain")} == {
        **GAIN._asdict()
    }


def test_what_is_no_number_is_null_and_code_is_named(made, tmp_path):
    found = through_json(made, tmp_path)
    assert found["panels"]["heights"]["scores"][1][0][2] is None
    (row,) = found["chosen"]
    assert row["at"] == {"env": "Lab"} and row["tried"][0]["score"] is None
    assert row["tried"][1]["score"] == 0.5


def test_what_is_infinite_is_null(made, tmp_path):
    chosen = record._plain([{"score": math.inf}, {"score": -math.inf}])
    assert through_json({**made, "chosen": chosen}, tmp_path)["chosen"] == [{"score": None}] * 2


def test_an_unknown_interval_is_null(toy, tmp_path):
    panel = xr.DataArray(np.full((2, 3), 0.5), {"arm": ["low", "high"], "seed": range(3)}, ["arm", "seed"])
    decided = decide(GAIN._replace(at={}), {"heights": panel})
    found = record.made("toy-claim", Lab({"seeds": 3}, tmp_path), {"heights": panel}, [decided])
    (row,) = through_json(found, tmp_path)["differences"]
    assert (row["value"], row["low"], row["high"], row["verdict"]) == (0.0, None, None, "undecided")


def test_a_record_says_what_it_cost_and_where(made):
    expected = {"claim": "A toy claim, of | two arms.", "verdict": "reproduced", "seeds": [1000, 1003]}
    assert {key: made[key] for key in expected} == expected
    assert (made["pilot_seeds"], made["steps"], made["diverged"]) == (2, 1280, 1)
    assert {"commit", "dirty", "machine", "versions", "measured", "seconds"} <= set(made)
    assert made["versions"]["jax"] and "CPU cores" in made["machine"]


def test_scales_are_kept_beside_each_other(made, claims):
    assert record.read("toy-claim", "cpu") is None
    for scale in ("cpu", "gpu", "cpu"):
        file = record.write("toy-claim", scale, {**made, "steps": len(scale)})
    assert file == claims / "records" / "toy-claim.json" and set(json.loads(file.read_text())) == {"cpu", "gpu"}
    assert record.read("toy-claim", "cpu")["steps"] == 3 and record.read("toy-claim", "smoke") is None
    assert [path.name for path in file.parent.iterdir()] == ["toy-claim.json"]


@pytest.mark.parametrize("content", ["", '{"cpu": ', "[]", "null", "\udcff"])
def test_a_damaged_record_is_named(claims, content):
    file = record.path("toy-claim")
    file.parent.mkdir()
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="toy-claim.json is damaged"):
        record.read("toy-claim", "cpu")
    with pytest.raises(UserError, match="toy-claim.json is damaged"):
        record.write("toy-claim", "cpu", {})


def test_what_is_pending_says_why_and_is_a_claim(claims):
    assert record.pending() == {}
    file = record.path("pending")
    file.parent.mkdir()
    record.put(file, {"toy-claim": "other keys"})
    assert record.pending() == {"toy-claim": "other keys"}
    for wrong, sentence in (
        ({"toy-clam": "other keys"}, "unknown claim in pending.json 'toy-clam': did you mean 'toy-claim'?"),
        ({"toy-claim": " "}, "pending.json: 'toy-claim' gives ' ' as its reason: write in words what changed"),
        ({"toy-claim": None}, "'toy-claim' gives None as its reason"),
    ):
        record.put(file, wrong)
        with pytest.raises(UserError, match=re.escape(sentence)):
            record.pending()
    file.write_text("[]")
    with pytest.raises(UserError, match="pending.json is damaged"):
        record.pending()


def test_a_write_that_fails_leaves_the_record_as_it_was(claims):
    file = record.write("toy-claim", "cpu", {"steps": 1})
    before = file.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        record.write("toy-claim", "cpu", {"steps": math.nan})
    assert file.read_bytes() == before


@pytest.fixture
def fresh(claims):
    """A record of a checkout whose jaxrl is one module."""
    package = claims.parent / "jaxrl"
    package.mkdir()
    (package / "bonus.py").write_text('"""What it does."""\n\nSCALE = 2  # why\n')
    files = (claims / "toy_claim.py", package / "bonus.py")
    fingerprint = record.signatures.file_fingerprint
    return {"code": {file.relative_to(claims.parent).as_posix(): fingerprint(file) for file in files}}


@pytest.mark.parametrize("name", ["jaxrl/bonus.py", "experiments/toy_claim.py"])
def test_code_makes_a_record_stale_and_words_do_not(fresh, claims, name):
    file = claims.parent / name
    assert record.changed(fresh) == []
    code = file.read_text()
    file.write_text(code.replace('"""', '"""Said otherwise. ', 1) + "\n# a comment\n")
    assert record.changed(fresh) == []
    file.write_text(code + "\nMORE = 1\n")
    assert record.changed(fresh) == [name]
    file.unlink()
    assert record.changed(fresh) == [name]


def test_the_code_of_a_record_is_the_claim_and_what_decides_its_numbers():
    names = set(record.code("global-vs-episodic"))
    assert "experiments/global_vs_episodic.py" in names
    assert {"jaxrl/reproduce/lab.py", "jaxrl/reproduce/verdict.py", "jaxrl/results/stats.py"} <= names
    assert {"jaxrl/results/query.py", "jaxrl/sweep/program.py", "jaxrl/types.py"} <= names
    assert not names & {"jaxrl/cli.py", "jaxrl/reproduce/figure.py", "jaxrl/reproduce/record.py", "jaxrl/sweep/run.py"}


def test_every_file_of_jaxrl_decides_numbers_or_not():
    deciding = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")
                if record.decides(path.relative_to(PACKAGE))}  # fmt: skip
    assert {"intrinsic/rnd.py", "envs/grid/cells.py", "calibrate/score.py", "sweep/plan.py", "types.py"} <= deciding
    without = ("trackers/", "executors/", "results/plot", "results/store", "cli.py")
    assert not {path for path in deciding if path.startswith(without)}
    # What DECIDING names must be there: a renamed file would silently decide nothing.
    assert all(any(path.startswith(start) for path in deciding) for start in record.DECIDING)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"verdict": 5}, "field verdict is 5, expected text"),
        ({"differences": [{}]}, r"field differences\[0\].says is missing"),
        ({"panels": {"heights": []}}, r"field panels.heights is \[\], expected a mapping"),
        ({"seeds": ["a"]}, r"field seeds\[0\] is 'a', expected a whole number"),
    ],
)
def test_a_record_of_another_form_is_named_with_its_field(made, claims, changes, field):
    record.write("toy-claim", "cpu", {**made, **changes})
    with pytest.raises(UserError, match=f"toy-claim.json is damaged: {field}"):
        record.read("toy-claim", "cpu")
