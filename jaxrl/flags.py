"""Flags of the command line: what they are written like, and how pairs of NAME=VALUE are read."""

import ast
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from jaxrl.errors import UserError, unknown
from jaxrl.spec.fields import Field


def _whole(text: str) -> int:
    """The whole number that a flag is given, written 1000000, 1_000_000 or 1e6."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not (number.is_integer() and abs(number) < 2**53):
        raise ValueError(f"{text} is not a whole number")
    return int(number)


Whole = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda texts: _whole(texts[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]


def check_flags(arguments: Sequence[str], known: Sequence[str]) -> None:
    """Raises UserError, with the nearest one, for a flag that `jaxrl train` does not have."""
    flags = [f"--{name.replace('_', '-')}" for name in known]
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if flag.startswith("--") and flag.replace("--no-", "--", 1) not in {*flags, "--help"}:
            if "." in flag:
                raise UserError(f"{argument}: a parameter of a bonus or a trainer is set by --set, as in rnd.lr=1e-3")
            raise unknown("flag", flag, flags)


def kind_of(field: Field) -> Any:
    """The type of a field's flag."""
    if field.choices:
        return Literal[field.choices]
    if isinstance(field.default, tuple):
        return tuple[_kind(field.default[0]) if field.default else str, ...]  # type: ignore[misc]
    kind = str if field.default is None else float if field.traced else _kind(field.default)
    return kind | None if field.optional else kind


def _kind(default: Any) -> Any:
    return Whole if type(default) is int else type(default)


def pairs_flag(help: str) -> Any:
    """The type of a flag that takes NAME=VALUE pairs and may be repeated."""
    described = tyro.conf.arg(help=help, metavar="NAME=VALUE ...")
    return Annotated[tuple[tuple[str, ...], ...], described, tyro.conf.UseAppendAction]


def read_pairs(flag: str, groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What the pairs of a flag say; a value that is no Python literal is a word."""
    found: dict[str, Any] = {}
    for pair in (pair for group in groups for pair in group):
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--{flag} {pair!r}: expected NAME=VALUE")
        try:
            found[name] = (
                {"true": True, "false": False}.get(text) if text in ("true", "false") else ast.literal_eval(text)
            )
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found[name] = text
    return found
