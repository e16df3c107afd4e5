import re
import subprocess
import sys
import textwrap

import jax
import pytest

from jaxrl import cli, envs
from jaxrl.envs import probes
from jaxrl.envs.catalogue import SOURCES, row_of, rows
from jaxrl.errors import UserError


def registered(source):
    return sorted(name for name, found in envs.names().items() if found == source)


def test_the_gymnax_table_is_the_registry():
    import gymnax

    assert registered("gymnax") == sorted(gymnax.registered_envs)


def test_the_brax_table_is_the_registry_and_ours():
    import brax.envs

    ours = {"point-umaze", "point-large", "ant-umaze", "ant-large"}
    ours |= {f"sparse-{body}" for body in ("halfcheetah", "ant", "hopper", "walker2d", "humanoid", "humanoidstandup")}
    assert registered("brax") == sorted(f"brax/{name}" for name in {*brax.envs._envs, *ours})


def test_the_probe_table_is_the_registry():
    assert registered("probe") == sorted(probes.PROBES)


def test_every_row_says_what_it_is():
    """Known gaps: these cannot be made without a download, or at all (see the adapters)."""
    gaps = {"MNISTBandit-bsuite", "brax/swimmer"}
    for row in rows().values():
        assert row.source in SOURCES and row.requires == SOURCES[row.source].extra
        assert row.name.startswith(f"{row.source}/") or row.source == "gymnax"
        unknown = row.name in gaps or row.source == "jaxtari"
        pattern = r"(u?int\d+|float32|bool)\[[\d, ]*\]"
        assert (row.observation == "") if unknown else re.fullmatch(pattern, row.observation), row
        assert (row.actions == "") if unknown else re.fullmatch(r"Discrete\(\d+\)|Box\(.+\)", row.actions), row
        assert (row.step_limit == "") if unknown else int(row.step_limit) >= 1, row
    assert len(rows()) > 250


def test_a_row_is_made_from_the_task():
    for name in ("DeepSea-bsuite", "probe/action_box", "Pendulum-v1"):
        assert row_of(envs.make(name), envs.names()[name]) == rows()[name]


def test_names_and_errors_need_no_jax():
    code = """
        import sys
        from jaxrl import envs
        try:
            envs.check_name("DeepSee-bsuite")
        except ValueError as error:
            print(len(envs.names()), error)
        print({"jax", "numpy", "gymnax", "brax"} & set(sys.modules))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{len(envs.names())} unknown environment 'DeepSee-bsuite': did you mean 'DeepSea-bsuite'?")
    assert second == "set()"


def test_check_name_accepts_what_make_does():
    for name in (*envs.names(), "my_pkg.worlds:Maze", "worlds:Maze"):
        envs.check_name(name)
    for reference in ("my_pkg.worlds:", ":Maze", "my pkg:Maze", "a:b:c", "worlds:Maze.small", "my_pkg/worlds:Maze"):
        with pytest.raises(UserError, match="package.module:Name"):
            envs.check_name(reference)


@pytest.mark.parametrize(
    ("env", "kwargs", "sentence"),
    [
        ("DeepSea", {}, "unknown environment 'DeepSea': did you mean 'DeepSea-bsuite'"),
        ("DeepSea-bsuite", {"sise": 4}, "unknown argument of DeepSea-bsuite 'sise': did you mean 'size'"),
        ("DeepSea-bsuite", {"unscaled_move_costs": 0}, "did you mean 'unscaled_move_cost'"),
        ("DeepSea-bsuite", {"size": "large"}, "DeepSea-bsuite' cannot be made with size='large'"),
        ("probe/chain", {"max_steps": 0}, "step limit 0"),
        ("nowhere_at_all.worlds:Maze", {}, "no Python source for module 'nowhere_at_all.worlds'"),
        ("jaxrl.envs.probes:Chian", {}, "unknown jaxrl.envs.probes name 'Chian': did you mean 'Chain'"),
        (3, {}, "must be a class, a function or an object"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(env, kwargs, sentence):
    with pytest.raises(UserError, match=sentence):
        envs.make(env, **kwargs)


def test_a_missing_package_names_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxrl.envs.gymnax", raising=False)
    monkeypatch.setitem(sys.modules, "gymnax", None)
    with pytest.raises(UserError, match=r"'CartPole-v1' needs the package 'gymnax'.*pip install 'jaxrl'"):
        envs.make("CartPole-v1")


WORLDS = """
    from jaxrl.envs import AutoReset
    from jaxrl.types import Discrete
    import jax.numpy as jnp

    class Corridor(AutoReset):
        actions = Discrete(2)
        def __init__(self, length, *, limit=9):
            self.length, self.max_steps = length, limit
        def reset_env(self, key, params):
            return jnp.zeros(self.length), 0
        def step_env(self, key, state, action, params):
            return jnp.zeros(self.length), state + 1, 0, False, state + 1 == self.max_steps, {}

    def short(limit=2) -> Corridor:
        return Corridor(3, limit=limit)

    ready = Corridor(6)
"""


def test_references_to_a_module_in_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "corridor_worlds.py").write_text(textwrap.dedent(WORLDS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "corridor_worlds", raising=False)
    task = envs.make("corridor_worlds:Corridor", length=5, limit=4)
    assert (task.name, task.obs_shape, task.max_steps) == ("corridor_worlds:Corridor", (5,), 4)
    assert envs.make("corridor_worlds:short").max_steps == 2
    assert envs.make("corridor_worlds:ready").env is sys.modules["corridor_worlds"].ready
    with pytest.raises(UserError, match=r"missing 1 required positional argument: 'length'"):
        envs.make("corridor_worlds:Corridor")
    with pytest.raises(UserError, match="unknown argument of corridor_worlds:ready 'length'"):
        envs.make("corridor_worlds:ready", length=5)
    report = envs.check_env(task, steps=20)
    assert (report["truncated"], report["limit_tested"], report["reset_tested"]) == (5, True, True)


def test_classes_functions_and_objects_from_python():
    assert envs.make(probes.Chain, length=6).obs_shape == (6,)
    assert envs.make(lambda length: probes.Chain(length), length=7).obs_shape == (7,)
    chain = probes.Chain()
    assert envs.make(chain).env is chain
    assert jax.tree.leaves(envs.make(chain).params) == []


@pytest.mark.parametrize(("name", "source"), [("navix/Empty-5x5", "navix"), ("craftax/Symbolic", "craftax")])
def test_a_missing_extra_names_it(monkeypatch, name, source):
    monkeypatch.delitem(sys.modules, f"jaxrl.envs.{source}", raising=False)
    for module in [module for module in sys.modules if module.partition(".")[0] == source]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, source, None)
    with pytest.raises(UserError, match=rf"{name}' needs the package '{source}.*: pip install 'jaxrl\[{source}\]'"):
        envs.make(name)


def test_list_envs_says_what_each_is_and_what_to_install(capsys, monkeypatch):
    assert cli.main(["list", "envs", "deepsea"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "DeepSea" in line]
    assert " ".join(line.split()) == "DeepSea-bsuite gymnax float32[8, 8] Discrete(2) 8 return >= 0.9 installed"
    monkeypatch.setitem(SOURCES, "navix", SOURCES["navix"]._replace(package="navix_is_not_here"))
    assert cli.main(["list", "envs", "navix/DoorKey-8x8"]) == 0
    out = capsys.readouterr().out
    assert "uint8[7, 7, 3]" in out and "Discrete(7)" in out and "640" in out and "pip install 'jaxrl[navix]'" in out
    assert "DeepSea" not in out
    assert cli.main(["list", "envs", "nothing_like_it"]) == 2
    assert "none of the envs have this word" in capsys.readouterr().err
