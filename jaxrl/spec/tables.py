"""A spec as it is written: seeds, the tables, their options and their columns. No jax here."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jaxrl.errors import UserError, quoted, unknown
from jaxrl.metrics import METRICS
from jaxrl.signatures import coerce
from jaxrl.spec.draws import EXAMPLE, KEYS
from jaxrl.spec.fields import Field, checked

MAX_COMBINATIONS = 1_000_000
MAX_SEED = 2**32 - 1
MAX_DEPTH = 16  # ours, of tables and lists
MAX_BITS = 64
MAX_NAME = 100  # bytes; file systems take 255
TABLES = ("fixed", "grid", "zip", "random", "optuna", "halving")
SEED = Field(0, low=0, high=MAX_SEED)
OPTIONS = {
    "random": {"n": Field(1, low=1, high=MAX_COMBINATIONS), "seed": SEED},
    "optuna": {
        "trials": Field(1, low=1, high=MAX_COMBINATIONS),
        "batch": Field(16, low=1),  # ours: the ten random trials that a search begins with, and a few more
        "metric": Field("eval_return", choices=tuple(METRICS)),
        "direction": Field("maximize", choices=("maximize", "minimize")),
        "seed": SEED,
    },
    "halving": {
        "metric": Field("eval_return", choices=tuple(METRICS)),
        "direction": Field("maximize", choices=("maximize", "minimize")),
        "eta": Field(3, low=2),
        "first": Field(0.1),  # ours
    },
}


def plain_name(name: Any) -> str:
    """The name of a spec, which names a directory; raises UserError for one that leads elsewhere or cannot be shown."""
    if (
        not isinstance(name, str)
        or not 1 <= len(name.encode(errors="replace")) <= MAX_NAME
        or not name.isprintable()
        or name[0] == "."
        or name != name.strip()
        or {"/", "\\"} & {*name}
    ):
        raise UserError(
            f"name = {quoted(name)}: expected a plain name for a directory, of at most {MAX_NAME} printable "
            "characters, without '/' and '\\' and with no '.' in front"
        )
    return name


def parse_seeds(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    """Seeds from 8 (0 to 7), "0:8", "1,5,7" or a list; distinct, in the order given."""
    fault = UserError(f"seeds = {quoted(seeds)}: expected a count, 'start:stop' or a list of whole numbers below 2**32")
    try:
        if isinstance(seeds, str) and "," in seeds:
            seeds = [int(part) for part in seeds.split(",")]
        elif isinstance(seeds, str):
            bounds = [int(part) for part in seeds.split(":")]
            seeds = range(*bounds) if len(bounds) in (1, 2) else ()
        elif isinstance(seeds, int) and not isinstance(seeds, bool):
            seeds = range(seeds)
        if isinstance(seeds, range) and len(seeds) > MAX_COMBINATIONS:
            raise fault
        found = tuple(dict.fromkeys(coerce("seeds", seed, 0) for seed in seeds))  # type: ignore[union-attr]
    except (TypeError, ValueError, OverflowError):
        raise fault from None
    if not found or min(found) < 0 or max(found) > MAX_SEED:
        raise fault
    return found


def options(table: str, entries: Any) -> tuple[dict[str, Any], dict[str, Mapping]]:
    """The options of [random] or [optuna], and its fields with their distributions; both empty where it is None."""
    if entries is None:
        return {}, {}
    if not isinstance(entries, Mapping):
        raise UserError(f"{table} = {quoted(entries)}: expected a table of distributions")
    known = OPTIONS[table]
    count = next(iter(known))
    if count not in entries:
        raise UserError(f"{table}: {count!r} is missing, the number of points")
    found = {key: checked(f"{table} {key}", entries.get(key, field.default), field) for key, field in known.items()}
    fields = flat({key: value for key, value in entries.items() if key not in known}, stop=KEYS)
    for key, value in fields.items():
        if isinstance(value, (list, tuple)):
            text = "a list is written {choices = [...]} here, and every combination of lists is a [grid]"
            raise UserError(f"{table} field {key!r} = {quoted(value)}: {text}")
        if not isinstance(value, Mapping):
            raise UserError(f"{unknown(f'{table} entry', key, known)}; a field takes a distribution, as in {EXAMPLE}")
    if not fields:
        raise UserError(f"{table}: name at least one field, with a distribution, as in {EXAMPLE}")
    if "batch" in known and "batch" not in entries:
        found["batch"] = min(found["batch"], found["trials"])
    return found, fields


def check_plain(what: str, value: Any) -> None:
    """Raises UserError for what no file of results can hold: text with NULs or halves of characters, endless numbers.

    `what` is its name in the message.
    """
    waiting: list[tuple[str, Any, int]] = [(what, value, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if isinstance(value, str):
            if "\0" in value or value != value.encode(errors="ignore").decode():
                raise UserError(f"{name} = {quoted(value)}: text cannot hold a NUL or a half of a character")
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise UserError(f"{name}: a whole number of {value.bit_length()} bits; at most {MAX_BITS} can be stored")
        elif isinstance(value, (Mapping, list, tuple)):
            if depth == MAX_DEPTH:
                raise UserError(f"{what}: tables and lists are at most {MAX_DEPTH} deep")
            parts = value.items() if isinstance(value, Mapping) else ((None, part) for part in value)
            for key, part in parts:
                waiting.append((name if key is None else f"{name}.{key}", part, depth + 1))
                if key is not None:
                    waiting.append((f"a key of {name}", key, depth + 1))


def aligned(columns: dict[str, tuple]) -> dict[str, tuple]:
    """The columns of [zip]; raises UserError unless they are equally long."""
    if len({len(values) for values in columns.values()}) > 1:
        counted = ", ".join(f"{key!r} has {len(values)}" for key, values in columns.items())
        raise UserError(f"zip: columns that advance together have equally many values, but {counted}")
    return columns


def flat(table: Mapping[str, Any], prefix: str = "", stop: Collection[str] = ()) -> dict[str, Any]:
    """Nested tables as dotted names, so that `rnd.lr = 1e-3` and `"rnd.lr" = 1e-3` are the same.

    A table with a key of `stop` is a value: in [random], a distribution.
    """
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not value.keys() & {*stop}:
            found |= flat(value, f"{prefix}{key}.", stop)
        else:
            found[prefix + key] = value
    return found
