"""References: what keeps its contract is found in source, and nothing else is ever imported."""

import itertools
import sys
import textwrap

import pytest

import jaxrl.agents
import jaxrl.envs.wrappers
import jaxrl.intrinsic
import jaxrl.trainers
from jaxrl import references
from jaxrl.errors import UserError
from jaxrl.spec.spec import spec

PARTS = """
import functools
from typing import TYPE_CHECKING, Generic, TypeVar
import jaxrl.types
from gymnax.environments import environment
from jaxrl import types as records
from jaxrl.envs import AutoReset
from jaxrl.envs.wrappers import Wrapper
from .worlds import Maze as Labyrinth, maze
from .stars import *
from . import worlds
if TYPE_CHECKING:
    from jaxrl.types import IntrinsicReward
raise RuntimeError("never executed")

class Own(AutoReset): ...
class Deeper(worlds.Maze): ...
class Old(environment.Environment): ...
class Typed(AutoReset, Generic[TypeVar("T")]): ...
class Duck:
    reset = step = staticmethod(lambda *_: None)
class Half:
    def reset(self, key, params): ...
class Loop(Loop): ...
def made(size=3) -> Own: ...
def quoted() -> "worlds.Maze": ...
def bare(size=3): ...
def wrong() -> Half: ...
ready, other = Own(), 3
one = Own()
two = made()
three = bare()
def good() -> "IntrinsicReward": ...
def dotted() -> jaxrl.types.IntrinsicReward: ...
def renamed() -> records.IntrinsicReward: ...
def starred() -> Reward: ...
class Mine(Wrapper): ...
def mine(env) -> Mine: ...
def base(env) -> Wrapper: ...
def agent() -> records.Agent: ...
def trainer() -> records.Trainer: ...
@functools.cache
def decorated() -> records.Agent: ...
"""
WORLDS = """
from jaxrl.envs.contract import AutoReset
class Maze(AutoReset): ...
def maze() -> Maze: ...
"""


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    folder = tmp_path / "never_run"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .parts import Own as Own, bare\nraise RuntimeError('never executed')\n")
    (folder / "parts.py").write_text(PARTS)
    (folder / "worlds.py").write_text(WORLDS)
    (folder / "stars.py").write_text("from jaxrl.types import IntrinsicReward as Reward\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("environment", "Own Deeper Old Typed Duck made quoted one two Labyrinth maze"),
        ("bonus", "good dotted renamed starred"),
        ("wrapper", "mine base"),
        ("agent", "agent decorated"),
        ("trainer", "trainer"),
    ],
)
def test_what_keeps_its_contract_is_accepted_unexecuted_and_as_nothing_else(kind, names):
    for name in names.split():
        references.check(kind, f"never_run.parts:{name}")
        for other in {"environment", "bonus", "wrapper", "agent", "trainer"} - {kind}:
            if (kind, other) != ("wrapper", "environment"):  # a wrapper is an environment too
                with pytest.raises(UserError, match="nothing of it was imported"):
                    references.check(other, f"never_run.parts:{name}")
    references.check("environment", "never_run:Own")
    assert "never_run" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "reference", "sentence"),
    [
        ("environment", "subprocess:Popen", "its class has no reset and no step"),
        ("environment", "subprocess:run", "annotate the function with the class of the environment"),
        ("environment", "os:system", "'os:system' is refused: there is no Python source for module 'os'"),
        ("environment", "never_run.parts:Half", "its class has no step"),
        ("environment", "never_run.parts:Loop", "its class has no reset and no step"),
        ("environment", "never_run.parts:bare", "annotate the function"),
        ("environment", "never_run:bare", "annotate the function"),
        ("environment", "never_run.parts:wrong", "annotate the function"),
        ("environment", "never_run.parts:three", "neither a class"),
        ("environment", "never_run.parts:worlds", "neither a class"),
        ("environment", "builtins:exec", "no Python source for module 'builtins'"),
        ("environment", "sys:exit", "no Python source for module 'sys'"),
        ("bonus", "subprocess:Popen", "must be a function.*annotated with -> IntrinsicReward"),
        ("bonus", "never_run.parts:bare", r"-> IntrinsicReward \(from jaxrl.types import IntrinsicReward\)"),
        ("bonus", "never_run.parts:agent", "-> IntrinsicReward"),
        ("agent", "shutil:move", r"annotate the function with -> Agent \(from jaxrl.types import Agent\)"),
        ("trainer", "shutil:rmtree", "-> Trainer"),
        ("wrapper", "never_run.parts:Mine", r"must be a function.*-> Wrapper"),
    ],
)
def test_anything_else_is_refused_in_a_sentence_and_not_imported(kind, reference, sentence):
    for judge in (references.check, references.load):
        with pytest.raises(UserError, match=sentence):
            judge(kind, reference)
    assert "never_run" not in sys.modules


@pytest.mark.parametrize(
    "fields",
    [
        {"env": "subprocess:Popen", "env_args": {"args": "touch boom", "shell": True}},
        {"bonus": "subprocess:Popen(args=touch)"},
        {"bonus": "count * os:system"},
        {"wrap": ["subprocess:run"]},
        {"agent": "subprocess:run"},
        {"trainer": "subprocess:check_call"},
    ],
    ids=str,
)
def test_a_spec_that_names_any_callable_is_refused(fields, tmp_path):
    with pytest.raises(UserError, match="is refused"):
        spec(**fields)
    assert not (tmp_path / "boom").exists()


def test_every_catalogue_keeps_its_contract():
    kinds = {"bonus": jaxrl.intrinsic, "agent": jaxrl.agents, "trainer": jaxrl.trainers}
    for kind, module in {**kinds, "wrapper": jaxrl.envs.wrappers}.items():
        for reference in module.CATALOGUE.values():
            references.check(kind, reference)


def test_a_class_that_lost_its_methods_by_running_is_refused(tmp_path):
    (tmp_path / "turncoat.py").write_text(WORLDS + "class Maze: ...\n" + "Maze = type('Maze', (), {})\n")
    with pytest.raises(UserError, match="neither a class|has no reset"):
        references.load("environment", "turncoat:Maze")
    (tmp_path / "vanishing.py").write_text(WORLDS + "globals().pop('Maze')\n")
    with pytest.raises(UserError, match="once imported, has no 'Maze'"):
        references.load("environment", "vanishing:Maze")


def test_a_missing_import_of_the_users_module_is_named(tmp_path):
    (tmp_path / "needy.py").write_text("import nowhere_at_all\n" + WORLDS)
    with pytest.raises(UserError, match="'needy:Maze' needs the module 'nowhere_at_all'"):
        references.load("environment", "needy:Maze")


def test_a_module_that_is_not_python_is_a_sentence(tmp_path):
    for number, text in enumerate(("def f(:", "x = 1\0", "(" * 5000, "-" * 100_000 + "1")):
        (tmp_path / f"broken{number}.py").write_text(text)
        with pytest.raises(UserError, match=f"broken{number}.py"):
            references.check("bonus", f"broken{number}:f")


def test_imports_in_a_circle_end(tmp_path):
    for one, other in itertools.permutations(("ring_a", "ring_b")):
        (tmp_path / f"{one}.py").write_text(f"from {other} import thing\nfrom {other} import *\n")
    with pytest.raises(UserError, match="must be a function"):
        references.check("bonus", "ring_a:thing")


def test_installed_modules_come_first_and_the_directorys_are_still_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("gymnax", "of_this_folder"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(WORLDS) + "open('boom', 'w')\n")
    assert tmp_path not in references.locate("gymnax").parents
    assert str(tmp_path) not in sys.path
    assert references.load("environment", "of_this_folder:Maze").__module__ == "of_this_folder"
    assert sys.path[-1] == str(tmp_path) and (tmp_path / "boom").exists()


def test_all_code_that_results_name_is_asked_for_at_once():
    program = {"env": "my_worlds:Maze", "bonus": "my_ideas:progress * count", "wrap": ["my_worlds:Maze"]}
    allow = "pass --allow my_worlds:Maze my_ideas:progress, or"
    with pytest.raises(UserError, match=allow):
        references.check_allowed(program, (), "here")
    references.check_allowed(program, ("my_worlds:Maze", "my_ideas:progress"), "here")


def test_a_module_that_fails_while_it_is_imported_is_named_with_the_line(tmp_path, monkeypatch):
    (tmp_path / "failing_worlds.py").write_text(
        "from jaxrl.envs import AutoReset\n\nSIZE = 1 / 0\n\nclass Maze(AutoReset):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    told = r"importing failing_worlds failed in .*failing_worlds.py, line 3: ZeroDivisionError: division by zero"
    with pytest.raises(UserError, match=told):
        references.load("environment", "failing_worlds:Maze")
