"""What checks of user code share: shapes and dtypes in words, trees compared, and where in a file a function failed.

Nothing is compiled: functions are traced for their shapes alone (`jax.eval_shape`).
"""

import contextlib
import linecache
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.errors import UserError
from jaxrl.types import PyTree

PACKAGE = Path(__file__).parent
INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
UNKNOWN_VALUE = "a value that is known only when the program runs"
# What the tracer's own errors mean to somebody who wrote Python; the first that fits.
HINTS = {
    jax.errors.TracerBoolConversionError: f"`if`, `while`, `and`, `or` and `not` ask for {UNKNOWN_VALUE}: use "
    "jnp.where, jax.lax.cond or jnp.logical_and",
    jax.errors.TracerIntegerConversionError: f"a Python index or range asks for {UNKNOWN_VALUE}: use jax.numpy, "
    "jax.lax.dynamic_slice or jax.lax.fori_loop",
    jax.errors.TracerArrayConversionError: f"NumPy asks for {UNKNOWN_VALUE}: use jax.numpy",
    jax.errors.NonConcreteBooleanIndexError: "the shape of x[mask] is known only when the program runs: use jnp.where",
    jax.errors.ConcretizationTypeError: f"a Python number is made of {UNKNOWN_VALUE}: leave it an array",
    jax.errors.UnexpectedTracerError: "a value of an earlier call was kept outside of it, in self or in a global: "
    "carry it in the state",
}


class ContractError(UserError):
    """Somebody's environment, bonus or agent does not keep what its type promises."""


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Turns whatever a user's function raises into a sentence that begins with `what` and names the line of its file.

    Raises:
        ContractError: caused by the error. A UserError passes as it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ContractError(f"{what} failed{place(error)}: {reason(error)}") from error


def made(what: str, kind: type, factory: Callable, *arguments: Any, **keywords: Any) -> Any:
    """What a user's factory returns; raises ContractError unless it is of the type `kind`."""
    with calling(what):
        result = factory(*arguments, **keywords)
    if not isinstance(result, kind):
        raise ContractError(f"{what} must return a jaxrl.types.{kind.__name__}, and returned {words(result)}")
    return result


def arrays(what: str, tree: PyTree) -> PyTree:
    """Shape, dtype and weak type of every leaf; raises ContractError for one that is no array and no number."""

    def leaf(path, x):
        if isinstance(x, jax.ShapeDtypeStruct):
            return x
        try:
            return jax.typeof(x)
        except TypeError:
            place = what + jax.tree_util.keystr(path)
            raise ContractError(f"{place} is {described(x)}, it must be an array or a number") from None

    return jax.tree.map_with_path(leaf, tree)


def parts(what: str, names: str, result: Any) -> tuple:
    """The values that a function returned, as many as `names`, ``"(state, memory)"``, has; raises ContractError."""
    count = names.count(",") + 1
    if not isinstance(result, (tuple, list)) or len(result) != count:
        returned = f"{len(result)} values" if isinstance(result, (tuple, list)) else f"a single value, {words(result)}"
        raise ContractError(f"{what} must return {names}, and returned {returned}")
    return tuple(result)


def same(what: str, before: PyTree, after: PyTree, origins: tuple[str, str]) -> None:
    """Raises ContractError unless two trees agree in structure, shapes, dtypes and weak types.

    `origins` are the functions that they came from, as in ``("init", "update")``.
    """
    trees = jax.tree.structure(before), jax.tree.structure(after)
    if trees[0] != trees[1]:  # type: ignore[operator]
        shown = [str(tree).removeprefix("PyTreeDef(").removesuffix(")") for tree in trees]
        raise ContractError(f"{what} has the structure {shown[0]} from {origins[0]} and {shown[1]} from {origins[1]}")
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if described(old) != described(new):
            place = what + jax.tree_util.keystr(path)
            raise ContractError(
                f"{place} is {described(old)} from {origins[0]} and {described(new)} from {origins[1]}"
            )


def leads_with(what: str, tree: PyTree, length: int, axis: str) -> None:
    """Raises ContractError unless every leaf has a first axis of `length`, which is called `axis`."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if leaf.shape[:1] != (length,):
            place = what + jax.tree_util.keystr(path)
            raise ContractError(f"{place} is {described(leaf)}, its first axis must be {axis} = {length}")


def scalars(what: str, metrics: Any) -> None:
    """Raises ContractError unless `metrics` is a dict of real scalars by name."""
    if not isinstance(metrics, dict):
        raise ContractError(f"{what} must be a dict of scalars by name, not {words(metrics)}")
    for name, value in metrics.items():
        if isinstance(value, (dict, tuple, list)) or value is None or not is_real_scalar(arrays(what, value)):
            raise ContractError(f"{what} must be a dict of scalars by name, but {name!r} is {words(value)}")


def is_real_scalar(shape: Any) -> bool:
    return shape.shape == () and (
        jnp.issubdtype(shape.dtype, jnp.floating) or jnp.issubdtype(shape.dtype, jnp.integer) or shape.dtype == bool
    )


def begun(what: str, init: Callable, example: Any) -> tuple[PyTree, PyTree]:
    """Shapes of the (state, memory) that `init(key, example)` returns; memory must lead with the environments."""

    def both(key):
        with calling(f"{what}: init"):
            result = init(key, example)
        state, memory = parts(f"{what}: init", "(state, memory)", result)
        remembered = arrays(f"{what}: the memory", memory)
        leads_with(f"{what}: the memory", remembered, example.first.shape[0], "num_envs")
        arrays(f"{what}: the state", state)
        return state, memory

    return jax.eval_shape(both, jax.eval_shape(jax.random.key, 0))


def learned(what: str, updated: Any, state: PyTree) -> tuple[str, ...]:
    """Names of the metrics in what `update` returned, whose state must look like `state`, from init."""
    after, metrics = parts(f"{what}: update", "(state, metrics)", updated)
    scalars(f"{what}: the metrics, the second value of update,", metrics)
    same(f"{what}: the state", state, arrays(f"{what}: the state", after), ("init", "update"))
    return tuple(metrics)


def described(leaf: Any) -> str:
    """``float32[3]``; of what is no array, its type."""
    if not hasattr(leaf, "dtype"):
        return f"a {type(leaf).__name__}"
    weak = " (weak type, from a Python number)" if getattr(leaf, "weak_type", False) else ""
    return f"{leaf.dtype}{list(leaf.shape)}{weak}"


def words(tree: PyTree) -> str:
    """A tree in one line: ``{mean: float32[6], n: int32[]}``."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name}: {words(value)}" for name, value in tree.items()) + "}"
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        inside = (f"{name}={words(value)}" for name, value in zip(tree._fields, tree, strict=True))
        return f"{type(tree).__name__}({', '.join(inside)})"
    if isinstance(tree, (tuple, list)):
        return "(" + ", ".join(map(words, tree)) + ")"
    return "None" if tree is None else described(tree)


def reason(error: Exception) -> str:
    """The kind of an error and the first line of what it says; of a tracer's, also what it means."""
    said = str(error).strip().partition("\n")[0]
    hint = next((f"; {hint}" for kind, hint in HINTS.items() if isinstance(error, kind)), "")
    return f"{type(error).__name__}{said and ': '}{said}{hint}"


def place(error: Exception) -> str:
    """Where the user's own code was when it failed, jaxrl's where none of it was running; "" where neither was."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if linecache.getline(frame.f_code.co_filename, line)
    ]
    inside = [place for place in frames if Path(place[0]).is_relative_to(PACKAGE) and place[0] != __file__]
    own = [place for place in frames if not place[0].startswith((str(PACKAGE), *INSTALLED))]
    if not (found := (own or inside)[-1:]):
        return ""
    file, line = found[0]
    return f" in {file}, line {line}, `{linecache.getline(file, line).strip()}`"
