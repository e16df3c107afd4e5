"""The schema of a run, and specs: which fields are fixed and which are swept. No jax here.

The fields are those of `CONFIG`, the parameters of the agent's factory (``lr``), those of every bonus in the
expression and of the trainer under their names (``rnd.lr``, ``selmo.mixture``), and numbers among the environment's
params (``params.obstacles``). *Traced* fields are numbers that differ between lanes of one compiled program; each
combination of the other, *static* fields is a program of its own.
"""

import itertools
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jaxrl.agents
import jaxrl.envs
import jaxrl.envs.wrappers
import jaxrl.intrinsic
import jaxrl.trainers
from jaxrl.errors import UserError, unknown
from jaxrl.intrinsic.expression import Call, Tree, canonical, parse, terms
from jaxrl.signatures import Signature, check_reference, coerce, identity, is_literal, signature

MAX_SEED = 2**32 - 1
MAX_COMBINATIONS = 1_000_000


class Field(NamedTuple):
    default: Any  # its type is the field's
    help: str = ""
    traced: bool = False
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False  # None is allowed


CONFIG = {
    "env": Field("DeepSea-bsuite", "environment: a name, or package.module:Name"),
    "env_args": Field({}, "arguments of the environment, NAME=VALUE"),
    "wrap": Field((), "wrappers of the environment, innermost first, as in 'sticky_actions(probability=0.1)'"),
    "bonus": Field("none", "bonus expression, as in '0.5 * rnd + e3b'"),
    "agent": Field("ppo", "agent: a name, or package.module:name"),
    "trainer": Field("on_policy", "training loop: a name, or package.module:name"),
    "steps": Field(200_000, "environment steps per lane", low=1),
    "num_envs": Field(16, "environments per lane", low=1),
    "num_steps": Field(64, "steps of each environment between updates", low=1),
    "streams": Field(
        "split", "one critic each for reward and bonus, one sum, or the bonus only", choices=("split", "sum", "only")
    ),
    "bonus_episodic": Field(False, "the bonus return stops where an episode ends"),
    "normalize_reward": Field(False, "divide the extrinsic reward by the deviation of its return"),
    "warmup": Field(5, "random-policy iterations that initialise a bonus's observation moments", low=0),
    "evals": Field(10, "evaluation points per run, at most one an iteration", low=0),
    "eval_episodes": Field(16, "episodes per evaluation", low=1),
    "coef": Field(1.0, "weight of the bonus", traced=True, low=0),
    "discount": Field(0.99, "discount of the extrinsic return", traced=True, low=0, high=1),
    "bonus_discount": Field(0.99, "discount of the bonus return", traced=True, low=0, high=1),
}
# Bounds of agents' and bonuses' parameters, by their shared names; whatever is not here is unbounded.
BOUNDS = {
    "lr": (0, math.inf),
    "clip": (0, math.inf),
    "gae_lambda": (0, 1),
    "max_grad_norm": (0, math.inf),
    "anneal": (0, 1),
    "epochs": (1, math.inf),
    "minibatches": (1, math.inf),
    "discount": (0, 1),
    "proportion": (1e-9, 1),
    "ridge": (1e-9, math.inf),
    "dim": (1, math.inf),
    "width": (1, math.inf),
    "hidden": (1, math.inf),
    "deeper": (1, math.inf),
    "buckets": (1, 2**31),
    "momentum": (0, 1 - 1e-6),
    "target_decay": (0, 1),
    "horizon": (1, math.inf),
    "remembered": (1, math.inf),
    "queue": (1, math.inf),
    "mixture": (0, 1),
    "curious": (0, 1),
    "snapshots": (2, math.inf),
    "no_reward_time": (0, 1),
    "rounds": (2, math.inf),
    "classes": (2, math.inf),
    "bits": (1, math.inf),
    "freshness": (0, 1),
    "sigma": (0, math.inf),
    "members": (2, math.inf),
    "keep": (1e-9, 1),
    "alpha": (0, math.inf),
    "inverse": (0, math.inf),
    "forward": (0, math.inf),
    "k": (1, math.inf),
    "capacity": (1, math.inf),
    "earlier": (0, math.inf),
    "family": (1, math.inf),
    "epsilon": (1e-9, math.inf),
    "cluster_distance": (0, math.inf),
    "pseudo_count": (0, math.inf),
    "max_similarity": (0, math.inf),
    "max_scale": (1, math.inf),
    "decay": (0, 1),
}
STRUCTURAL = ("env", "env_args", "wrap", "bonus", "agent", "trainer", "streams")  # decide which other fields exist
# What a program without a bonus, or with this choice of streams, has no use for: not a lane for each value of it.
IDLE: dict[str, tuple[str, ...]] = {
    "none": ("coef", "streams", "bonus_discount", "bonus_episodic", "warmup"),
    "split": (),
    "sum": ("bonus_discount", "bonus_episodic"),
    "only": ("coef", "discount", "normalize_reward"),
}
# What a trainer has no use for whose factory does not ask for it (`jaxrl.trainers.SUPPLIED`).
OF_TRAINERS = {
    "combine": ("coef", "streams", "bonus_discount", "bonus_episodic"),
    "warmup": ("warmup",),
    "reward_discount": ("normalize_reward",),
}
PARAMS = "params."  # + a number of the environment's params, or of a wrapper's; it is known once the task is built


class Spec(NamedTuple):
    name: str
    seeds: tuple[int, ...]
    fixed: dict[str, Any]
    grid: dict[str, tuple]
    objects: dict[str, Callable]  # Python environments, bonuses, ... by reference, outside of what is hashed


def spec(
    *,
    name: str = "run",
    seeds: int | str | Sequence[int] = 1,
    grid: Mapping[str, Sequence] | None = None,
    own: Sequence[Callable] = (),
    **fixed: Any,
) -> Spec:
    """A checked spec: `fixed` fields, `grid` fields with the values to combine, seeds (8, "0:8" or a list).

    `env`, `bonus`, `agent`, `trainer` and the entries of `wrap` may be Python classes or functions; those in `own` may
    be named inside expressions.
    Raises UserError, in one sentence, for an unknown or mistyped field, a value out of bounds or an impossible mixture.
    """
    objects = {identity(thing): thing for thing in own}
    checked_grid: dict[str, tuple] = {}
    for key, values in (grid or {}).items():
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable) or not (values := tuple(values)):
            raise UserError(f"grid field {key!r} = {values!r}: expected a list of at least one value")
        if key in fixed:
            raise UserError(f"field {key!r} is given twice, fixed and in the grid")
        checked_grid[key] = tuple(_by_reference(key, value, objects) for value in values)
    fixed = {key: _by_reference(key, value, objects) for key, value in fixed.items()}
    made = Spec(str(name), parse_seeds(seeds), fixed, checked_grid, objects)
    _check(made)
    return made


def load_toml(path: str | Path) -> Spec:
    """The spec of a TOML file: `name`, `seeds`, tables `[fixed]` and `[grid]`; raises UserError naming the file."""
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"spec {str(path)!r} cannot be read: {error}") from None
    for key in tables:
        if key not in ("name", "seeds", "fixed", "grid"):
            raise unknown(f"{path} entry", key, ("name", "seeds", "fixed", "grid"))
    for key in ("fixed", "grid"):
        if not isinstance(tables.get(key, {}), dict):
            raise UserError(f"{path}: {key!r} must be a table, written [{key}]")
    fixed, grid = _flat(tables.get("fixed", {})), _flat(tables.get("grid", {}))
    for key in ("name", "seeds", "grid", "own"):
        if key in fixed or key in grid:
            raise UserError(f"{path}: {key!r} is not a field of a run; name and seeds stand above the tables")
    return spec(name=tables.get("name", path.stem), seeds=tables.get("seeds", 1), grid=grid, **fixed)


def schema(
    agent: str, bonus: Tree, streams: str, trainer: str, objects: Mapping[str, Callable]
) -> dict[str, Field]:
    """Every field that a run with this agent, bonus, choice of streams and trainer has, by name."""
    own = agent_fields(agent, objects)
    fields = {**own, **CONFIG}
    for call in terms(bonus):
        known = signature(objects.get(call.reference, call.reference))
        for key, field in _parameters(f"{call.name}.", known, call.keywords).items():
            fields.setdefault(key, field)
    asked = {*(loop := trainer_signature(trainer, objects)).supplied, *loop.static}
    fields |= _parameters(f"{trainer_label(trainer)}.", loop, dict.fromkeys(jaxrl.trainers.SUPPLIED))
    control = bonus == parse("none") and not ("combine" in asked and streams == "only")
    idle = {*IDLE["none" if control else streams if "combine" in asked else "split"]}
    idle |= {key for parameter, keys in OF_TRAINERS.items() if parameter not in asked for key in keys}
    return {key: field for key, field in fields.items() if key not in idle or key in own}


def agent_fields(agent: str, objects: Mapping[str, Callable]) -> dict[str, Field]:
    """The fields of an agent, by catalogue name or reference."""
    if ":" not in agent and agent not in jaxrl.agents.CATALOGUE:
        raise unknown("agent", agent, jaxrl.agents.CATALOGUE)
    reference = jaxrl.agents.CATALOGUE.get(agent, agent)
    return _parameters("", signature(objects.get(reference, reference)), {})


def trainer_signature(trainer: str, objects: Mapping[str, Callable]) -> Signature:
    """The signature of a trainer's factory, by catalogue name or reference."""
    if ":" not in trainer and trainer not in jaxrl.trainers.CATALOGUE:
        raise unknown("trainer", trainer, jaxrl.trainers.CATALOGUE)
    reference = jaxrl.trainers.CATALOGUE.get(trainer, trainer)
    return signature(objects.get(reference, reference))


def trainer_label(trainer: str) -> str:
    """What a trainer's own fields begin with: its name."""
    return trainer.rpartition(":")[2]


def settings(spec: Spec) -> Iterator[tuple[dict[str, Any], list[dict[str, float]]]]:
    """Each program of a spec with the values that its lanes take, in an order that the grid's key order cannot change.

    A grid field that a program does not have (``rnd.lr`` where the bonus is `none`) is left out of it.
    """
    if math.prod(len(values) for values in spec.grid.values()) > MAX_COMBINATIONS:
        raise UserError(f"the grid has more than {MAX_COMBINATIONS:,} combinations")
    for structure in _combinations({key: values for key, values in spec.grid.items() if _is_structural(key)}):
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
        fields |= {key: Field(0.0, traced=True) for key in (*spec.fixed, *spec.grid) if key.startswith(PARAMS)}
        if "streams" in fields:
            resolved["streams"] = streams
        fields = {key: field for key, field in fields.items() if key not in resolved}
        setting = {key: checked(key, spec.fixed.get(key, field.default), field) for key, field in fields.items()}
        grid = {
            key: [checked(key, value, fields[key]) for value in values]
            for key, values in spec.grid.items()
            if key in fields
        }
        for key in fields.keys() & {*spec.fixed, *spec.grid}:
            if key.startswith(PARAMS):
                _check_param(key, grid.get(key) or [setting[key]], calls, spec.objects)
        traced = {key: value for key, value in setting.items() if fields[key].traced}
        static = {**resolved, **{key: value for key, value in setting.items() if not fields[key].traced}}
        all_values = [
            {**traced, **point} for point in _combinations({key: grid[key] for key in grid if fields[key].traced})
        ]
        for point in _combinations({key: grid[key] for key in grid if not fields[key].traced}):
            program = {**static, **point}
            _check_together(program)
            yield program, all_values


def iterations(program: Mapping[str, Any]) -> int:
    """Rollout-and-update iterations of a program: `steps // (num_envs * num_steps)`."""
    return program["steps"] // (program["num_envs"] * program["num_steps"])


def references(program: Mapping[str, Any], objects: Mapping[str, Callable]) -> list[str]:
    """The user's own code that a program runs, sorted."""
    calls = [*terms(parse(program["bonus"], objects)), *_wrappers(program["wrap"], objects)]
    named = [program["env"], program["agent"], program["trainer"], *(call.reference for call in calls)]
    catalogues = (jaxrl.agents.CATALOGUE, jaxrl.intrinsic.CATALOGUE, jaxrl.envs.wrappers.CATALOGUE)
    catalogued = {reference for catalogue in catalogues for reference in catalogue.values()}
    return sorted({name for name in named if ":" in name} - catalogued)


def checked(name: str, value: Any, field: Field) -> Any:
    """`value` in the type and bounds of a field; raises UserError with a sentence."""
    if value is None and field.optional:
        return None
    value = coerce(name, value, float(field.default) if field.traced else field.default)
    if field.choices and value not in field.choices:
        raise unknown(name, value, field.choices)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)) and not field.low <= number <= field.high:
            raise UserError(f"{name} = {value!r}: {_bound(name, field)}")
    return value


def parse_seeds(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    """Seeds from 8 (0 to 7), "0:8" or a list; distinct, in the order given."""
    fault = UserError(f"seeds = {seeds!r}: expected a count, 'start:stop' or a list of whole numbers below 2**32")
    try:
        if isinstance(seeds, str):
            bounds = [int(part) for part in seeds.split(":")]
            seeds = range(*bounds) if len(bounds) in (1, 2) else ()
        elif isinstance(seeds, int) and not isinstance(seeds, bool):
            seeds = range(seeds)
        if isinstance(seeds, range) and len(seeds) > MAX_COMBINATIONS:
            raise fault
        found = tuple(dict.fromkeys(coerce("seeds", seed, 0) for seed in seeds))  # type: ignore[union-attr]
    except (TypeError, ValueError):
        raise fault from None
    if not found or min(found) < 0 or max(found) > MAX_SEED:
        raise fault
    return found


def _check(spec: Spec) -> None:
    """Resolves everything once, and refuses a key that no program of the spec has."""
    known: set[str] = set(CONFIG)
    called: set[str] = set()
    written: set[str] = set()
    bonuses = spec.grid.get("bonus", (spec.fixed.get("bonus", CONFIG["bonus"].default),))
    agents = spec.grid.get("agent", (spec.fixed.get("agent", CONFIG["agent"].default),))
    trainers = spec.grid.get("trainer", (spec.fixed.get("trainer", CONFIG["trainer"].default),))
    for bonus in bonuses:
        tree = parse(coerce("bonus", bonus, ""), spec.objects)
        called |= {call.name for call in terms(tree)}
        for name in called & {"params", "env_args"}:
            raise UserError(f"bonus {bonus!r}: rename {name!r}, because '{name}.parameter' is the environment's")
        for call in terms(tree):
            takes = _parameters(f"{call.name}.", signature(spec.objects.get(call.reference, call.reference)), {})
            for name, value in ((f"{call.name}.{keyword}", value) for keyword, value in call.keywords.items()):
                checked(name, value, takes[name])
                written.add(name)
        for agent, trainer in itertools.product(agents, trainers):
            trainer = coerce("trainer", trainer, "")
            known |= set(schema(coerce("agent", agent, ""), tree, "split", trainer, spec.objects))
    for key in (*spec.fixed, *spec.grid):
        prefix, _, rest = key.partition(".")
        if key not in known and not (prefix in ("env_args", "params") and rest):
            if prefix == "params":
                raise UserError(f"field {key!r}: write 'params.NAME' for each number of the environment's params")
            if key in written:
                raise UserError(f"field {key!r} is given twice, by itself and inside the bonus expression")
            owner = key.partition(".")[0]
            if owner in jaxrl.intrinsic.CATALOGUE and owner not in called:
                raise UserError(f"field {key!r}: {owner!r} is in no bonus expression here")
            raise unknown("field", key, known)
        if key in CONFIG and key not in STRUCTURAL:  # also where no program of the spec has it
            for value in spec.grid.get(key, (spec.fixed.get(key),)):
                checked(key, value, CONFIG[key])
    for _ in settings(spec):
        pass


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
    for name, value in program.items():
        if name.rpartition(".")[2] == "minibatches" and batch % value:
            raise UserError(f"{name} = {value}: must divide num_envs * num_steps = {batch}")
        if name.rpartition(".")[2] == "buckets" and value & (value - 1):
            raise UserError(f"{name} = {value}: must be a power of two")


def _parameters(prefix: str, known: Signature, written: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of a factory's parameters, less those that the bonus expression writes."""
    fields: dict[str, Field] = {}
    for key, default in (*known.swept.items(), *known.static.items()):
        if key not in written:
            low, high = BOUNDS.get(key, (-math.inf, math.inf))
            traced, help = key in known.swept, known.help.get(key, "")
            fields[prefix + key] = Field(default, help, traced, low, high, optional=default is None)
    return fields


def _combinations(grid: Mapping[str, Sequence]) -> Iterator[dict[str, Any]]:
    keys = sorted(grid)
    for values in itertools.product(*(grid[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def _is_structural(key: str) -> bool:
    return key.partition(".")[0] in STRUCTURAL


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


def _env_args(chosen: Mapping[str, Any]) -> dict[str, Any]:
    arguments = chosen.get("env_args", {})
    if not isinstance(arguments, Mapping):
        raise UserError(f"env_args = {arguments!r}: expected a table of NAME = VALUE")
    dotted = {key.partition(".")[2]: value for key, value in chosen.items() if key.startswith("env_args.")}
    for key, value in {**arguments, **dotted}.items():
        if not is_literal(value):
            raise UserError(f"env_args.{key} = {value!r}: expected a number, a word, True or False, or a list of those")
    return dict(sorted({**arguments, **dotted}.items()))


def _wrappers(wrap: Any, objects: Mapping[str, Callable]) -> list[Call]:
    if not isinstance(wrap, (tuple, list)) or not all(isinstance(entry, str) for entry in wrap):
        raise UserError(f"wrap = {wrap!r}: expected a list of wrappers, as in ['sticky_actions(probability=0.1)']")
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
            check_reference(env)
    return env


def _bound(name: str, field: Field) -> str:
    if field.high == math.inf:
        return f"must be at least {field.low:g}"
    return f"must be in [{field.low:g}, {field.high:g}]"


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested TOML tables as dotted names, so that `rnd.lr = 1e-3` and `"rnd.lr" = 1e-3` are the same."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
