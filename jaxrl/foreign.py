"""JSON that somebody else may have made: parsed within bounds and held against a form. Checksums have no key."""

import json
import math
import reprlib
from typing import Any

DEEPEST = 32  # ours: lists and mappings inside each other; a program has four
LARGEST = 2**63  # whole numbers are below it, or no table could hold them
WORDS: dict[Any, str] = {
    **{str: "text", int: "a whole number", float: "a number", bool: "true or false"},
    **{dict: "a mapping", list: "a list"},
}


def parsed(content: bytes) -> Any:
    """The value of JSON in UTF-8.

    Raises:
        ValueError: no JSON, NaN or an infinity, a whole number of more than 64 bits, deep nesting, half a character.
    """
    try:
        value = json.loads(content.decode("utf-8"), parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None
    _look_into(value, 0)
    return value


def check(value: Any, form: Any, name: str = "") -> None:
    """Hold a parsed value against a form.

    Args:
        form: a type, where float takes whole numbers too; None for null; a tuple of forms of which one fits; [form] for
            a list of such; {str: form} for a mapping of any names; {name: form, ...} for one with these names and more.
            A name that ends in "?" may be missing.
        name: of the value, for the sentence.

    Raises:
        ValueError: the end of a sentence that names the field, what is there and what is expected.
    """
    if isinstance(form, tuple):
        if not any(_fits(value, one) for one in form):
            raise _misfit(name, value, " or ".join(map(_word, form)))
    elif isinstance(form, list):
        check(value, list, name)
        for number, entry in enumerate(value):
            check(entry, form[0], f"{name}[{number}]")
    elif isinstance(form, dict):
        check(value, dict, name)
        inside = f"{name}." if name else ""
        anything = form.get(str)
        for name, inner in dict.fromkeys(value, anything).items() if anything else form.items():
            key = name if anything else name.removesuffix("?")
            if key in value:
                check(value[key], inner, f"{inside}{key}")
            elif key == name:
                raise ValueError(f"field {inside}{key} is missing")
    elif not _is(value, form):
        raise _misfit(name, value, _word(form))


def _fits(value: Any, form: Any) -> bool:
    try:
        check(value, form)
    except ValueError:
        return False
    return True


def _is(value: Any, kind: Any) -> bool:
    if kind is None or isinstance(value, bool):
        return value is None if kind is None else kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _misfit(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{f'field {name}' if name else 'the whole'} is {reprlib.repr(value)}, expected {expected}")


def _word(form: Any) -> str:
    if isinstance(form, list | dict):
        form = type(form)
    return "null" if form is None else WORDS[form]


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -LARGEST <= int(digits) < LARGEST:
        raise ValueError(f"the whole number {digits[:24]}... has more than 64 bits")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"the number {digits[:24]} is not finite")
    return float(digits)


def _look_into(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"its lists are nested more than {DEEPEST} deep")
    if isinstance(value, str):
        value.encode()  # refuses half of a surrogate pair, which no file can hold
    elif isinstance(value, dict):
        for key, entry in value.items():
            key.encode()
            _look_into(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _look_into(entry, depth + 1)
