"""Specs: what is fixed, what is swept or searched, and the seeds, from Python or TOML. No jax here.

    [fixed]   one value each                                  coef = 0.1
    [grid]    every combination of lists                      lr = [1e-3, 1e-4]
    [zip]     lists of one length that advance together       lr = [1e-3, 1e-4]   coef = [0.1, 1.0]
    [random]  n points, drawn from distributions              n = 20              coef = { low = 0.0, high = 1.0 }
    [optuna]  trials, chosen from distributions by a search   trials = 64         coef = { low = 0.0, high = 1.0 }
    [halving] points that are beaten stop early               eta = 3             first = 0.1

A spec's points are the product of the grid, the rows of [zip] and the draws of [random]; a search is made of its own
trials alone. A distribution is `{ low, high }`, with `log = true` or a `step`, or `{ choices = [...] }`. Fields whose
defaults are whole numbers get whole numbers; so do `env_args.NAME` and `params.NAME` between bounds written whole.
"""

import itertools
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jaxrl.intrinsic
import jaxrl.spec.halving as early
from jaxrl.errors import UserError, quoted, unknown
from jaxrl.intrinsic.expression import parse, terms
from jaxrl.signatures import coerce, identity, is_literal, signature
from jaxrl.spec.draws import Distribution, Search, draw, extremes, read, settled
from jaxrl.spec.fields import CONFIG, PARAMS, STRUCTURAL, Field, checked, parameter_fields, schema
from jaxrl.spec.halving import EVALUATED
from jaxrl.spec.settings import Spec, axes, settings
from jaxrl.spec.tables import MAX_DEPTH, OPTIONS, TABLES, aligned, check_plain, flat, options, parse_seeds, plain_name


def spec(
    *,
    name: str = "run",
    seeds: int | str | Sequence[int] = 1,
    grid: Mapping[str, Sequence] | None = None,
    zip: Mapping[str, Sequence] | None = None,
    random: Mapping[str, Any] | None = None,
    optuna: Mapping[str, Any] | None = None,
    halving: Mapping[str, Any] | None = None,
    own: Sequence[Callable] = (),
    **fixed: Any,
) -> Spec:
    """A checked spec: `fixed` fields, the tables of a TOML file as dicts, seeds (8, "0:8" or a list).

    `env`, `bonus`, `agent`, `trainer` and the entries of `wrap` may be Python classes or functions; those in `own` may
    be named inside expressions.
    Raises UserError, in one sentence, for an unknown or mistyped field, a value out of bounds or an impossible mixture.
    """
    given = {"grid": grid, "zip": zip, "random": random, "optuna": optuna, "halving": halving}
    for key, value in {**fixed, **given}.items():
        check_plain("a field", key)
        check_plain(key, value)
    objects = {identity(thing): thing for thing in own}
    drawn, draws = options("random", random)
    asked, search = options("optuna", optuna)
    rule = None if halving is None else early.read(halving)
    if rule and optuna is not None:
        raise UserError("[halving] and [optuna] exclude each other: a search is told what its trials end with")
    tables: dict[str, Mapping[str, Any]] = {"fixed": fixed, "grid": grid or {}, "zip": zip or {}}
    tables |= {"random": draws, "optuna": search}
    for (one, first), (other, second) in itertools.combinations(tables.items(), 2):
        for key in first.keys() & second.keys():
            raise UserError(f"field {key!r} is given twice, in [{one}] and in [{other}]")
    if optuna is not None and (swept := [*tables["grid"], *tables["zip"], *draws]):
        raise UserError(
            f"[optuna] chooses every point itself, so {swept[0]!r} cannot be swept beside it: "
            "fix it, or search it as { choices = [...] }"
        )
    made = Spec(
        name=plain_name(name),
        seeds=parse_seeds(seeds),
        fixed={key: _by_reference(key, value, objects) for key, value in fixed.items()},
        grid=_columns("grid", tables["grid"], objects),
        zip=aligned(_columns("zip", tables["zip"], objects)),
        random={},
        optuna=None,
        objects=objects,
    )
    space = {key: _distribution(table, key, tables[table][key], objects)
             for table in ("random", "optuna") for key in tables[table]}  # fmt: skip
    probe = made._replace(random=extremes(space))
    known = _check(probe)
    used = {key for program, points in settings(probe) for key in (*program, *points[0])} if space else set()
    for key, distribution in space.items():
        if key not in used and key.partition(".")[0] not in STRUCTURAL:
            raise UserError(f"field {key!r} changes nothing in any program of this spec: leave it out")
        if not distribution.choices and (field := known.get(key)) and field.default is not None:
            whole = isinstance(field.default, int) and not field.traced
            space[key] = settled(f"{'random' if optuna is None else 'optuna'} field {key!r}", distribution, whole)
    if optuna is not None:
        return made._replace(optuna=_search(made, asked, space))
    if random is not None:
        made = made._replace(random=draw(space, drawn["n"], drawn["seed"]))
        for _ in settings(made):  # what is possible at the bounds may be impossible between them
            pass
    if rule:
        early.check((program for program, _ in settings(made)), rule)
    return made._replace(halving=rule)


def load_toml(path: str | Path) -> Spec:
    """The spec of a TOML file: `name`, `seeds` and the tables; raises UserError naming the file."""
    path = Path(path)
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise UserError(f"spec {str(path)!r} cannot be read: tables and lists are at most {MAX_DEPTH} deep") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"spec {str(path)!r} cannot be read: {error}") from None
    except ValueError:
        raise UserError(f"spec {str(path)!r} cannot be read: a number in it has thousands of digits") from None
    for key, value in entries.items():
        check_plain(f"{path}: {key}", value)
    for key in entries:
        if key not in ("name", "seeds", *TABLES):
            raise unknown(f"{path} entry", key, ("name", "seeds", *TABLES))
    for table in TABLES:
        if not isinstance(entries.get(table, {}), dict):
            raise UserError(f"{path}: {table!r} must be a table, written [{table}]")
    tables: dict[str, Any] = {key: entries[key] for key in TABLES if key in entries}
    tables |= {key: flat(table) for key, table in tables.items() if key not in OPTIONS}
    for key in ("name", "seeds", "own", *TABLES):
        if any(key in table for table in tables.values()):
            raise UserError(f"{path}: {key!r} is not a field of a run; name and seeds stand above the tables")
    fixed = tables.pop("fixed", {})
    return spec(name=entries.get("name", path.stem), seeds=entries.get("seeds", 1), **tables, **fixed)


def _check(spec: Spec) -> dict[str, Field]:
    """Resolves everything once, and refuses a key that no program of the spec has; returns the fields that any has."""
    known: dict[str, Field] = dict(CONFIG)
    called: set[str] = set()
    written: set[str] = set()
    given = {key: (value,) for key, value in spec.fixed.items()}
    given |= {key: values for axis in axes(spec) for key, values in axis.items()}
    bonuses, agents, trainers = (
        dict.fromkeys(coerce(key, value, "") for value in given.get(key, (CONFIG[key].default,)))
        for key in ("bonus", "agent", "trainer")
    )
    for bonus in bonuses:
        tree = parse(bonus, spec.objects)
        called |= {call.name for call in terms(tree)}
        for name in called:
            if name.startswith("final_"):
                raise UserError(f"bonus {bonus!r}: rename {name!r}, because results have columns 'final_METRIC'")
        for name in called & {"params", "env_args"}:
            raise UserError(f"bonus {bonus!r}: rename {name!r}, because '{name}.parameter' is the environment's")
        for call in terms(tree):
            known_call = signature(spec.objects.get(call.reference, call.reference))
            takes = parameter_fields(f"{call.name}.", known_call, {})
            for name, value in ((f"{call.name}.{keyword}", value) for keyword, value in call.keywords.items()):
                checked(name, value, takes[name])
                written.add(name)
        for agent, trainer in itertools.product(agents, trainers):
            known |= schema(agent, tree, "split", trainer, spec.objects)
    for key, values in given.items():
        owner, _, rest = key.partition(".")
        if key not in known and not (owner in ("env_args", "params") and rest):
            if owner == "params":
                raise UserError(f"field {key!r}: write 'params.NAME' for each number of the environment's params")
            if key in written:
                raise UserError(f"field {key!r} is given twice, by itself and inside the bonus expression")
            if owner in jaxrl.intrinsic.CATALOGUE and owner not in called:
                raise UserError(f"field {key!r}: {owner!r} is in no bonus expression here")
            raise unknown("field", key, known)
        if key in CONFIG and key not in STRUCTURAL:  # also where no program of the spec has it
            for value in values:
                checked(key, value, CONFIG[key])
    for _ in settings(spec):
        pass
    return known


def _columns(table: str, entries: Mapping[str, Any], objects: dict[str, Callable]) -> dict[str, tuple]:
    """The lists of [grid] or [zip]."""
    columns: dict[str, tuple] = {}
    for key, values in entries.items():
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable) or not (values := tuple(values)):
            raise UserError(f"{table} field {key!r} = {quoted(values)}: expected a list of at least one value")
        columns[key] = tuple(_by_reference(key, value, objects) for value in values)
    return columns


def _distribution(table: str, key: str, entry: Any, objects: dict[str, Callable]) -> Distribution:
    one = read(f"{table} field {key!r}", entry)
    return one._replace(choices=tuple(_by_reference(key, choice, objects) for choice in one.choices))


def _search(made: Spec, asked: Mapping[str, Any], space: dict[str, Distribution]) -> Search:
    search = Search(space=space, **asked)
    if search.batch > search.trials:
        raise UserError(f"optuna: batch = {search.batch} is more than trials = {search.trials}")
    if search.metric in EVALUATED and coerce("evals", made.fixed.get("evals", CONFIG["evals"].default), 0) == 0:
        raise UserError(f"optuna: metric = {search.metric!r} is measured by evaluations, and evals = 0")
    return search


def _by_reference(key: str, value: Any, objects: dict[str, Callable]) -> Any:
    """Classes and functions become references; the object itself is kept in `objects`. A flag in params is a number."""
    if key.startswith(PARAMS) and isinstance(value, bool):
        return float(value)
    if key == "wrap" and isinstance(value, (tuple, list)):
        return tuple(_by_reference("wrapper", entry, objects) for entry in value)
    if key not in ("env", "bonus", "agent", "trainer", "wrapper") or is_literal(value):
        return value
    reference = identity(value)
    if objects.setdefault(reference, value) is not value:
        raise UserError(f"two different objects are called {reference!r}: rename one")
    return reference
