"""Every clash that is known is found in a table of versions, and none in a healthy one."""

import pytest

from jaxrl.doctor import CORE, clashes, directories, writable

HEALTHY = {**dict.fromkeys(CORE, "1.0"), "jax": "0.10.2", "gymnax": "1.0.1", "numpy": "2.4.6", "brax": "0.14.2"}


def breaking(**versions):
    return [clash for clash in clashes({**HEALTHY, **versions}) if clash.breaks]


def test_a_healthy_installation_has_no_breaking_clash():
    assert breaking() == []
    assert breaking(jax="0.11.2", numpy="2.5.5") == []


@pytest.mark.parametrize(
    ("versions", "problem", "cure"),
    [
        ({"gymnax": "0.0.9"}, "another step API", "pip install 'gymnax>=1.0.1,<2'"),
        ({"gymnax": None}, "gymnax is not installed", "pip install 'gymnax>=1.0.1,<2'"),
        ({"numpy": "1.26.4"}, "numpy 1.26.4 is outside", "pip install 'numpy>=2,<3'"),
        ({"jax": "0.10.1"}, "jax 0.10.1 is outside", "pip install 'jax>=0.10.2,<0.12'"),
        ({"jax": "0.12.0"}, "jax 0.12.0 is outside", "pip install 'jax>=0.10.2,<0.12'"),
        ({"six": None}, "six is not installed", "pip install 'six'"),
    ],
)
def test_what_breaks_jaxrl_is_named_with_its_cure(versions, problem, cure):
    (clash,) = breaking(**versions)
    assert problem in clash.problem and clash.cure == cure


def test_what_does_not_break_jaxrl_is_a_note():
    pair = {"tensorflow-probability": "0.25", "tfp-nightly": "0.26"}
    notes = [clash for clash in clashes({**HEALTHY, **pair}) if not clash.breaks]
    assert ["same files" in notes[0].problem, "brax.training" in notes[1].problem] == [True, True]
    assert "pip uninstall" in notes[0].cure
    assert not any("same files" in clash.problem for clash in clashes({**HEALTHY, "tfp-nightly": "0.26"}))
    assert not any("brax.training" in clash.problem for clash in clashes({**HEALTHY, "jax": "0.9.0"}))


def test_directories_are_probed_without_being_made(tmp_path):
    assert directories({"JAX_COMPILATION_CACHE_DIR": "/x"})["compilation cache"].as_posix() == "/x"
    assert writable(tmp_path / "not" / "yet") and not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    assert not writable(tmp_path / "file" / "below")


def test_unsolvable_worlds_are_told_with_what_to_use_instead():
    note = next(clash for clash in clashes({**HEALTHY, "navix": "0.7.4"}) if "navix" in clash.problem)
    assert "navix/KeyCorridor*, navix/SimpleCrossingS11N5 and navix/SimpleCrossingS9N3" in note.problem
    assert "grid/" in note.cure and not note.breaks
    assert not any("navix" in clash.problem for clash in clashes({**HEALTHY, "navix": None}))
