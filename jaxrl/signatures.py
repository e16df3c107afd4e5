"""What a factory takes, read from its source: naming a bonus or an agent needs neither jax nor the user's package.

The convention of every factory: a positional parameter with a default is a number that may be swept; a keyword-only
parameter is static; a parameter without a default is supplied by the builder; `*rewards` are the parts of a combinator.
The comment that ends a parameter's line is its help.

Also here: fingerprints of source code, blind to comments, docstrings and layout.
"""

import ast
import functools
import hashlib
import importlib.metadata
import inspect
import io
import math
import textwrap
import tokenize
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.errors import UserError, quoted
from jaxrl.references import absolute, check_bound, locate, parsed, split

PACKAGE = Path(__file__).parent
WITHOUT_EFFECT_ON_NUMBERS = (
    *("cli.py", "flags.py", "display.py", "listing.py", "devices.py", "__main__.py", "metrics.py", "errors.py"),
    "doctor.py",
    *("shapes.py", "envs/check.py", "intrinsic/check.py", "agents/check.py", "envs/gymnax_pictures.py"),
    *("results", "calibrate", "reproduce"),
    *("trackers", "executors", "checkpoint.py", "disk.py", "foreign.py", "spec/tables.py", "spec/draws.py"),
    *(f"sweep/{name}.py" for name in ("run", "claims", "tune", "study", "trials", "forecast", "ledger", "confirm")),
)
NUMERIC_DEPENDENCIES = ("jax", "jaxlib", "flax", "optax", "gymnax", "brax", "numpy")


_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    str: "a word",
    tuple: "a list of numbers",
}


class Signature(NamedTuple):
    swept: dict[str, float]  # positional, with a number as default: may be traced
    static: dict[str, Any]  # keyword-only, with a literal default
    supplied: tuple[str, ...]  # without default: the builder gives them
    rewards: bool  # takes `*rewards`
    help: dict[str, str]
    doc: str  # docstring of its module or, of an object, its own


def signature(factory: str | Callable) -> Signature:
    """The signature of a function, or of a reference ``"package.module:name"`` whose module is not executed.

    A keyword-only parameter whose default is not a literal keeps it and cannot be set by name.
    Raises UserError when the module or the name cannot be found, or a swept parameter's default is not a number.
    """
    return _of_object(factory) if callable(factory) else _of_reference(factory)


def summary(reference: str) -> str:
    """The docstring of the function behind a reference, whose module is not executed; "" where there is none."""
    module, name = split(reference)
    found = [node for node in parsed(locate(module)).body if isinstance(node, ast.FunctionDef) and node.name == name]
    return (ast.get_docstring(found[0]) or "") if found else ""


def source_fingerprint(source: str | Callable) -> str:
    """SHA-256 of the code behind a reference or a function or class: hex string.

    A reference, or an object that one could name, covers its module and, transitively, the modules beside it that it
    imports, and the versions of the installed packages that those import. An object of a script, a notebook cell or
    another function covers its own source only; a function that closes over a variable is refused, because its source
    does not show the value.
    """
    if not isinstance(source, str):
        reference = identity(source)
        if source.__module__ == "__main__" or source.__qualname__ != source.__name__:
            return hashlib.sha256(_code(ast.parse(_source_of(source))).encode()).hexdigest()
        source = reference
    digest = hashlib.sha256()
    modules, packages = _with_local_imports(split(source)[0])
    for module, path in sorted(modules.items()):
        digest.update(f"{module}\n{_code(parsed(path))}\n".encode())
    providers = _distributions()
    names = sorted({name for top in packages for name in providers.get(top, ())})
    for name, version in installed(tuple(names)).items():
        digest.update(f"{name}=={version}\n".encode())
    return digest.hexdigest()


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@functools.cache
def code_fingerprint() -> str:
    """SHA-256 of every module of jaxrl that can change a number and the versions of what computes it: hex string."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if not {relative.parts[0], relative.as_posix()} & {*WITHOUT_EFFECT_ON_NUMBERS}:
            digest.update(f"{relative.as_posix()}\n{_code(parsed(path))}\n".encode())
    for name, version in installed(NUMERIC_DEPENDENCIES).items():
        digest.update(f"{name}=={version}\n".encode())
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 of the code of one module's file: hex string."""
    return hashlib.sha256(_code(parsed(path)).encode()).hexdigest()


def installed(names: tuple[str, ...]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is absent."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def coerce(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`; raises UserError when it has no such meaning."""
    fault = UserError(
        f"{name} = {quoted(value)}: expected {_KINDS.get(type(default), 'a value')}, as its default {default!r} is"
    )
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise fault
    elif isinstance(default, (int, float)):
        value = _coerce_number(value, whole=isinstance(default, int), fault=fault)
    elif isinstance(default, tuple):
        if not isinstance(value, (tuple, list)):
            raise fault
        value = tuple(coerce(name, item, default[0]) if default else item for item in value)
    elif isinstance(default, str):
        if not isinstance(value, str):
            raise fault
    elif not is_literal(value):
        raise fault
    return value


def _coerce_number(value: Any, whole: bool, fault: UserError) -> float | int:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise fault from None
    if isinstance(value, bool) or not math.isfinite(number) or (whole and not number.is_integer()):
        raise fault
    return int(number) if whole else number + 0.0  # -0.0 becomes 0.0: equal numbers, one spelling


def identity(thing: Any) -> str:
    """``"module:name"`` of a named function or class; raises UserError for anything without a name and a source."""
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        raise UserError(
            f"{thing!r} is neither a function nor a class: its source cannot be read back, "
            "so results could not say what made them. Pass the class (with env_args) or a function"
        )
    if not thing.__name__.isidentifier():
        raise UserError(f"a lambda in module {thing.__module__!r} has no name: write it with `def`")
    return f"{thing.__module__}:{thing.__name__}"


def _of_reference(reference: str) -> Signature:
    check_bound(reference)
    module, name = split(reference)
    path = locate(module)
    tree = parsed(path)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_definition(reference, node, tree, path)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _of_reference(f"{absolute(node, module, path)}:{alias.name}")
    raise UserError(f"{reference!r} is not defined by `def`: a factory is a plain function")


def _of_definition(reference: str, node: ast.FunctionDef, tree: ast.Module, path: Path) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    unset = [None] * (len(positional) - len(arguments.defaults))
    swept, static, supplied = {}, {}, []
    for argument, default in zip(positional, [*unset, *arguments.defaults], strict=True):
        if default is None:
            supplied.append(argument.arg)
        else:
            swept[argument.arg] = _number(reference, argument.arg, _literal(default))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is None:
            supplied.append(argument.arg)
        elif is_literal(value := _literal(default)):
            static[argument.arg] = value
    lines = [argument.lineno for argument in (*positional, *arguments.kwonlyargs)]
    comments = _comments(path)
    described = {
        argument.arg: comments[argument.lineno]
        for argument in (*positional, *arguments.kwonlyargs)
        if lines.count(argument.lineno) == 1 and argument.lineno != node.lineno and argument.lineno in comments
    }
    doc = ast.get_docstring(tree) or ""
    return Signature(swept, static, tuple(supplied), arguments.vararg is not None, described, doc)


def _of_object(factory: Callable) -> Signature:
    swept, static, supplied, rewards = {}, {}, [], False
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rewards = True
        elif parameter.kind is parameter.VAR_KEYWORD:
            continue
        elif parameter.default is parameter.empty:
            supplied.append(name)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if is_literal(parameter.default):
                static[name] = parameter.default
        else:
            swept[name] = _number(identity(factory), name, parameter.default)
    return Signature(swept, static, tuple(supplied), rewards, {}, inspect.getdoc(factory) or "")


_NOT_LITERAL = object()


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):  # 2**16, the one sum that defaults are written as
        base, exponent = _literal(node.left), _literal(node.right)
        if isinstance(base, int) and isinstance(exponent, int) and 0 <= exponent <= 64:
            return base**exponent
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _NOT_LITERAL


def is_literal(value: Any) -> bool:
    """True for None, a bool, a word, a finite number, and lists of these: what JSON keeps and a hash can rely on."""
    if isinstance(value, (tuple, list)):
        return all(map(is_literal, value))
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def _number(reference: str, name: str, default: Any) -> float:
    if isinstance(default, bool) or not isinstance(default, (int, float)):
        raise UserError(
            f"parameter {name!r} of {reference!r} is positional, so it can be swept, but its default is not a number: "
            "make it keyword-only (after `*`)"
        )
    return float(default)


def _comments(path: Path) -> dict[int, str]:
    return _comments_of_version(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _comments_of_version(path: Path, mtime_ns: int) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _with_local_imports(module: str) -> tuple[dict[str, Path], set[str]]:
    """The module and, transitively, every module it imports from the directory it was found in; name -> file.

    And the top-level names of whatever else they import: installed packages count as their versions do, not line by
    line, unless the module is inside one.
    """
    top = module.split(".")[0]
    root = locate(module).parents[module.count(".") + (locate(module).name == "__init__.py")]
    found: dict[str, Path] = {}
    packages: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        try:
            path = locate(name)
        except UserError:  # the name of a function, a built-in or compiled module
            packages.add(name.split(".")[0])
            continue
        local = path.is_relative_to(root) and "site-packages" not in path.parts
        if name in found or name.split(".")[0] == "jaxrl":
            continue
        if not (local or name.split(".")[0] == top):
            packages.add(name.split(".")[0])
            continue
        found[name] = path
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                waiting.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = absolute(node, name, path)
                waiting.extend([origin, *(f"{origin}.{alias.name}" for alias in node.names)])
    return found, packages


def _code(tree: ast.Module) -> str:
    """The code of a module without comments, docstrings or layout."""
    tree = ast.parse(ast.unparse(tree))  # a copy: the parsed tree is cached, and its docstrings are read elsewhere
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = (node.body[1:] if documented else node.body) or [ast.Pass()]
    return ast.unparse(tree)


def _source_of(thing: Callable) -> str:
    name = identity(thing)
    try:
        source = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        raise UserError(f"the source of {name!r} cannot be read: put it in a file or a notebook cell") from None
    if inspect.isfunction(thing):
        for variable, value in inspect.getclosurevars(thing).nonlocals.items():
            if not isinstance(value, types.ModuleType):
                raise UserError(
                    f"{name!r} closes over {variable!r}, whose value its source does not show: make it a parameter"
                )
    return source
