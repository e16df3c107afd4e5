"""Environment parameters by name: through wrappers, and as traced numbers that differ between lanes.

A number of ``params`` is a lane's own if nothing static depends on it: no step limit, no space, no shape, no Python
``if``. Such a number belongs among the environment's arguments, where it makes a program of its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import Task, actions_of, sample_action, solved_of, step_limit
from jaxrl.errors import UserError, unknown
from jaxrl.keys import key_of
from jaxrl.types import Array

MOST_EXACT = 2**24  # lanes carry their values as float32, which holds every whole number up to here
LIMIT = "the step limit"


class Around(NamedTuple):
    """What a wrapper adds (`own`) around what it wraps (`inner`): its numbers around params, its memory around a state.

    Fields of params can be read by flat names: ``params.contexts`` is the outermost wrapper's that has it, else the
    environment's.
    """

    own: Any
    inner: Any

    def __getattr__(self, name: str) -> Any:
        if name in param_names(self):
            return _read(self, name)
        raise AttributeError(f"neither the environment's params nor its wrappers' have a field {name!r}")


def param_names(params: Any) -> list[str]:
    """The fields of an environment's params dataclass, and of its wrappers' from the outermost inwards."""
    if isinstance(params, Around):
        return list(dict.fromkeys([*param_names(params.own), *param_names(params.inner)]))
    return [field.name for field in dataclasses.fields(params)] if dataclasses.is_dataclass(params) else []


def replaced(params: Any, name: str, value: Any) -> Any:
    """The params with another value for one field; where several have the name, the outermost wrapper's is meant."""
    if isinstance(params, Around):
        part = "own" if name in param_names(params.own) else "inner"
        return params._replace(**{part: replaced(getattr(params, part), name, value)})
    return dataclasses.replace(params, **{name: value})


def with_numbers(task: Task, numbers: Mapping[str, Array]) -> Task:
    """The task with other numbers in its params, each ``[]``, traced or not, cast to the dtype of the field's default.

    A `solved` rule that is a function of params is asked again with these; where it cannot answer for traced numbers
    (it compares them with published defaults, say) the task has no threshold, and `solved` is measured as NaN.
    Raises UserError for an unknown name and for a field that is not one number.
    """
    if not numbers:
        return task
    params = task.params
    for name, number in numbers.items():
        params = replaced(params, name, jnp.asarray(number).astype(_dtype(task, name)))
    try:
        solved = solved_of(task.env, params)
    except jax.errors.JAXTypeError:
        solved = None
    return task._replace(params=params, solved=solved)


def check_traceable(task: Task, name: str) -> None:
    """Raises UserError unless a field of the params may be a traced number, by following one through reset and step."""

    def follow(number):
        params = replaced(task.params, name, number)
        if isinstance(step_limit(task.env, params), jax.core.Tracer):
            raise TypeError(LIMIT)
        actions, key = actions_of(task.name, task.env, params), key_of(0)
        _, state = task.env.reset(key, params)
        return task.env.step(key, state, sample_action(actions, key), params)[0]

    try:
        jax.eval_shape(follow, jax.ShapeDtypeStruct((), _dtype(task, name)))
    except (TypeError, jax.errors.JAXIndexError) as error:
        what = LIMIT if str(error) == LIMIT else "a shape, a bound of the actions or a branch of Python code"
        raise UserError(
            f"params.{name} of environment {task.name!r} cannot differ between lanes of one program, because it "
            f"decides {what}: give it in env_args, as env_args.{name}"
        ) from error


def check_numbers(task: Task, numbers: Mapping[str, float]) -> None:
    """Raises UserError for a number that its field cannot hold: a fraction in a whole number's, 2 in a flag's.

    Environments check ranges where they tell what counts as solved, so they are asked that too.
    """
    params = task.params
    for name, number in numbers.items():
        dtype = _dtype(task, name)
        flag, whole = dtype == jnp.bool_, jnp.issubdtype(dtype, jnp.integer)
        if flag and number not in (0, 1):
            raise UserError(f"params.{name} = {number!r} of environment {task.name!r}: must be 0 or 1")
        if whole and not (float(number).is_integer() and abs(number) <= MOST_EXACT):
            must = f"must be a whole number, at most {MOST_EXACT:,}"
            raise UserError(f"params.{name} = {number!r} of environment {task.name!r}: {must}")
        params = replaced(params, name, dtype.type(number).item())
    if numbers:
        solved_of(task.env, params)


def _dtype(task: Task, name: str) -> Any:
    if name not in (known := param_names(task.params)):
        raise unknown(f"params field of environment {task.name!r}", name, known)
    default = _read(task.params, name)
    if isinstance(default, (str, type(None))) or np.ndim(default) != 0:
        raise UserError(f"params.{name} of environment {task.name!r} is {default!r}, not one number")
    return jnp.asarray(default).dtype


def _read(params: Any, name: str) -> Any:
    while isinstance(params, Around):
        params = params.own if name in param_names(params.own) else params.inner
    return getattr(params, name)
