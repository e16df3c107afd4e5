"""References to a user's code, ``package.module:name``: found and judged in source, and imported through here alone.

A reference may come from a spec or from results that someone else wrote, so its module is executed only after its
source has shown that the name keeps the contract of its kind:

    environment   a class with `reset` and `step`, a function annotated with one, or an object made by either
    bonus, agent, trainer, wrapper   a function annotated with the record that it returns

Names are followed through imports. No jax here.
"""

import ast
import functools
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from jaxrl.errors import UserError, unknown

FORM = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
RECORDS = {
    "bonus": "jaxrl.types:IntrinsicReward",
    "agent": "jaxrl.types:Agent",
    "trainer": "jaxrl.types:Trainer",
    "wrapper": "jaxrl.envs.wrappers.wrapper:Wrapper",
}
ENVIRONMENT = ("reset", "step")
Definition = tuple[str, ast.stmt]  # the module and the statement that binds a name


def check(kind: str, reference: str) -> None:
    """Raises UserError unless the source of a reference shows that it keeps the contract of its kind.

    `kind` is environment, bonus, agent, trainer or wrapper. Nothing is imported.
    """
    try:
        locate(split(reference)[0])
    except UserError as error:
        raise UserError(f"{kind} {reference!r} is refused: {error}") from None
    check_bound(reference)
    found = definition(*split(reference))
    fault = _no_environment(found) if kind == "environment" else _no_factory(found, RECORDS[kind])
    if fault:
        raise UserError(f"{kind} {reference!r} is refused, and nothing of it was imported: {fault}")


def load(kind: str, reference: str, objects: Mapping[str, Callable] | None = None) -> Any:
    """What a reference names: of `objects`, the user's own from Python, or imported once its source was checked.

    Raises UserError as `check` does, and where a module is missing that the reference's own imports.
    """
    if objects and reference in objects:
        return objects[reference]
    check(kind, reference)
    module, name = split(reference)
    if is_only_here(reference) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no file of a directory stands in for an installed package
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{kind} {reference!r} needs the module {error.name!r}, which cannot be found") from error
    except Exception as error:  # whatever a user's module does
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UserError(
            f"{kind} {reference!r}: importing {module} failed in {last.filename}, line {last.lineno}: {said}"
        ) from error
    if not hasattr(imported, name):
        raise UserError(f"{kind} {reference!r}: the module, once imported, has no {name!r}")
    found = getattr(imported, name)
    methods = ENVIRONMENT if kind == "environment" and isinstance(found, type) else ()
    if missing := [method for method in methods if not callable(getattr(found, method, None))]:
        raise UserError(f"environment {reference!r} has no {' and no '.join(missing)}")
    return found


def check_allowed(program: Mapping[str, Any], allowed: Collection[str], directory: str | Path) -> None:
    """Raises UserError where a stored program names code that is not among `allowed`; reads no source of it."""
    asked = list(dict.fromkeys(reference for reference in named(program) if reference not in allowed))
    if asked:
        raise UserError(
            f"the results in {str(directory)!r} name the code {' and '.join(map(repr, asked))}, and code that results "
            f"name is not run unasked: if you trust it, pass --allow {' '.join(asked)}, or allow={asked!r} in Python"
        )


def named(program: Mapping[str, Any]) -> list[str]:
    """Every reference in the fields of a program, as it is written there."""
    texts = [program[key] for key in ("env", "agent", "trainer", "bonus") if key in program]
    return [match for text in (*texts, *program.get("wrap", ())) for match in FORM.findall(str(text))]


def split(reference: str) -> tuple[str, str]:
    if not FORM.fullmatch(reference):
        raise UserError(f"reference {reference!r} is not of the form 'package.module:name'")
    module, _, name = reference.partition(":")
    return module, name


def is_only_here(reference: str) -> bool:
    """Whether the module of a reference is found nowhere but, perhaps, in the current directory."""
    return _installed(reference.partition(":")[0].partition(".")[0]) is None


def check_bound(reference: str) -> None:
    """Raises UserError unless the module of a reference exists and binds the name."""
    module, name = split(reference)
    if name not in (bound := {name for node in _statements(parsed(locate(module)).body) for name in _bound(node)}):
        raise unknown(f"{module} name", name, bound)


def locate(module: str) -> Path:
    """The file of a module, found without executing any package on the way; installed ones before the directory's."""
    top, *rest = module.split(".")
    spec = _installed(top) or PathFinder.find_spec(top, [os.getcwd()])
    name = top
    for part in rest:
        name = f"{name}.{part}"
        spec = spec and PathFinder.find_spec(name, spec.submodule_search_locations or [])
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UserError(f"there is no Python source for module {module!r} on sys.path or in the current directory")
    return Path(spec.origin)


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file; raises UserError for one that is not Python."""
    return _parsed_version(path, path.stat().st_mtime_ns)


def definition(module: str, dotted: str, seen: set[tuple[str, str]] | None = None) -> Definition | None:
    """What binds a name in a module, followed through imports; None where the source does not show it."""
    first, _, rest = dotted.partition(".")
    seen = set() if seen is None else seen
    if (module, dotted) in seen:  # imports in a circle
        return None
    seen.add((module, dotted))
    try:
        path = locate(module)
        tree = parsed(path)
    except UserError:
        return None
    for node in reversed([*_statements(tree.body)]):
        if isinstance(node, ast.ImportFrom):
            origin = absolute(node, module, path)
            for alias in node.names:
                inner = dotted if alias.name == "*" else f"{alias.name}.{rest}".rstrip(".")
                binds = alias.name == "*" or first == (alias.asname or alias.name)
                if binds and (found := _inside(origin, inner, seen)):
                    return found
        elif first in _bound(node):
            if not isinstance(node, ast.Import):
                return None if rest else (module, node)
            names = {alias.asname or alias.name.partition(".")[0]: alias for alias in node.names}
            return _inside(names[first].name if names[first].asname else first, rest, seen)
    return None


def absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The full name of the module that a `from ... import` reads, in the module that lies at `path`."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    parent = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*parent, *([node.module] if node.module else [])])


def _installed(top: str) -> Any:
    try:
        return importlib.util.find_spec(top)
    except ValueError:  # already imported and without a spec, as `__main__` is
        return None


@functools.lru_cache(maxsize=256)
def _parsed_version(path: Path, mtime_ns: int) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno or 1}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} cannot be read as Python: {str(error) or type(error).__name__}") from None


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if` and `try` included."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            handlers = [statement for handler in getattr(node, "handlers", ()) for statement in handler.body]
            yield from _statements([*node.body, *handlers, *node.orelse])


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


def _inside(module: str, dotted: str, seen: set[tuple[str, str]]) -> Definition | None:
    """`definition`, where the name may begin with submodules."""
    if not dotted:
        return None
    if found := definition(module, dotted, seen):
        return found
    first, _, rest = dotted.partition(".")
    return _inside(f"{module}.{first}", rest, seen)


def _of(module: str, expression: ast.expr | None) -> Definition | None:
    """The definition that an annotation, a base class or a called function names."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):  # an annotation in quotes
        try:
            return _of(module, ast.parse(expression.value, mode="eval").body)
        except SyntaxError:
            return None
    if isinstance(expression, ast.Subscript):  # Generic[...]
        return _of(module, expression.value)
    if isinstance(expression, (ast.Name, ast.Attribute)):
        return definition(module, ast.unparse(expression))
    return None


def _lineage(found: Definition | None) -> list[tuple[str, ast.ClassDef]]:
    """A class and the classes that it derives from, as far as source shows them."""
    classes: list[tuple[str, ast.ClassDef]] = []
    waiting = [found]
    while waiting:
        found = waiting.pop()
        if found and isinstance(found[1], ast.ClassDef) and (found[0], found[1]) not in classes:
            classes.append((found[0], found[1]))
            waiting += [_of(found[0], base) for base in found[1].bases]
    return classes


def _no_environment(found: Definition | None) -> str:
    """Why a definition makes no environment; "" if it does."""
    if found and isinstance(found[1], ast.FunctionDef):
        made = _of(found[0], found[1].returns)
        if made is None or not isinstance(made[1], ast.ClassDef) or _no_environment(made):
            return "annotate the function with the class of the environment that it returns, one with reset and step"
        return ""
    if found and isinstance(found[1], (ast.Assign, ast.AnnAssign)) and isinstance(found[1].value, ast.Call):
        made = _of(found[0], found[1].value.func)
        if made and isinstance(made[1], (ast.FunctionDef, ast.ClassDef)) and not _no_environment(made):
            return ""
    if found and isinstance(found[1], ast.ClassDef):
        bound = {name for _, node in _lineage(found) for statement in node.body for name in _bound(statement)}
        missing = [method for method in ENVIRONMENT if method not in bound]
        return f"its class has no {' and no '.join(missing)}, as an environment has" if missing else ""
    return "its source shows neither a class with reset and step nor a function that is annotated with one"


def _no_factory(found: Definition | None, record: str) -> str:
    """Why a definition is no function that returns a record, "package.module:Name"; "" if it is."""
    module, _, name = record.partition(":")
    if not (found and isinstance(found[1], ast.FunctionDef)):
        return f"it must be a function, written with `def` and annotated with -> {name}"
    lineage = [(where, node.name) for where, node in _lineage(_of(found[0], found[1].returns))]
    return "" if (module, name) in lineage else f"annotate the function with -> {name} (from {module} import {name})"
