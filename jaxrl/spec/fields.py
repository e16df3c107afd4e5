"""The schema of a run: every field that it can have, with default, bounds and meaning. No jax here.

The fields are those of `CONFIG`, the parameters of the agent's factory (``lr``), those of every bonus in the
expression and of the trainer under their names (``rnd.lr``, ``selmo.mixture``), and numbers among the environment's
params (``params.obstacles``). *Traced* fields are numbers that differ between lanes of one compiled program; each
combination of the other, *static* fields is a program of its own.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jaxrl.agents
import jaxrl.intrinsic
import jaxrl.trainers
from jaxrl import references
from jaxrl.errors import UserError, quoted, unknown
from jaxrl.float32 import as_float32, check_range
from jaxrl.intrinsic.expression import Tree, parse, terms
from jaxrl.metrics import METRICS
from jaxrl.signatures import Signature, coerce, signature


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
    "steps": Field(200_000, "environment steps per lane", low=1, high=2**53),
    "num_envs": Field(16, "environments per lane", low=1, high=2**24),
    "num_steps": Field(64, "steps of each environment between updates", low=1, high=2**24),
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
FAR = 2**24  # an upper bound from here on is not worth a word below the lower one
MOST_ITERATIONS = 2**24  # of a run: a batch that is less than 2^-24 of all rows moves no float32 mean any more
MOST_AT_ONCE = 2**31 - 1  # transitions of an iteration: they are numbered in int32
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


# Columns of the tables that results are stored in and read as.
COLUMNS = {
    *("lane", "seed", "status", "first_bad_iteration", "packing", "iteration", "step", "code", "chunk", "commit"),
    *("dirty", "budget", "point", "stopped_at", *METRICS),
}


def schema(
    agent: str, bonus: Tree, streams: str, trainer: str, objects: Mapping[str, Callable]
) -> dict[str, Field]:
    """Every field that a run with this agent, bonus, choice of streams and trainer has, by name."""
    own = agent_fields(agent, objects)
    fields = {**own, **CONFIG}
    for call in terms(bonus):
        known = signature(objects.get(call.reference, call.reference))
        for key, field in parameter_fields(f"{call.name}.", known, call.keywords).items():
            fields.setdefault(key, field)
    asked = {*(loop := trainer_signature(trainer, objects)).supplied, *loop.static}
    fields |= parameter_fields(f"{trainer_label(trainer)}.", loop, dict.fromkeys(jaxrl.trainers.SUPPLIED))
    control = bonus == parse("none") and not ("combine" in asked and streams == "only")
    idle = {*IDLE["none" if control else streams if "combine" in asked else "split"]}
    idle |= {key for parameter, keys in OF_TRAINERS.items() if parameter not in asked for key in keys}
    return {key: field for key, field in fields.items() if key not in idle or key in own}


def agent_fields(agent: str, objects: Mapping[str, Callable]) -> dict[str, Field]:
    """The fields of an agent, by catalogue name or reference."""
    fields = parameter_fields("", _signature("agent", agent, jaxrl.agents.CATALOGUE, objects), {})
    for key in fields:
        if key in COLUMNS or key.startswith("final_"):
            raise UserError(f"agent {agent!r} has a parameter {key!r}, as a column of the results is called: rename it")
    return fields


def trainer_signature(trainer: str, objects: Mapping[str, Callable]) -> Signature:
    """The signature of a trainer's factory, by catalogue name or reference."""
    return _signature("trainer", trainer, jaxrl.trainers.CATALOGUE, objects)


def trainer_label(trainer: str) -> str:
    """What a trainer's own fields begin with: its name."""
    return trainer.rpartition(":")[2]


def iterations(program: Mapping[str, Any]) -> int:
    """Rollout-and-update iterations of a program: `steps // (num_envs * num_steps)`."""
    return program["steps"] // (program["num_envs"] * program["num_steps"])


def evaluation_points(last: int, evals: int) -> list[int]:
    """Iterations after which to evaluate: `evals` of them, evenly spaced, the last always; all if there are fewer."""
    evals = min(evals, last)
    return [round(last * (i + 1) / evals) for i in range(evals)]


def checked(name: str, value: Any, field: Field) -> Any:
    """`value` in the type and bounds of a field; raises UserError with a sentence."""
    if value is None and field.optional:
        return None
    value = coerce(name, value, float(field.default) if field.traced else field.default)
    if isinstance(value, float):
        check_range(name, value)
    if field.traced:
        given, value = value, as_float32(name, value)
        if name.startswith(PARAMS) and given.is_integer() and given != value:  # it may be a seed
            raise UserError(f"{name} = {given:.0f}: numbers are float32, which has whole ones to 16,777,216 only")
    if field.choices and value not in field.choices:
        raise unknown(name, value, field.choices)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)) and not field.low <= number <= field.high:
            told = f"{number:g}" if abs(number) > 2**53 else quoted(value)  # no 300 digits
            raise UserError(f"{name} = {told}: {_bound(number, field)}")
    return value


def parameter_fields(prefix: str, known: Signature, written: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of a factory's parameters, less those that the bonus expression writes."""
    fields: dict[str, Field] = {}
    for key, default in (*known.swept.items(), *known.static.items()):
        if key not in written:
            low, high = BOUNDS.get(key, (-math.inf, math.inf))
            traced, help = key in known.swept, known.help.get(key, "")
            fields[prefix + key] = Field(default, help, traced, low, high, optional=default is None)
    return fields


def _signature(kind: str, name: str, catalogue: Mapping[str, str], objects: Mapping[str, Callable]) -> Signature:
    if name in objects or name in catalogue:
        reference = catalogue.get(name, name)
        return signature(objects.get(reference, reference))
    if ":" not in name:
        raise unknown(kind, name, catalogue)
    references.check(kind, name)
    return signature(name)


def _bound(number: float, field: Field) -> str:
    if field.high == math.inf or (number < field.low and field.high >= FAR):
        return f"must be at least {field.low:g}"
    if field.high >= FAR:
        return f"must be at most {field.high:,}"
    return f"must be in [{field.low:g}, {field.high:g}]"
