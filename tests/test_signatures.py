"""Signatures and fingerprints are read from source, without executing it."""

import importlib.metadata
import math

import pytest

from jaxrl.errors import UserError
from jaxrl.references import check_bound
from jaxrl.signatures import code_fingerprint, coerce, identity, signature, source_fingerprint

IDEAS = '''
"""Surprise. Smith 2020.

More words.
"""
from my_pkg.parts import inner as shown
from . import parts

raise RuntimeError("this module must not be executed")


def surprise(
    actions,
    scale=1,  # how much
    *,
    example,
    hidden=(64, 64), depth=2,  # two on a line: help of neither
    buckets=2**10,
    after=parts.inner,  # not a literal
):
    """Docstring."""
    return 1  # comment


def mixture(*rewards, temperature=1.0): ...


def positional_word(kind="a"): ...


class Maze: ...


small = Maze()
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "my_pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('this package must not be executed')\n")
    (folder / "ideas.py").write_text(IDEAS)
    (folder / "parts.py").write_text("def inner(lr=0.5): return lr\n")
    monkeypatch.chdir(tmp_path)
    return folder


def test_parameters_are_sorted_by_the_factory_convention(package):
    found = signature("my_pkg.ideas:surprise")
    assert found.swept == {"scale": 1.0}
    assert found.static == {"hidden": (64, 64), "depth": 2, "buckets": 1024}
    assert found.supplied == ("actions", "example")
    assert found.rewards is False
    assert found.help == {"scale": "how much", "after": "not a literal"}
    assert found.doc == "Surprise. Smith 2020.\n\nMore words."
    assert signature("my_pkg.ideas:mixture").rewards is True


def test_a_name_imported_from_elsewhere_is_followed(package):
    assert signature("my_pkg.ideas:shown").swept == {"lr": 0.5}


def test_a_function_object_reads_as_its_source_would():
    def factory(streams, lr=1, *, actions, hidden=(4,), after=len): ...

    found = signature(factory)
    assert (found.swept, found.static, found.supplied) == ({"lr": 1.0}, {"hidden": (4,)}, ("streams", "actions"))
    with pytest.raises(UserError, match="'kind'.*positional"):
        signature(_positional_word)


def _positional_word(kind="a"): ...


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("my_pkg.idea:surprise", "no Python source for module 'my_pkg.idea'"),
        ("nowhere_at_all:surprise", "no Python source for module 'nowhere_at_all'"),
        ("my_pkg.ideas:surprize", "did you mean 'surprise'"),
        ("my_pkg.ideas:Maze", "plain function"),
        ("my_pkg.ideas:positional_word", "'kind'.*positional"),
        ("my_pkg.ideas", "not of the form"),
        ("my_pkg..ideas:x", "not of the form"),
    ],
)
def test_a_wrong_reference_is_a_sentence(package, reference, sentence):
    with pytest.raises(UserError, match=sentence):
        signature(reference)


def test_a_reference_may_name_a_class_or_an_instance(package):
    check_bound("my_pkg.ideas:Maze")
    check_bound("my_pkg.ideas:small")
    with pytest.raises(UserError, match="did you mean 'Maze'"):
        check_bound("my_pkg.ideas:Mase")


def test_fingerprint_is_blind_to_comments_and_docstrings_and_sees_code(package):
    before = source_fingerprint("my_pkg.ideas:surprise")
    path = package / "ideas.py"
    path.write_text(
        IDEAS.replace("# comment", "# other").replace('"""Docstring."""', '"""Another."""').replace("Smith", "S")
    )
    assert source_fingerprint("my_pkg.ideas:surprise") == before
    path.write_text(IDEAS.replace("return 1", "return 2"))
    assert source_fingerprint("my_pkg.ideas:surprise") != before


def test_fingerprint_covers_the_versions_of_installed_packages_and_of_no_others(package, monkeypatch):
    imports = "import scipy.stats\nfrom pandas import DataFrame\n"
    (package / "parts.py").write_text(imports + "def inner(lr=0.5): return lr\n")
    before = source_fingerprint("my_pkg.ideas:surprise")
    version = importlib.metadata.version
    for other, differs in (("scipy", True), ("pandas", True), ("matplotlib", False)):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, o=other: "0.0" if name == o else version(name))
        assert (source_fingerprint("my_pkg.ideas:surprise") != before) == differs


def test_fingerprint_covers_the_modules_that_the_module_imports(package):
    before = source_fingerprint("my_pkg.ideas:surprise")
    (package / "parts.py").write_text("def inner(lr=0.5): return lr * 2\n")
    assert source_fingerprint("my_pkg.ideas:surprise") != before


def test_fingerprint_of_a_local_function_needs_its_whole_source():
    def factory(lr=1):
        return lr

    def same_name():
        def factory(lr=1):
            return lr + 1

        return factory

    assert source_fingerprint(factory) != source_fingerprint(same_name())
    hidden = 3

    def closing(lr=1):
        return lr * hidden

    with pytest.raises(UserError, match="closes over 'hidden'"):
        source_fingerprint(closing)
    with pytest.raises(UserError, match="lambda"):
        identity(lambda: 1)
    with pytest.raises(UserError, match="neither a function nor a class"):
        identity(3)


def test_code_fingerprint_sees_numbers_and_versions_and_not_the_front(tmp_path, monkeypatch):
    import jaxrl.signatures as module

    (tmp_path / "results").mkdir()
    for name in ("cli.py", "returns.py", "results/plot.py"):
        (tmp_path / name).write_text("a = 1\n")
    monkeypatch.setattr(module, "PACKAGE", tmp_path)

    def now():
        code_fingerprint.cache_clear()
        return code_fingerprint()

    first = now()
    (tmp_path / "cli.py").write_text("a = 2\n")
    (tmp_path / "results/plot.py").write_text("a = 2\n")
    assert now() == first
    (tmp_path / "returns.py").write_text("a = 22\n")
    second = now()
    assert second != first
    monkeypatch.setattr(module, "installed", lambda names: dict.fromkeys(names, "0"))
    assert now() != second
    code_fingerprint.cache_clear()


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        ("1e-3", 0.5, 0.001),
        (1, 0.5, 1.0),
        (2e5, 1, 200_000),
        ([1, 2], (64, 64), (1, 2)),
        (-0.0, 1.0, 0.0),
        ("a", "b", "a"),
    ],
)
def test_coerce_gives_the_default_s_type(value, default, expected):
    found = coerce("x", value, default)
    assert found == expected and type(found) is type(expected)
    assert not isinstance(found, float) or math.copysign(1, found) == math.copysign(1, expected)


@pytest.mark.parametrize(
    ("value", "default"),
    [
        (math.nan, 1.0),
        ("inf", 1.0),
        (True, 1.0),
        (True, 1),
        (1, True),
        (1.5, 1),
        ("abc", 1.0),
        (3, (1,)),
        (3, "a"),
        ({}, None),
    ],
)
def test_coerce_refuses_what_has_no_such_meaning(value, default):
    with pytest.raises(UserError, match="x = "):
        coerce("x", value, default)
