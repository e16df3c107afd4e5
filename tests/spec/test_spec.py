"""Specs: every mistake is a sentence; fields become programs and values."""

import math
from pathlib import Path

import pytest

from jaxrl.errors import UserError
from jaxrl.metrics import METRICS
from jaxrl.results.layout import LANE_COLUMNS, METRIC_COLUMNS, PROVENANCE, STOPPED_AT
from jaxrl.spec.fields import COLUMNS, CONFIG, iterations
from jaxrl.spec.settings import references, settings
from jaxrl.spec.spec import load_toml, spec
from jaxrl.spec.tables import parse_seeds

AGENT = """
from jaxrl.envs.wrappers import Wrapper
from jaxrl.types import Agent, IntrinsicReward
def agent(streams, lr=1e-3, *, actions, minibatches=4, hidden=(64, 64)) -> Agent: ...
def surprise(scale=1.0, *, depth=2) -> IntrinsicReward: ...
def flat() -> IntrinsicReward: ...
def params(scale=1.0) -> IntrinsicReward: ...
def slower(env, factor=2.0, *, times=1) -> Wrapper: ...
class Maze:
    def reset(self, key, params): ...
    def step(self, key, state, action, params): ...
"""


@pytest.fixture(autouse=True)
def parts(tmp_path, monkeypatch):
    (tmp_path / "parts.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)


def small(grid=(), **fields):
    defaults = {"agent": "parts:agent", "bonus": "parts:surprise", "steps": 20_480}
    return spec(grid=dict(grid), **{key: value for key, value in defaults.items() if key not in grid} | fields)


def only(made):
    ((program, (values,)),) = settings(made)
    return program, values


def test_a_program_holds_every_static_field_and_values_every_traced_one():
    program, values = only(small(**{"surprise.scale": 2, "hidden": [8], "coef": "0.5"}))
    assert values == {"lr": 1e-3, "surprise.scale": 2.0, "coef": 0.5, "discount": 0.99, "bonus_discount": 0.99}
    assert program["bonus"] == "parts:surprise" and program["surprise.depth"] == 2
    assert program["hidden"] == (8,) and program["minibatches"] == 4
    assert set(program) | set(values) == set(CONFIG) | {
        "lr",
        "minibatches",
        "hidden",
        "surprise.scale",
        "surprise.depth",
    }
    assert iterations(program) == 20
    assert (program["num_envs"], program["env"], values["coef"]) == (16, "DeepSea-bsuite", 0.5)


def test_what_the_expression_writes_is_no_field():
    program, values = only(small(bonus="parts:surprise(scale=3)"))
    assert "surprise.scale" not in values and program["bonus"] == "parts:surprise(scale=3.0)"
    with pytest.raises(UserError, match="'surprise.scale' is given twice"):
        small(bonus="parts:surprise(scale=3)", **{"surprise.scale": 1})


def test_a_field_that_a_program_lacks_is_left_out_of_it():
    made = small(grid={"bonus": ["parts:flat", "parts:surprise"], "surprise.scale": [1, 2], "surprise.depth": [1, 2]})
    found = [(program["bonus"], program.get("surprise.depth"), len(values)) for program, values in settings(made)]
    assert found == [("parts:flat", None, 1), ("parts:surprise", 1, 2), ("parts:surprise", 2, 2)]


def test_env_args_by_table_or_by_dotted_name():
    assert only(small(env_args={"size": 8}))[0]["env_args"] == {"size": 8}
    made = small(env_args={"size": 8}, grid={"env_args.size": [4, 6]})
    assert [program["env_args"] for program, _ in settings(made)] == [{"size": 4}, {"size": 6}]
    with pytest.raises(UserError, match="env_args.size = nan"):
        small(env_args={"size": math.nan})


def test_params_of_the_environment_are_values():
    made = small(**{"params.slip": 0.1, "params.wet": True}, grid={"params.goal": [3, 7]}, env="probe/chain")
    ((program, all_values),) = settings(made)
    assert [values["params.goal"] for values in all_values] == [3.0, 7.0]
    assert all(values["params.slip"] == 0.1 and values["params.wet"] == 1.0 for values in all_values)
    assert not any(name.startswith("params") for name in program)
    assert not any(name.startswith("params") for name in only(small())[1])


def test_wrappers_have_one_spelling_and_may_be_swept():
    program, _ = only(small(wrap=[" sticky_actions( probability=.1)", "noisy_tv(when='always', size=2)"]))
    assert program["wrap"] == ("sticky_actions(probability=0.1)", "noisy_tv(size=2, when=always)")
    assert only(small())[0]["wrap"] == ()
    made = small(grid={"wrap": [[], ["frame_stack"]]})
    assert [program["wrap"] for program, _ in settings(made)] == [(), ("frame_stack",)]


def test_own_wrappers_by_reference_and_from_python():
    program, _ = only(small(wrap=["parts:slower(factor=3)", "sticky_actions"]))
    assert program["wrap"] == ("parts:slower(factor=3.0)", "sticky_actions")
    assert references(program, {}) == ["parts:agent", "parts:slower", "parts:surprise"]

    def faster(env, factor=2.0): ...

    made = small(wrap=[faster, "faster(factor=4)"])
    program, _ = only(made)
    reference = f"{__name__}:faster"
    assert program["wrap"] == (reference, f"{reference}(factor=4.0)") and made.objects[reference] is faster
    assert reference in references(program, made.objects)
    with pytest.raises(UserError, match="unknown slower parameter 'factr': did you mean 'factor'"):
        small(wrap=["parts:slower(factr=3)"])


@pytest.mark.parametrize("idle", ["bonus_discount", "bonus_episodic"])
def test_what_a_sum_has_no_use_for_makes_no_lanes(idle):
    values = {"bonus_discount": [0.9, 0.99], "bonus_episodic": [True, False]}[idle]
    made = small(grid={"streams": ["split", "sum"], idle: values})
    lanes = {"split": 0, "sum": 0}
    for program, all_values in settings(made):
        lanes[program["streams"]] += len(all_values)
        assert (idle in {**program, **all_values[0]}) == (program["streams"] == "split")
    assert lanes == {"split": 2, "sum": 1}


@pytest.mark.parametrize("idle", ["coef", "streams", "bonus_discount", "bonus_episodic", "warmup"])
def test_what_no_bonus_has_no_use_for_makes_no_lanes(idle):
    values = {"streams": ["split", "sum"], "bonus_episodic": [True, False], "warmup": [1, 2]}.get(idle, [0.5, 1])
    made = small(grid={"bonus": ["none", "parts:surprise"], idle: values})
    found = {(program["bonus"], str(program), str(point)) for program, points in settings(made) for point in points}
    assert sorted(bonus for bonus, *_ in found) == ["none", "parts:surprise", "parts:surprise"]


def test_an_agents_own_parameter_stays_whatever_the_bonus():
    (Path.cwd() / "parts.py").write_text(AGENT.replace("lr=1e-3", "lr=1e-3, coef=0.5"))
    assert only(small(bonus="none"))[1]["coef"] == 1.0  # the run's field of that name, as with a bonus


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"bonsu": "rnd"}, "unknown field 'bonsu': did you mean 'bonus'"),
        ({"surprise.scal": 1}, "did you mean 'surprise.scale'"),
        ({"grid": {"lrr": [1]}}, "unknown field 'lrr': did you mean 'lr'"),
        ({"agent": "pppo"}, "unknown agent 'pppo': did you mean 'ppo'"),
        ({"env": "DeepSea-bsuit"}, "unknown environment 'DeepSea-bsuit': did you mean 'DeepSea-bsuite'"),
        ({"env": "parts:Mase"}, "did you mean 'Maze'"),
        ({"bonus": "parts:surprize"}, "did you mean 'surprise'"),
        ({"bonus": 3}, "bonus = 3"),
        ({"streams": "splitt"}, "did you mean 'split'"),
        ({"discount": 1.5}, r"discount = 1.5: must be in \[0, 1\]"),
        ({"discount": math.nan}, "discount = nan: expected a finite number"),
        ({"coef": "abc"}, "coef = 'abc': expected a finite number"),
        ({"num_envs": 0}, "num_envs = 0: must be at least 1"),
        ({"coef": 1e39}, "coef = 1e[+]39: numbers are float32: must be 0, or between 1.175e-38 and 3.403e[+]38 in"),
        ({"lr": 1e-46}, "lr = 1e-46: numbers are float32: must be 0, or between"),
        ({"grid": {"rnd.lr": [1e-3, 1e-39]}, "bonus": "rnd"}, "rnd.lr = 1e-39: numbers are float32"),
        ({"optuna": {"trials": 4, "coef": {"low": 1e-50, "high": 1.0, "log": True}}}, "coef = 1e-50: numbers are"),
        ({"bonus": "rnd(lr=1e-46)"}, "rnd.lr = 1e-46: numbers are float32"),
        ({"bonus": "ngu(epsilon=1e39)"}, "ngu.epsilon = 1e[+]39: numbers are float32"),
        ({"bonus": "1e39 * rnd"}, "factor of bonus '1e39 [*] rnd' = 1e[+]39: numbers are float32"),
        ({"params.mdp_seed": 16_777_217}, "params.mdp_seed = 16777217: numbers are float32, which has whole ones"),
        ({"steps": 1e300}, "steps = 1e[+]300: must be at most 9,007,199,254,740,992"),
        ({"steps": 2**53 + 2}, "steps = 9.0072e[+]15: must be at most 9,007,199,254,740,992"),
        ({"steps": 2**53}, "steps = 9,007,199,254,740,992: must be at most 16,777,216 iterations of num_envs [*] "
         "num_steps = 1,024, after which no batch moves a running mean: raise num_envs or num_steps, or lower steps"),
        ({"num_envs": 2**24, "num_steps": 2**8, "steps": 2**40}, "num_envs [*] num_steps = 4,294,967,296: "
         "must be at most 2,147,483,647: lower one of them"),
        ({"num_envs": 1.5}, "num_envs = 1.5: expected a whole number"),
        ({"steps": None}, "steps = None"),
        ({"steps": 1000}, "steps = 1000: must be at least num_envs [*] num_steps = 1024"),
        ({"minibatches": 3}, "minibatches = 3: must divide num_envs [*] num_steps = 1024"),
        ({"grid": {"minibatches": [4, 3]}}, "minibatches = 3: must divide"),
        ({"grid": {"discount": [0.9, -1]}}, "discount = -1.0"),
        ({"lr": -1}, "lr = -1.0: must be at least 0"),
        ({"hidden": 3}, "hidden = 3: expected a list"),
        ({"normalize_reward": 1}, "normalize_reward = 1: expected True or False"),
        ({"grid": {"coef": []}}, "at least one value"),
        ({"grid": {"coef": 1}}, "'coef' = 1: expected a list"),
        ({"coef": 1, "grid": {"coef": [1]}}, "given twice"),
        ({"seeds": 0}, "seeds = 0"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [2**32]}, "seeds"),
        ({"seeds": "0-8"}, "seeds = '0-8'"),
        ({"seeds": True}, "seeds = True"),
        ({"bonus": lambda: 1}, "lambda"),
        ({"env": object()}, "neither a function nor a class"),
        ({"grid": {"coef": range(2000), "lr": range(2000)}}, "more than 1,000,000"),
        ({"hidden": (8, 0)}, r"hidden = \(8, 0\): must be at least 1"),
        ({"bonus": "rnd(hidden=(0,))"}, r"rnd.hidden = \(0,\): must be at least 1"),
        ({"bonus": "rnd(deeper=(0,))"}, r"rnd.deeper = \(0,\): must be at least 1"),
        ({"bonus": "e3b(dim=0)"}, "e3b.dim = 0: must be at least 1"),
        ({"bonus": "rnd", "rnd.hidden": [0]}, r"rnd.hidden = \(0,\)"),
        ({"wrap": "sticky_actions"}, "wrap = 'sticky_actions': expected a list of wrappers"),
        ({"wrap": ["sticky_action"]}, "unknown wrapper 'sticky_action': did you mean 'sticky_actions'"),
        ({"wrap": ["sticky_actions(probability=2)"]}, r"sticky_actions.probability = 2.0: must be in \[0, 1\]"),
        ({"wrap": ["frame_stack"], "grid": {"wrap": [[]]}}, "given twice"),
        ({"params.goal": "far"}, "params.goal = 'far': expected a finite number"),
        ({"params.": 1}, "write 'params.NAME'"),
        ({"params": {"goal": 1}}, "write 'params.NAME'"),
        ({"wrap": ["sticky_actions"], "params.probability": 2}, r"params.probability = 2.0: must be in \[0, 1\]"),
        ({"wrap": ["context_seeding"], "grid": {"params.contexts": [1, 2.5]}}, "params.contexts = 2.5: must be"),
        (
            {"wrap": ["sticky_actions(probability=0.1)"], "params.probability": 0.2},
            "'params.probability' is given twice, by itself and inside the wrapper 'sticky_actions'",
        ),
        ({"bonus": "parts:params"}, "rename 'params'"),
    ],
)
def test_a_mistake_is_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        small(**fields)


def test_numbers_may_be_words():
    program, values = only(small(steps="20480.0", lr="1e-2"))
    assert program["steps"] == 20480 and values["lr"] == 0.01


def test_seeds():
    assert parse_seeds(3) == parse_seeds("3") == parse_seeds("0:3") == parse_seeds([0, 1, 2, 2]) == (0, 1, 2)


def test_python_objects_are_named_by_reference_and_kept():
    class World: ...

    def novelty(scale=1.0): ...

    made = small(env=World, bonus="novelty * parts:surprise", own=[novelty])
    program, values = only(made)
    assert program["env"] == f"{__name__}:World" and made.objects[program["env"]] is World
    assert program["bonus"] == f"{__name__}:novelty * parts:surprise"
    assert values["novelty.scale"] == 1.0
    assert references(program, made.objects) == sorted(
        [f"{__name__}:World", f"{__name__}:novelty", "parts:agent", "parts:surprise"]
    )

    def other():
        def novelty(scale=2.0): ...

        return novelty

    with pytest.raises(UserError, match="two different objects"):
        small(bonus=other(), own=[novelty])
    direct = small(grid={"bonus": ["none", novelty]})
    assert [program["bonus"] for program, _ in settings(direct)] == ["none", f"{__name__}:novelty"]


def test_toml_reads_as_python_does(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        'name = "trial"\nseeds = "0:4"\n[fixed]\nagent = "parts:agent"\nsteps = 20480\n'
        "surprise.depth = 3\nenv_args = {size = 8}\n"
        '[grid]\nbonus = ["parts:flat", "parts:surprise"]\n"surprise.scale" = [1, "1e-2"]\n'
    )
    made = load_toml(path)
    assert (made.name, made.seeds) == ("trial", (0, 1, 2, 3))
    same = spec(
        agent="parts:agent",
        steps=20480,
        env_args={"size": 8},
        grid={"surprise.scale": [1.0, 0.01], "bonus": ["parts:flat", "parts:surprise"]},
        **{"surprise.depth": 3},
    )
    assert list(settings(made)) == list(settings(same))
    assert [values for _, values in settings(made)][1][1]["surprise.scale"] == 0.01


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[fixd]\ncoef = 1", "entry 'fixd': did you mean 'fixed'"),
        ("[fixed]\nbonsu = 'rnd'", "did you mean 'bonus'"),
        ("[fixed]\nseeds = 8", "'seeds' is not a field"),
        ("grid = 3", "'grid' must be a table"),
        ("[fixed\n", "sweep.toml' cannot be read"),
        ("[fixed]\ncoef = nan", "coef = nan"),
        ("[fixed]\nenv_args.start = 2020-01-01", "env_args.start"),
    ],
)
def test_a_mistake_in_toml_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_toml(tmp_path / "sweep.toml")
    with pytest.raises(UserError, match="absent.toml' cannot be read"):
        load_toml(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "name",
    ["../escape", "/tmp/escape", "a/b", "a\\b", "..", ".", "", ".hidden", " a", "a ", "a\nb", "a\0b", "a\x1b[31m",
     "\ud800", "x" * 101, "\u00e9" * 51, 3, None, ["a"]],
    ids=ascii,
)  # fmt: skip
def test_a_name_is_a_plain_directory_name(name):
    with pytest.raises(UserError, match="name = .*: expected a plain name for a directory") as refused:
        small(name=name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["noise", "two words", "Gr\u00f6\u00dfe-1.5", "x" * 100, "a..b"])
def test_other_names_are_taken_as_they_are(name):
    assert small(name=name).name == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = " + "[" * 3000, "tables and lists are at most 16 deep"),
        ("[fixed.env_args]\nx = " + "[" * 20 + "]" * 20, "fixed: tables and lists are at most 16 deep"),
        ("[fixed." + "a." * 3000 + "b]", "tables and lists are at most 16 deep"),
        ("[fixed]\nsteps = " + "9" * 5000, "a number in it has thousands of digits"),
        ("[fixed]\nsteps = " + "9" * 4000, r"spec.toml: fixed.steps: a whole number of 13288 bits; at most 64"),
        ("[grid]\nsteps = [1, " + "9" * 30 + "]", r"grid.steps: a whole number of 100 bits"),
        ("seeds = " + "9" * 25, "seeds: a whole number of 84 bits"),
        ('[fixed.env_args]\nword = "a\\u0000b"', "fixed.env_args.word = 'a.x00b': text cannot hold a NUL"),
        ('[fixed.env_args]\n"a\\u0000b" = 1', "a key of .*fixed.env_args = 'a.x00b': text cannot hold a NUL"),
        ('[fixed]\nbonus = "' + "rnd + " * 900 + 'rnd"', "of at most 1000 characters"),
        ('[fixed]\ncoef = "' + "x" * 3000 + '"', r"coef = 'x{199}\.\.\.: expected a finite number"),
        ('[random]\nn = 2\nbonus = ["none", "count"]', r"random field 'bonus' = .*written \{choices = \[...\]\}"),
        ('[optuna]\ntrials = 2\ncoef = [0.1, 1.0]', r"optuna field 'coef' = .*written \{choices = \[...\]\}"),
    ],
    ids=lambda text: text[:30],
)
def test_what_no_file_of_results_could_hold_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(UserError, match=sentence) as refused:
        load_toml("spec.toml")
    assert len(str(refused.value)) < 1500 and "\n" not in str(refused.value)


def test_the_same_from_python():
    for fields, sentence in (
        ({"env_args": {"x": "\ud800"}}, "half of a character"),
        ({"env_args.\ud800": 1}, "a field = .*half of a character"),
        ({"env_args.x": 10**5000}, "a whole number of 16610 bits"),
        ({"grid": {"env_args.x": [[[[1]]], "a\0"]}}, "cannot hold a NUL"),
    ):
        with pytest.raises(UserError, match=sentence):
            small(**fields)
    nested: list = []
    nested.append(nested)
    with pytest.raises(UserError, match="env_args.x: tables and lists are at most 16 deep"):
        small(**{"env_args.x": nested})
    with pytest.raises(UserError, match="seeds = .*: expected a count"):
        small(seeds=10**5000)


def test_a_mark_of_byte_order_is_no_part_of_a_spec(tmp_path):
    (tmp_path / "spec.toml").write_bytes(b"\xef\xbb\xbfname = 'windows'\r\nseeds = 2\r\n[fixed]\r\nsteps = 20480\r\n")
    assert load_toml("spec.toml").name == "windows"


@pytest.mark.parametrize("word", ["return", "seed", "lane", "status", "step", "code", "coverage", "final_x"])
def test_a_field_is_not_called_as_a_column_of_the_results(tmp_path, word):
    name = {"return": "return_"}.get(word, word)  # no Python parameter can have that name
    (tmp_path / "clash.py").write_text(f"from jaxrl.types import Agent\ndef agent(*, {name}=1) -> Agent: ...\n")
    if name == word:
        with pytest.raises(UserError, match=f"'clash:agent' has a parameter '{word}', as a column of the results"):
            small(agent="clash:agent")
    others = {"code", "budget", "point", STOPPED_AT}
    assert {*LANE_COLUMNS, *METRIC_COLUMNS, *PROVENANCE, *others, *METRICS} == COLUMNS


def test_a_bonus_is_not_called_as_a_final_metric(tmp_path):
    text = "from jaxrl.types import IntrinsicReward\ndef final_x(a=1.0) -> IntrinsicReward: ...\n"
    (tmp_path / "last.py").write_text(text)
    with pytest.raises(UserError, match="rename 'final_x'"):
        small(bonus="last:final_x")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("learning_rate", "lr"), ("gamma", "discount"), ("n_envs", "num_envs"), ("surprise.learning_rate", "surprise.lr"),
     ("total_timesteps", "steps"), ("minibatch", "minibatches"), ("bonsu", "bonus")],
)  # fmt: skip
def test_fields_of_other_libraries_are_understood(tmp_path, typed, meant):
    (tmp_path / "parts.py").write_text(AGENT.replace("surprise(scale=1.0", "surprise(scale=1.0, lr=1.0"))
    with pytest.raises(UserError, match=f"unknown field '{typed}': did you mean '{meant}'\\?"):
        small(**{typed: 1})


def test_seeds_may_be_written_as_a_list():
    assert parse_seeds("1,2,3") == (1, 2, 3) and parse_seeds("7, 5,7") == (7, 5)
    for text in ("1,x", "1,,2", "-1,2", "0:99999999999999999999", "9" * 30, "1:2,3"):
        with pytest.raises(UserError, match="expected a count, 'start:stop' or a list"):
            parse_seeds(text)


def test_a_name_that_begins_so_is_nearer_than_one_that_contains_it():
    with pytest.raises(UserError, match="did you mean 'Breakout-MinAtar'"):
        small(env="Breakout")
