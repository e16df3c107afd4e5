"""Bonus expressions: ``0.5 * rnd + my_pkg.ideas:surprise(scale=2) * count``, parsed under a whitelist, never evaluated.

    sum      product + product + ...
    product  term * term * ...              a number in it scales
    term     name | name(keyword=value, ...) | combinator(sum, ..., keyword=value) | number | (sum)
    name     of the catalogue, or a reference package.module:name
    value    number | True | False | word | (number, ...)

Parsing imports neither jax nor the modules named; `build` does. `parse_call` reads one call of any other catalogue
under the same rules.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxrl import references
from jaxrl.errors import UserError, unknown
from jaxrl.float32 import as_float32, check_range
from jaxrl.intrinsic import CATALOGUE, LEAST_PARTS
from jaxrl.signatures import Signature, coerce, signature

LONGEST = 1000  # characters; bounds the depth of the tree
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Call(NamedTuple):
    reference: str  # "package.module:function"
    name: str  # what its parameters are called after: `name.parameter`
    keywords: dict[str, Any]  # as written, in the type of the parameter
    children: tuple = ()  # only of a combinator


class Number(NamedTuple):
    value: float


class Add(NamedTuple):
    terms: tuple


class Product(NamedTuple):
    terms: tuple  # a Number can only be the first


Tree = Call | Number | Add | Product


def parse(text: str, objects: Mapping[str, Callable] | None = None) -> Tree:
    """The tree of an expression. `objects` are Python functions by reference; their bare names may be used too.

    Raises UserError naming the offending text and its column, or the nearest known name or keyword.
    """
    source, tree = _read(text, "bonus", CATALOGUE, objects)
    if isinstance(tree, Number):
        raise UserError(f"bonus {source!r} is a number alone: a number only scales a bonus, as in '0.5 * rnd'")
    owners: dict[str, str] = {}
    for call in terms(tree):
        if owners.setdefault(call.name, call.reference) != call.reference:
            raise UserError(
                f"bonus {source!r} calls both {owners[call.name]!r} and {call.reference!r} {call.name!r}: rename one, "
                f"because '{call.name}.parameter' would mean both"
            )
    return tree


def parse_call(
    text: str, kind: str, catalogue: Mapping[str, str], objects: Mapping[str, Callable] | None = None
) -> Call:
    """One call, ``name`` or ``name(keyword=value)``, of the factories in `catalogue` (name -> reference) or the user's.

    `kind` is what a message calls it. Raises UserError as `parse` does.
    """
    source, tree = _read(text, kind, catalogue, objects)
    if not isinstance(tree, Call) or tree.children:
        raise UserError(f"{kind} {source!r} must be one call, as in name or name(keyword=value)")
    return tree


def terms(tree: Tree) -> list[Call]:
    """Every call in the tree, in the order written, a combinator before its parts."""
    if isinstance(tree, Number):
        return []
    below = tree.children if isinstance(tree, Call) else tree.terms
    return [*([tree] if isinstance(tree, Call) else []), *(call for part in below for call in terms(part))]


def canonical(tree: Tree, catalogue: Mapping[str, str] = CATALOGUE) -> str:
    """The one spelling of a tree; parsing it gives the tree back."""
    if isinstance(tree, Number):
        return repr(tree.value)
    if isinstance(tree, Add):
        return " + ".join(map(canonical, tree.terms))
    if isinstance(tree, Product):
        return " * ".join(f"({canonical(term)})" if isinstance(term, Add) else canonical(term) for term in tree.terms)
    written = {key: value if isinstance(value, str) else repr(value) for key, value in sorted(tree.keywords.items())}
    inside = [*map(canonical, tree.children), *(f"{key}={value}" for key, value in written.items())]
    name = tree.name if catalogue.get(tree.name) == tree.reference else tree.reference
    return f"{name}({', '.join(inside)})" if inside else name


def build(tree: Tree, values: Mapping[str, Any], objects: Mapping[str, Callable] | None = None, **supplied: Any) -> Any:
    """The IntrinsicReward of a tree; call it inside the traced program.

    `values` holds what the expression does not write, by dotted name (``"rnd.lr"``): traced scalars and static
    values alike. Of `supplied` each factory gets what its signature asks for.
    """
    from jaxrl.intrinsic import combine
    from jaxrl.shapes import made
    from jaxrl.types import IntrinsicReward

    if isinstance(tree, Number):
        raise UserError("a number alone is not a bonus")
    if isinstance(tree, Add):
        return combine.add(*(build(term, values, objects, **supplied) for term in tree.terms))
    if isinstance(tree, Product):
        factors = [build(term, values, objects, **supplied) for term in tree.terms if not isinstance(term, Number)]
        reward = factors[0] if len(factors) == 1 else combine.product(*factors)
        return combine.scale(reward, tree.terms[0].value) if isinstance(tree.terms[0], Number) else reward
    known = _signature(tree.reference, objects)
    if missing := [name for name in known.supplied if name not in supplied]:
        raise UserError(
            f"bonus {tree.name!r} asks for {missing[0]!r}, which is not one of {', '.join(supplied) or 'none'}"
        )
    keywords = {name: supplied[name] for name in known.supplied}
    for name in (*known.swept, *known.static):
        if f"{tree.name}.{name}" in values:
            keywords[name] = values[f"{tree.name}.{name}"]
    children = [build(child, values, objects, **supplied) for child in tree.children]
    factory = references.load("bonus", tree.reference, objects)
    return made(f"bonus {tree.name!r}", IntrinsicReward, factory, *children, **{**keywords, **tree.keywords})


def _signature(reference: str, objects: Mapping[str, Callable] | None) -> Signature:
    return signature((objects or {}).get(reference, reference))


def _read(
    text: str, kind: str, catalogue: Mapping[str, str], objects: Mapping[str, Callable] | None
) -> tuple[str, Tree]:
    """(source in one line, tree) of a text."""
    source = " ".join(text.split())
    if len(source) > LONGEST or not (source.isascii() and source.isprintable()) or "#" in source:
        raise UserError(f"{kind} {source[:60]!r} must be printable ASCII, without '#', of at most {LONGEST} characters")
    references = {match.start(): match.group() for match in _REFERENCE.finditer(source)}
    # A reference is no Python expression: a plain name of the same length holds its place, so columns stay true.
    masked = _REFERENCE.sub(lambda match: "_" * len(match.group()), source)
    try:
        body = ast.parse(masked, mode="eval").body
        return source, _Reader(source, references, objects or {}, kind, catalogue).sum(body)
    except SyntaxError as error:
        raise UserError(f"{kind} {source!r}, column {error.offset or 1}: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{kind} {source[:60]!r}...: nested too deeply") from None


class _Reader(NamedTuple):
    source: str
    references: dict[int, str]  # column -> reference
    objects: Mapping[str, Callable]
    kind: str
    catalogue: Mapping[str, str]

    def sum(self, node: ast.expr) -> Tree:
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
            return self.product(node)
        parts: list[Tree] = []
        for side in (node.left, node.right):
            part = self.sum(side)
            if isinstance(part, Number):
                raise self.refusal(side, "a number cannot be added to a bonus; it scales one, as in '0.5 * rnd'")
            parts.extend(part.terms if isinstance(part, Add) else [part])
        return Add(tuple(parts))

    def product(self, node: ast.expr) -> Tree:
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
            return self.term(node)
        scale, factors = None, []
        for side in (self.sum(node.left), self.sum(node.right)):
            for part in side.terms if isinstance(side, Product) else (side,):
                if isinstance(part, Number):
                    scale = part.value if scale is None else scale * part.value
                else:
                    factors.append(part)
        if scale is None:
            return Product(tuple(factors))
        if not math.isfinite(scale):
            raise self.refusal(node, "not a finite number")
        if not factors:
            return Number(scale)
        return Product((Number(as_float32(f"factor of {self.kind} {self.source!r}", scale)), *factors))

    def term(self, node: ast.expr) -> Tree:
        if isinstance(node, (ast.Constant, ast.UnaryOp)):
            value = self.number(node)
            if isinstance(value, bool):
                raise self.refusal(node, "not a bonus")
            return Number(float(value))
        if isinstance(node, ast.Name):
            return self.call(node, [], [])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self.call(node.func, node.args, node.keywords)
        raise self.refusal(node, "only names, references, numbers, keywords, +, * and parentheses are allowed")

    def call(self, name: ast.Name, arguments: list[ast.expr], keywords: list[ast.keyword]) -> Call:
        reference = self.reference(name)
        known = _signature(reference, self.objects)
        names = {reference: name for name, reference in self.catalogue.items()}
        label = names.get(reference, reference.partition(":")[2])
        if arguments and not known.rewards:
            raise self.refusal(arguments[0], f"{label!r} takes keywords only")
        least = LEAST_PARTS.get(names.get(reference, ""), 1)
        if known.rewards and len(arguments) < least:
            count = f"at least {least} between its parentheses, not {len(arguments)}"
            raise self.refusal(name, f"{label!r} combines bonuses: write {count}")
        children = tuple(map(self.sum, arguments))
        for node, child in zip(arguments, children, strict=True):
            if isinstance(child, Number):
                raise self.refusal(node, "a number alone is not a bonus")
        allowed = {**known.swept, **known.static}
        written: dict[str, Any] = {}
        for keyword in keywords:
            if keyword.arg not in allowed:
                raise unknown(f"{label} parameter", keyword.arg or "**", allowed)
            if keyword.arg in written:
                raise self.refusal(keyword.value, f"{keyword.arg!r} is written twice")
            default, node = allowed[keyword.arg], keyword.value
            value = self.word(node) if isinstance(default, str) else self.value(node)
            value = coerce(full := f"{label}.{keyword.arg}", value, allowed[keyword.arg])
            if isinstance(value, float):
                check_range(full, value)
            written[keyword.arg] = as_float32(full, value) if keyword.arg in known.swept else value
        return Call(reference, label, written, children)

    def reference(self, name: ast.Name) -> str:
        if name.col_offset in self.references:
            reference = self.references[name.col_offset]
            if reference not in {*self.objects, *self.catalogue.values()}:
                references.check(self.kind, reference)
            return reference
        own = {reference.partition(":")[2]: reference for reference in self.objects}
        if name.id not in {**self.catalogue, **own}:
            raise unknown(self.kind, name.id, {**self.catalogue, **own})
        candidates = {table[name.id] for table in (self.catalogue, own) if name.id in table}
        if len(candidates) > 1:
            raise self.refusal(name, f"the catalogue has this name too: write {own[name.id]!r}, or rename yours")
        return candidates.pop()

    def word(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            return node.value
        return self.value(node)

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Tuple):
            return tuple(map(self.number, node.elts))
        return self.number(node)

    def number(self, node: ast.expr) -> float | int | bool:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value = self.number(node.operand)
            if not isinstance(value, bool):
                return -value
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            if abs(node.value) > 1e300:  # also keeps huge integers from overflowing on the way to float
                raise self.refusal(node, "not a finite number")
            return node.value
        raise self.refusal(node, "only a number, True, False or a tuple of numbers is allowed here")

    def refusal(self, node: ast.expr, why: str) -> UserError:
        text = self.source[node.col_offset : node.end_col_offset]
        return UserError(f"{self.kind} {self.source!r}, column {node.col_offset + 1}: {text!r} refused: {why}")
