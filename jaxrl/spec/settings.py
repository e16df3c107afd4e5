"""What a spec stands for: the programs of its points, and the values that their lanes take. No jax here.

The points are the product of the spec's axes. An axis is a table of columns that advance together: a field of the grid
alone, all of [zip], all of [random].
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jaxrl.agents
import jaxrl.envs
import jaxrl.envs.wrappers
import jaxrl.intrinsic
import jaxrl.trainers
from jaxrl.errors import UserError, quoted
from jaxrl.intrinsic.expression import Call, Tree, canonical, parse, terms
from jaxrl.references import check
from jaxrl.signatures import coerce, is_literal, signature
from jaxrl.spec.draws import Search
from jaxrl.spec.fields import (
    CONFIG,
    MOST_AT_ONCE,
    MOST_ITERATIONS,
    PARAMS,
    STRUCTURAL,
    Field,
    checked,
    iterations,
    schema,
    trainer_signature,
)
from jaxrl.spec.halving import Halving
from jaxrl.spec.tables import MAX_COMBINATIONS


class Spec(NamedTuple):
    name: str
    seeds: tuple[int, ...]
    fixed: dict[str, Any]
    grid: dict[str, tuple]  # every combination of these
    zip: dict[str, tuple]  # columns of one length, which advance together
    random: dict[str, tuple]  # the same, drawn
    optuna: Search | None  # a spec with a search has no other points
    objects: dict[str, Callable]  # Python environments, bonuses, ... by reference, outside of what is hashed
    halving: Halving | None = None  # which points are stopped early


def settings(spec: Spec) -> Iterator[tuple[dict[str, Any], list[dict[str, float]]]]:
    """Each program of a spec with the values that its lanes take, in an order that no order of keys can change.

    A swept field that a program does not have (``rnd.lr`` where the bonus is `none`) is left out of it.
    """
    if spec.optuna:
        raise UserError("the points of an [optuna] spec are chosen as it runs: run it with jaxrl.sweep.tune")
    all_axes = axes(spec)
    if math.prod(len(next(iter(axis.values()))) for axis in all_axes) > MAX_COMBINATIONS:
        raise UserError(f"the spec has more than {MAX_COMBINATIONS:,} combinations")
    structural = [axis for axis in all_axes if any(map(_is_structural, axis))]
    swept = {key for axis in all_axes for key in axis}
    for structure in _combinations(structural):
        chosen = {**spec.fixed, **structure}
        bonus = parse(coerce("bonus", chosen.get("bonus", CONFIG["bonus"].default), ""), spec.objects)
        agent = coerce("agent", chosen.get("agent", CONFIG["agent"].default), "")
        trainer = coerce("trainer", chosen.get("trainer", CONFIG["trainer"].default), "")
        env = _checked_env(coerce("env", chosen.get("env", CONFIG["env"].default), ""), spec.objects)
        calls = _wrappers(chosen.get("wrap", ()), spec.objects)
        streams = checked("streams", chosen.get("streams", CONFIG["streams"].default), CONFIG["streams"])
        resolved = {
            "env": env,
            "env_args": _env_args(chosen),
            "wrap": tuple(map(jaxrl.envs.wrappers.text_of, calls)),
            "bonus": canonical(bonus),
            "agent": agent,
            "trainer": trainer,
        }
        _check_bonus(trainer, bonus, spec.objects)
        fields = schema(agent, bonus, streams, trainer, spec.objects)
        fields |= {key: Field(0.0, traced=True) for key in (*spec.fixed, *swept) if key.startswith(PARAMS)}
        if "streams" in fields:
            resolved["streams"] = streams
        fields = {key: field for key, field in fields.items() if key not in resolved}
        setting = {key: checked(key, chosen.get(key, field.default), field) for key, field in fields.items()}
        here = [
            {key: [checked(key, value, fields[key]) for value in axis[key]] for key in axis if key in fields}
            for axis in all_axes
            if axis not in structural
        ]
        columns = {key: values for axis in here for key, values in axis.items()}
        for key in fields.keys() & {*chosen, *columns}:
            if key.startswith(PARAMS):
                _check_param(key, columns.get(key) or [setting[key]], calls, spec.objects)
        of_lanes = [axis for axis in here if all(fields[key].traced for key in axis)]
        points = list(_combinations(of_lanes))
        for point in _combinations([axis for axis in here if axis not in of_lanes]):
            whole = {**setting, **point}
            program = {**resolved, **{key: value for key, value in whole.items() if not fields[key].traced}}
            _check_together(program)
            values = {key: value for key, value in whole.items() if fields[key].traced}
            yield program, [{**values, **point} for point in points]


def axes(spec: Spec) -> list[dict[str, tuple]]:
    """The tables of columns that advance together, each on its own."""
    return [*({key: values} for key, values in spec.grid.items()), *filter(None, (spec.zip, spec.random))]


def references(program: Mapping[str, Any], objects: Mapping[str, Callable]) -> list[str]:
    """The user's own code that a program runs, sorted."""
    calls = [*terms(parse(program["bonus"], objects)), *_wrappers(program["wrap"], objects)]
    named = [program["env"], program["agent"], program["trainer"], *(call.reference for call in calls)]
    return sorted({name for name in named if ":" in name} - catalogued())


def catalogued() -> set[str]:
    """The references behind the names of every catalogue."""
    catalogues = (jaxrl.agents, jaxrl.intrinsic, jaxrl.trainers, jaxrl.envs.wrappers)
    return {reference for module in catalogues for reference in module.CATALOGUE.values()}


def _combinations(axes: Iterable[Mapping[str, Sequence]]) -> Iterator[dict[str, Any]]:
    """Every choice of one row of each axis, as one dict; an axis without columns counts as absent."""
    rows = [
        [dict(zip(axis, row, strict=True)) for row in zip(*axis.values(), strict=True)]
        for axis in sorted(filter(None, axes), key=sorted)
    ]
    for parts in itertools.product(*rows):
        yield {key: value for part in parts for key, value in part.items()}


def _is_structural(key: str) -> bool:
    return key.partition(".")[0] in STRUCTURAL


def _check_bonus(trainer: str, bonus: Tree, objects: Mapping[str, Callable]) -> None:
    """Refuses a bonus that the trainer would not pay, and none where the bonus is what it explores by."""
    loop, none = trainer_signature(trainer, objects), bonus == parse("none")
    if "reward" not in loop.supplied and not none:
        raise UserError(f"trainer {trainer!r} pays rewards of its own: bonus must be 'none', not {canonical(bonus)!r}")
    if "reward" in loop.supplied and "combine" not in loop.supplied and none:
        raise UserError(f"trainer {trainer!r} explores by its bonus alone: name one, as in bonus = 'forward_error'")


def _check_together(program: Mapping[str, Any]) -> None:
    batch = program["num_envs"] * program["num_steps"]
    if program["steps"] < batch:
        raise UserError(f"steps = {program['steps']}: must be at least num_envs * num_steps = {batch}, one iteration")
    if batch > MOST_AT_ONCE:
        raise UserError(f"num_envs * num_steps = {batch:,}: must be at most {MOST_AT_ONCE:,}: lower one of them")
    if iterations(program) > MOST_ITERATIONS:
        raise UserError(
            f"steps = {program['steps']:,}: must be at most {MOST_ITERATIONS:,} iterations of num_envs * num_steps = "
            f"{batch:,}, after which no batch moves a running mean: raise num_envs or num_steps, or lower steps"
        )
    for name, value in program.items():
        if name.rpartition(".")[2] == "minibatches" and batch % value:
            raise UserError(f"{name} = {value}: must divide num_envs * num_steps = {batch}")
        if name.rpartition(".")[2] == "buckets" and value & (value - 1):
            raise UserError(f"{name} = {value}: must be a power of two")


def _env_args(chosen: Mapping[str, Any]) -> dict[str, Any]:
    arguments = chosen.get("env_args", {})
    if not isinstance(arguments, Mapping):
        raise UserError(f"env_args = {quoted(arguments)}: expected a table of NAME = VALUE")
    dotted = {key.partition(".")[2]: value for key, value in chosen.items() if key.startswith("env_args.")}
    for key, value in {**arguments, **dotted}.items():
        if not is_literal(value):
            expected = "expected a number, a word, True or False, or a list of those"
            raise UserError(f"env_args.{key} = {quoted(value)}: {expected}")
    return dict(sorted({**arguments, **dotted}.items()))


def _wrappers(wrap: Any, objects: Mapping[str, Callable]) -> list[Call]:
    if not isinstance(wrap, (tuple, list)) or not all(isinstance(entry, str) for entry in wrap):
        example = "['sticky_actions(probability=0.1)']"
        raise UserError(f"wrap = {quoted(wrap)}: expected a list of wrappers, as in {example}")
    return [jaxrl.envs.wrappers.read(entry, objects) for entry in wrap]


def _check_param(key: str, values: Iterable[float], calls: Sequence[Call], objects: Mapping[str, Callable]) -> None:
    """Refuses numbers that the wrapper meant by ``params.NAME`` cannot take, where it is one of the catalogue."""
    name = key.removeprefix(PARAMS)
    owners = [call for call in calls if name in signature(objects.get(call.reference, call.reference)).swept]
    if owners and name in owners[-1].keywords:
        raise UserError(f"field {key!r} is given twice, by itself and inside the wrapper {owners[-1].name!r}")
    if owners and owners[-1].reference in jaxrl.envs.wrappers.CATALOGUE.values():
        for value in values:
            jaxrl.envs.wrappers.check_value(key, name, value)


def _checked_env(env: str, objects: Mapping[str, Callable]) -> str:
    if env not in objects:
        jaxrl.envs.check_name(env)
        if ":" in env:
            check("environment", env)
    return env
