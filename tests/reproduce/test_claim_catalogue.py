"""Claims are found by what they register, without being run."""

import pytest

from jaxrl.errors import UserError
from jaxrl.reproduce import catalogue


def test_claims_are_the_files_that_register_differences(claims):
    assert catalogue.names() == ["toy-claim"]
    (claims / "annotated_claim.py").write_text("DIFFERENCES: tuple = ()\n")
    (claims / "inside.py").write_text("def f():\n    DIFFERENCES = ()\n")
    assert catalogue.names() == ["annotated-claim", "toy-claim"]
    assert catalogue.path("toy-claim") == claims / "toy_claim.py"


def test_the_title_is_the_first_paragraph(claims):
    assert catalogue.title("toy-claim") == "A toy claim, of | two arms."
    assert catalogue.doc("toy-claim").endswith("Paper     None.")


def test_nothing_is_executed_to_list_claims(claims):
    (claims / "toy_claim.py").write_text('"""Ti\ntle.\n\nRest."""\nDIFFERENCES = ()\nraise RuntimeError\n')
    assert catalogue.names() == ["toy-claim"] and catalogue.title("toy-claim") == "Ti tle."


def test_an_unknown_claim_names_the_nearest(claims):
    for wrong in ("toy_claim", "toy-clam"):
        with pytest.raises(UserError, match=f"unknown claim '{wrong}': did you mean 'toy-claim'?"):
            catalogue.path(wrong)


def test_a_file_that_is_no_python_is_named(claims):
    (claims / "toy_claim.py").write_text("DIFFERENCES = (\n")
    with pytest.raises(UserError, match=r"toy_claim.py, line 1: '\(' was never closed"):
        catalogue.names()


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ("def measure", "def messure", "toy_two.py has no measure"),
        ('"gpu": {"seeds": 16, "steps": 640}', "", "toy_two.py: SCALES has no gpu"),
        ("0.1),)", "0.0),)", "difference 'high beats low': margin = 0.0: must be greater than 0"),
    ],
)
def test_a_claim_that_lacks_a_part_is_refused(claims, monkeypatch, was, becomes, sentence):
    text = (claims / "toy_claim.py").read_text()
    assert was in text
    (claims / "toy_two.py").write_text(text.replace(was, becomes))
    module = load_from(claims, monkeypatch)
    with pytest.raises(UserError, match=sentence):
        module("toy-two")


def load_from(claims, monkeypatch):
    """`catalogue.load` where experiments/ is the claims' directory, although the project's own is imported."""
    import importlib.util
    import types

    def imported(name):
        spec = importlib.util.spec_from_file_location(name, claims / f"{name.rpartition('.')[2]}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    monkeypatch.setattr(catalogue, "importlib", types.SimpleNamespace(import_module=imported))
    monkeypatch.setattr(catalogue.sys, "path", [*catalogue.sys.path])
    return catalogue.load


def test_a_claim_loads(claims, monkeypatch):
    module = load_from(claims, monkeypatch)("toy-claim")
    assert set(module.SCALES) == set(catalogue.SCALES) and callable(module.measure)


def test_without_a_checkout_there_are_no_claims(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "lib/jaxrl/reproduce/catalogue.py"))
    with pytest.raises(UserError, match="claims are part of a checkout, not of an installed package"):
        catalogue.folder()
