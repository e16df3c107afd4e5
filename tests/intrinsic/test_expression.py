"""Bonus expressions: what is read, what is refused, and what is built."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxrl.errors
from jaxrl.errors import UserError
from jaxrl.intrinsic import CATALOGUE
from jaxrl.intrinsic.expression import Add, Call, Number, Product, build, canonical, parse, terms

IDEAS = """
from jaxrl.types import IntrinsicReward
raise RuntimeError("parsing must not execute this")
def surprise(scale=1.0, *, actions, depth=2, wide=False, hidden=(64, 64)) -> IntrinsicReward: ...
def rnd(lr=1.0) -> IntrinsicReward: ...
def mixture(*rewards, temperature=1.0) -> IntrinsicReward: ...
"""


@pytest.fixture(autouse=True)
def ideas(tmp_path, monkeypatch):
    (tmp_path / "ideas.py").write_text(IDEAS)
    monkeypatch.chdir(tmp_path)


def test_scale_sum_and_product():
    rnd, e3b = Call(CATALOGUE["rnd"], "rnd", {}), Call(CATALOGUE["e3b"], "e3b", {})
    assert parse("rnd") == parse(" (rnd( )) ") == rnd
    assert parse("0.5 * rnd + e3b") == Add((Product((Number(0.5), rnd)), e3b))
    assert parse("rnd * 2 * e3b * -0.5") == Product((Number(-1.0), rnd, e3b))
    assert parse("2 * (rnd + e3b)") == Product((Number(2.0), Add((rnd, e3b))))


def test_references_keywords_and_combinators():
    tree = parse("ideas:mixture(ideas:surprise(scale=2, wide=True, hidden=(8,)), 3 * count, temperature=0.5) * none")
    mixture, surprise, count, none = terms(tree)
    assert mixture.keywords == {"temperature": 0.5} and len(mixture.children) == 2
    assert (surprise.reference, surprise.name) == ("ideas:surprise", "surprise")
    assert surprise.keywords == {"scale": 2.0, "wide": True, "hidden": (8,)}
    assert (count.name, none.name) == ("count", "none")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rdn", "unknown bonus 'rdn': did you mean 'rnd'"),
        ("rnd(lrr=1)", "unknown rnd parameter 'lrr': did you mean 'lr'"),
        ("ideas:surprise(actions=1)", "unknown surprise parameter 'actions'"),
        ("ideas:surprize", "did you mean 'surprise'"),
        ("0.5", "a number alone"),
        ("2 * 3", "a number alone"),
        ("0.5 + rnd", "column 1: '0.5' refused"),
        ("rnd + 2 * 3", "column 7: '2 [*] 3' refused"),
        ("rnd - e3b", "column 1: 'rnd - e3b' refused"),
        ("-rnd", "column 1: '-rnd' refused"),
        ("rnd / 2", "refused"),
        ("rnd ** 2", "refused"),
        ("rnd(1)", "column 5: '1' refused: 'rnd' takes keywords only"),
        ("rnd(e3b)", "'rnd' takes keywords only"),
        ("ideas:mixture", "combines bonuses"),
        ("ideas:mixture(1)", "a number alone"),
        ("rnd(lr='1')", "column 8: \"'1'\" refused"),
        ("rnd(lr=e3b)", "column 8: 'e3b' refused"),
        ("rnd(lr=[1])", "refused"),
        ("rnd(lr=True)", "rnd.lr = True"),
        ("rnd(lr=1, lr=2)", "written twice"),
        ("rnd(**{})", "unknown rnd parameter"),
        ("rnd(lr=1e999)", "not a finite number"),
        ("1e200 * 1e200 * rnd", "not a finite number"),
        ("ideas:surprise(depth=2.5)", "surprise.depth = 2.5: expected a whole number"),
        ("rnd.lr", "refused"),
        ("rnd[0]", "refused"),
        ("lambda: rnd", "refused"),
        ("rnd if True else e3b", "refused"),
        ("[rnd for rnd in e3b]", "refused"),
        ("(x := rnd)", "refused"),
        ("rnd and e3b", "refused"),
        ("True * rnd", "not a bonus"),
        ("'rnd'", "refused"),
        ("f'{rnd}'", "refused"),
        ("__import__('os').system('true')", "refused"),
        ("rnd()()", "refused"),
        ("rnd # e3b", "without '#'"),
        ("rnd é", "printable ASCII"),
        ("", "invalid syntax"),
        ("rnd(", "never closed"),
        ("(" * 400 + "rnd" + ")" * 400, "nested"),
        ("rnd + " * 400 + "rnd", "1000 characters"),
        ("rnd + ideas:rnd", "rename one"),
    ],
)
def test_everything_else_is_refused_with_its_place(text, sentence):
    with pytest.raises(UserError, match=sentence):
        parse(text)


def test_a_python_function_is_named_bare_unless_the_catalogue_has_the_name():
    def own(scale=1.0): ...

    def rnd(scale=1.0): ...

    tree = parse("own(scale=3) * count", {"here:own": own})
    assert terms(tree)[0] == Call("here:own", "own", {"scale": 3.0})
    with pytest.raises(UserError, match="the catalogue has this name too: write 'here:rnd'"):
        parse("rnd", {"here:rnd": rnd})
    assert parse("here:rnd", {"here:rnd": rnd}).reference == "here:rnd"


_LEAVES = st.sampled_from(["rnd", "e3b", "count", "rnd(lr=1e-3)", "ideas:surprise(depth=3, scale=2)", "ideas:surprise"])
_EXPRESSIONS = st.recursive(
    _LEAVES,
    lambda inner: (
        st.builds("({} + {})".format, inner, inner)
        | st.builds("{} * {}".format, inner, inner)
        | st.builds("{!r} * {}".format, st.floats(-10, 10, width=32).filter(lambda x: x == 0 or abs(x) > 1e-9), inner)
        | st.builds("ideas:mixture({}, {}, temperature=2)".format, inner, inner)
    ),
    max_leaves=6,
)


@given(_EXPRESSIONS)
def test_canonical_text_parses_back_to_the_same_tree(text):
    tree = parse(text)
    assert parse(canonical(tree)) == tree
    assert canonical(parse(canonical(tree))) == canonical(tree)


def test_build_gives_each_factory_what_it_asks_for():
    calls = []

    def own(actions, scale=1.0, gain=2.0, *, hidden=(8,), depth=1):
        calls.append((actions, scale, gain, hidden, depth))
        return _constant(scale)

    objects = {"here:own": own}
    values = {"own.gain": 7.0, "own.hidden": (3,), "own.scale": 100.0, "rnd.lr": 0.1}
    reward = build(parse("0.5 * own(scale=3) + own * own", objects), values, objects, actions="the actions", other=1)
    assert calls == [("the actions", 3.0, 7.0, (3,), 1)] + 2 * [("the actions", 100.0, 7.0, (3,), 1)]
    state, memory = reward.init(_key(), None)
    _, bonus, _ = reward.label(state, memory, None)
    assert float(bonus) == 0.5 * 3.0 + 100.0 * 100.0
    with pytest.raises(UserError, match="asks for 'actions'"):
        build(parse("own", objects), {}, objects)


def _key():
    import jax

    return jax.random.key(0)


def _constant(value):
    import jax.numpy as jnp

    from jaxrl.types import IntrinsicReward

    return IntrinsicReward(
        lambda key, example: ((), ()),
        lambda state, memory, batch: (memory, jnp.float32(value), ()),
        lambda key, state, memory, batch, trace: (state, {}),
    )


def test_a_wrong_keyword_is_refused_without_importing_jax():
    code = (
        "import sys\n"
        "from jaxrl.errors import UserError\n"
        "from jaxrl.intrinsic.expression import parse\n"
        "parse('rnd(lr=1) + 0.5 * e3b * ideas:surprise')\n"
        "try:\n    parse('rnd(lrr=1) + 0.5 * e3b * ideas:surprise')\n"
        "except UserError as error:\n    print(error)\n"
        "print(sorted({'jax', 'gymnax', 'brax', 'numpy', 'ideas'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(jaxrl.errors.__file__).parents[1])}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert time.perf_counter() - start < 3
    sentence, imported = done.stdout.strip().split("\n")
    assert "did you mean 'lr'" in sentence
    assert imported == "[]"


def test_a_word_may_be_a_keyword_s_value_where_its_default_is_one():
    tree = parse("rnd(torso=conv)")
    assert tree.keywords == {"torso": "conv"}
    assert canonical(tree) == "rnd(torso=conv)"
    assert parse(canonical(tree)) == tree
    with pytest.raises(UserError, match="'conv' refused: only a number"):
        parse("rnd(lr=conv)")
