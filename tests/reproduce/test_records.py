"""The records of this project: fresh, within their budget, and what README says of them."""

import pytest

from jaxrl.reproduce import catalogue, counts, record, report
from jaxrl.reproduce.verdict import Decided, Difference, decide, overall

MOST_STEPS, MOST_SECONDS = 40e6, 720  # of the scale cpu, selection included
FILES = sorted({*(catalogue.folder() / "records").glob("*.json")} - {record.path("pending")})
RECORDS = [pytest.param(file.stem, scale, kept, id=f"{file.stem}-{scale}")
           for file in FILES for scale, kept in record.parsed(file).items()]  # fmt: skip
PENDING = record.pending()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_record_is_of_a_claim(file):
    assert file.stem in catalogue.names()
    assert set(record.parsed(file)) <= {"cpu", "gpu"}


def test_every_claim_was_measured():
    assert {name for name in catalogue.names() if record.read(name, "cpu") is None} == set()


@pytest.mark.parametrize(("name", "scale", "kept"), RECORDS)
def test_no_record_is_stale(name, scale, kept):
    own = f"experiments/{name.replace('-', '_')}.py"
    assert {own, "jaxrl/reproduce/verdict.py", "jaxrl/reproduce/lab.py"} <= set(kept["code"])
    how = f"jaxrl reproduce {name} --scale {scale} --record"
    assert record.changed(kept) == [] or name in PENDING, f"measure it again, or say why not in pending.json: {how}"


def test_only_stale_records_are_pending():
    stale = {name for name, _, kept in (one.values for one in RECORDS) if record.changed(kept)}
    assert set(PENDING) - stale == set(), "measured again: strike them out of pending.json"


@pytest.mark.parametrize(("name", "scale", "kept"), RECORDS)
def test_the_differences_are_the_registered_ones(name, scale, kept):
    registered = [{**one._asdict(), "at": dict(one.at)} for one in catalogue.load(name).DIFFERENCES]
    assert [{key: row[key] for key in Difference._fields} for row in kept["differences"]] == registered


@pytest.mark.parametrize(("name", "scale", "kept"), RECORDS)
def test_the_verdict_follows_from_the_stored_scores(name, scale, kept):
    panels = record.panels_of(kept)
    decided: list[Decided] = []
    for row in kept["differences"]:
        decided.append(decide(Difference(**{key: row[key] for key in Difference._fields}), panels))
        assert (decided[-1].verdict, decided[-1].lost) == (row["verdict"], row["lost"]), row["says"]
        stored = [float("nan") if part is None else part for part in record.estimate_of(row)]
        assert list(decided[-1].estimate) == pytest.approx(stored, rel=1e-3, abs=1e-5, nan_ok=True), row["says"]
    assert overall(decided) == kept["verdict"]


@pytest.mark.parametrize(("name", "scale", "kept"), RECORDS)
def test_verdicts_are_of_fresh_seeds_as_many_as_the_scale_says(name, scale, kept):
    low, high = kept["seeds"]
    registered = catalogue.load(name).SCALES[scale]
    assert low == 1000 and high - low + 1 == registered["seeds"]
    assert kept["pilot_seeds"] <= 16
    for panel, array in record.panels_of(kept).items():
        seeds = registered["walks"] if panel == counts.COUNTS else registered["seeds"]
        assert array["seed"].values.tolist() == list(range(low, low + seeds)), panel


@pytest.mark.parametrize(("name", "scale", "kept"), [one for one in RECORDS if one.values[1] == "cpu"])
def test_a_record_is_within_its_budget(name, scale, kept):
    assert kept["steps"] <= MOST_STEPS and kept["seconds"] <= MOST_SECONDS


@pytest.mark.parametrize(("name", "scale", "kept"), RECORDS)
def test_what_was_not_reproduced_says_why(name, scale, kept):
    assert kept["verdict"] == "reproduced" or "\nEvidence  " in catalogue.load(name).__doc__


def test_the_table_of_the_readme_is_written_from_the_records():
    readme = (catalogue.folder().parent / "README.md").read_text(encoding="utf-8")
    assert readme.count(report.BEGIN) == readme.count(report.END) == 1, "README.md has no marks of the table of claims"
    shown = readme[readme.index(report.BEGIN) : readme.index(report.END) + len(report.END)]
    assert shown == report.readme_table(), "make claims"
