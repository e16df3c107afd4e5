"""Environments by name, by reference, or from Python: ``make``. Names are known here without importing jax."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxrl import references
from jaxrl.errors import UserError, unknown

if TYPE_CHECKING:
    from jaxrl.envs.check import check_env as check_env
    from jaxrl.envs.contract import AutoReset as AutoReset
    from jaxrl.envs.contract import Task as Task
    from jaxrl.envs.contract import task_of as task_of
    from jaxrl.envs.gymnasium_env import to_gymnasium as to_gymnasium
    from jaxrl.types import Box as Box
    from jaxrl.types import Discrete as Discrete

_LAZY = {
    **dict.fromkeys(("AutoReset", "Task", "task_of"), "jaxrl.envs.contract"),
    **dict.fromkeys(("Box", "Discrete"), "jaxrl.types"),
    "check_env": "jaxrl.envs.check",
    "to_gymnasium": "jaxrl.envs.gymnasium_env",
}


def names() -> dict[str, str]:
    """Every registered environment name and the source it comes from, as catalogue.csv lists them; imports no jax."""
    from jaxrl.envs.catalogue import rows

    return {name: row.source for name, row in rows().items()}


def check_name(env: str) -> None:
    """Raise UserError for a name that ``make`` would refuse; a reference is checked for its form only, not imported."""
    if ":" in env:
        if not references.FORM.fullmatch(env):
            raise UserError(f"environment reference {env!r} must read package.module:Name, as in my_pkg.worlds:Maze")
    elif env not in names():
        from jaxrl.envs.catalogue import UNSOLVABLE, why_not

        raise UserError(why_not(env)) if env in UNSOLVABLE else unknown("environment", env, names())


def make(env: Any, *, wrap: Sequence[str] = (), **kwargs: Any) -> "Task":
    """The task for a name, a reference ``package.module:Name``, or a class, function or environment from Python.

    ``kwargs`` are arguments of the environment's constructor or fields of its params; ``wrap`` are wrappers around it,
    innermost first, as in ``"sticky_actions(probability=0.1)"``. Raises UserError for an unknown name or argument, a
    package that is not installed, and an environment that lacks a part of the contract.
    """
    if wrap:
        return importlib.import_module("jaxrl.envs.wrappers.wrapper").wrapped(make(env, **kwargs), wrap)
    if isinstance(env, str):
        check_name(env)
        if ":" not in env:
            return _registered(env, kwargs)
        name, env = env, references.load("environment", env)
    else:
        name = getattr(env, "__name__", type(env).__name__)
    return importlib.import_module("jaxrl.envs.construct").construct(name, env, kwargs)


def _registered(name: str, kwargs: dict[str, Any]) -> "Task":
    from jaxrl.envs.catalogue import SOURCES

    source = SOURCES[names()[name]]
    try:
        return importlib.import_module(source.module).make(name, **kwargs)
    except ModuleNotFoundError as error:
        if source.package == "jaxrl" or (error.name or "").startswith("jaxrl"):
            raise
        raise UserError(
            f"environment {name!r} needs the package {error.name!r}, which is not installed here: {source.cure}"
        ) from error


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
