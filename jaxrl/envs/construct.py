"""From a class, a function or an environment, and keyword arguments, to a Task."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxrl.envs.contract import Task, task_of
from jaxrl.envs.params import param_names, replaced
from jaxrl.errors import UserError, unknown
from jaxrl.shapes import place, reason


def construct(name: str, source: Any, kwargs: dict[str, Any]) -> Task:
    """Call ``source`` (unless it is an environment already) and put the other arguments into its params.

    Raises UserError for an argument that is neither a constructor's nor a field of the params, and for values that the
    constructor refuses.
    """
    is_environment = hasattr(source, "reset") and not isinstance(source, type)
    if not is_environment and not callable(source):
        raise UserError(
            f"environment {name!r} must be a class, a function or an object with reset and step, not {type(source)}"
        )
    accepted, open_ended = ([], False) if is_environment else arguments_of(source)
    arguments = {key: value for key, value in kwargs.items() if open_ended or key in accepted}
    try:
        env = source if is_environment else source(**arguments)
    except (UserError, ImportError):
        raise
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments"
        raise UserError(f"environment {name!r} cannot be made with {given}{place(error)}: {reason(error)}") from error
    env = _adapted(env)
    params = getattr(env, "default_params", None)
    fields = param_names(params)
    for key, value in kwargs.items():
        if key in arguments:
            continue
        if key not in fields:
            raise unknown(f"argument of {name}", key, {*accepted, *fields})
        params = replaced(params, key, value)
    return task_of(env, params, name)


def arguments_of(factory: Callable) -> tuple[list[str], bool]:
    """The keywords that ``factory`` accepts, and whether it accepts any.

    A class that passes ``**kwargs`` on also accepts the optional arguments of its bases.
    """
    signatures = [inspect.signature(factory)]
    if isinstance(factory, type):
        bases = [base for base in factory.__mro__[1:] if base is not object and "__init__" in vars(base)]
        signatures += [inspect.signature(vars(base)["__init__"]) for base in bases]
    accepted = []
    for depth, signature in enumerate(signatures):
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        accepted += [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and (depth == 0 or parameter.default is not parameter.empty)
        ]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return accepted, False
    return accepted, True


def _adapted(env: Any) -> Any:
    """A gymnax or brax environment, the libraries' or a user's, behind its adapter; any other as it is."""
    libraries = {base.__module__.partition(".")[0] for base in type(env).__mro__}
    if "gymnax" in libraries:
        from jaxrl.envs.gymnax import Gymnax

        return Gymnax(env)
    if "brax" in libraries:
        from jaxrl.envs.brax import Brax

        return Brax(env)
    return env
