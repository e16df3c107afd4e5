"""One claim from its file to its record: what smoke may leave out, what planted data must show, what is kept."""

import json
import types

import numpy as np
import pytest
import xarray as xr

from jaxrl.errors import UserError
from jaxrl.reproduce import catalogue, record, reproduce
from jaxrl.reproduce.verdict import Difference, judged

GAIN = Difference("high beats low", "heights", "high", "low", 0.5)
HIDDEN = Difference("slow beats low", "speeds", "slow", "low", 0.5)


def measured(arms=("low", "high"), places=()):
    def measure(lab):
        seeds = list(lab.seeds)
        scores = np.random.default_rng(0).normal(size=(len(arms), *(2 for _ in places), len(seeds)))
        scores += np.arange(len(arms)).reshape(-1, *(1 for _ in places), 1) * 9
        coordinates = {"arm": list(arms), **{place: [10, 20] for place in places}, "seed": seeds}
        attrs = {"title": "height", "units": "metres"}
        return {"heights": xr.DataArray(scores, coordinates, list(coordinates), attrs=attrs)}

    return measure


@pytest.fixture
def sit(claims, tmp_path, monkeypatch):
    """Reproduces a claim with these differences and this measure."""
    monkeypatch.setattr(record, "code", lambda name: {})

    def reproduced(differences, measure, scale="smoke", seeds=8):
        scales = {name: {"seeds": seeds} for name in catalogue.SCALES}
        claim = types.SimpleNamespace(DIFFERENCES=differences, SCALES=scales, measure=measure)
        monkeypatch.setattr(catalogue, "load", lambda name: claim)
        return reproduce.reproduce("toy-claim", scale, tmp_path)

    return reproduced


def test_what_was_measured_is_decided_drawn_and_kept(sit, tmp_path):
    found = sit((GAIN,), measured(), "cpu")
    folder = tmp_path / "toy-claim-cpu"
    assert sorted(path.name for path in folder.iterdir()) == ["claim.md", "figure.png", "record.json"]
    assert json.loads((folder / "record.json").read_text()) == found and found["verdict"] == "reproduced"
    assert "planted" not in found and reproduce.kept("toy-claim", "cpu", tmp_path) == found


def test_smoke_decides_what_it_measured_and_plants_data_for_every_difference(sit):
    found = sit((GAIN, HIDDEN, GAIN._replace(first="slow")), measured())
    assert [row["says"] for row in found["differences"]] == ["high beats low"] and len(found["planted"]) == 3


def test_smoke_may_leave_places_out(sit):
    found = sit((GAIN._replace(at={"size": 10}), GAIN._replace(at={"size": 90})), measured(places=("size",)))
    assert [row["at"] for row in found["differences"]] == [{"size": 10}]


@pytest.mark.parametrize(
    ("difference", "scale", "sentence"),
    [
        (HIDDEN, "smoke", "toy-claim: at the scale smoke not one difference can be decided"),
        (GAIN._replace(at={"slope": 1}), "smoke", "panel 'heights' has no dim 'slope'"),
        (HIDDEN, "cpu", "unknown panel 'speeds'"),
        (GAIN._replace(first="hihg"), "cpu", "unknown arm 'hihg': did you mean 'high'?"),
    ],
)
def test_a_difference_that_was_not_measured_is_said(sit, difference, scale, sentence):
    with pytest.raises(UserError, match=sentence):
        sit((difference,), measured(), scale)


def test_a_claim_that_measures_nothing_is_refused(sit):
    with pytest.raises(UserError, match="toy-claim: measure returned no panel"):
        sit((GAIN,), lambda lab: {})


def test_planted_data_that_deceive_the_verdict_are_an_error(sit, monkeypatch):
    import jaxrl.reproduce.verdict as verdict

    def credulous(difference, first, second):
        return judged(difference, first, second)._replace(verdict="reproduced")

    monkeypatch.setattr(verdict, "judged", credulous)
    with pytest.raises(UserError, match="of planted null data 100% come out reproduced, of planted effects 100%"):
        sit((GAIN,), measured())
    monkeypatch.setattr(verdict, "judged", lambda *given: judged(*given)._replace(verdict="undecided"))
    with pytest.raises(UserError, match="of planted null data 0% come out reproduced, of planted effects 0%"):
        sit((GAIN,), measured())


def test_two_seeds_are_too_few_for_planted_scores(sit):
    with pytest.raises(UserError, match="it needs more seeds"):
        sit((GAIN,), measured(), seeds=2)
