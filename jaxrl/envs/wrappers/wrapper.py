"""The base class of wrappers, and a task with wrappers around its environment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrl import references
from jaxrl.envs.contract import AutoReset, Task, actions_of, solved_of, step_limit, task_of
from jaxrl.envs.params import Around
from jaxrl.envs.wrappers import read, text_of
from jaxrl.errors import UserError
from jaxrl.shapes import place, reason
from jaxrl.types import Box, Discrete, Key, PyTree


class Wrapper(AutoReset):
    """An environment around an AutoReset: write ``reset_env`` and ``step_env``, everything else is the inner one's.

    `own` is a dataclass of numbers, registered as a pytree: the wrapper's part of the params, which are then
    ``Around(own, inner)``. A wrapper that remembers something returns states ``Around(own, inner)``; one that does not
    says ``remembers = False`` and returns the inner states as they are. ``self.env`` is what is wrapped, and
    ``unwrapped`` takes a state and params to what it expects.
    """

    remembers = True

    def __init__(self, env: Any, own: Any = None):
        self.env, self.own = env, own
        self._check_inner()
        self.default_params = self.around(getattr(env, "default_params", None))
        self.lazy_reset = getattr(env, "lazy_reset", False)
        self.num_states = getattr(env, "num_states", None)
        self.map_shape, self.map_cells = (getattr(env, name, None) for name in ("map_shape", "map_cells"))
        self.state_id = self._of_inner("state_id")
        if render := self._of_inner("render"):
            self.render = render

    def around(self, params: Any) -> Any:
        """The params of this environment, given those of the inner one."""
        return params if self.own is None else Around(self.own, params)

    def inner_params(self, params: Any) -> Any:
        return params if self.own is None else params.inner

    def unwrapped(self, state: PyTree, params: Any) -> tuple[PyTree, Any]:
        return state.inner if self.remembers else state, self.inner_params(params)

    def action_space(self, params: Any) -> Discrete | Box:
        return actions_of(type(self.env).__name__, self.env, self.inner_params(params))

    def max_steps(self, params: Any) -> Any:
        return step_limit(self.env, self.inner_params(params))

    def solved(self, params: Any) -> Any:
        return solved_of(self.env, self.inner_params(params))

    def reset_env(self, key: Key, params: Any) -> tuple[PyTree, PyTree]:
        return self.env.reset_env(key, self.inner_params(params))

    def _check_inner(self) -> None:
        if hasattr(self.env, "unaugmented"):
            raise UserError(
                f"{type(self).__name__} cannot be put around augment_obs: make augment_obs the last wrapper, because "
                "bonuses read the environment's own observation from it"
            )
        if not (callable(getattr(self.env, "reset_env", None)) and callable(getattr(self.env, "step_env", None))):
            bare = getattr(self.env, "env", self.env)  # a tree of observations was flattened on the way
            raise UserError(
                f"environment {type(bare).__name__!r} cannot be wrapped, because it has reset and step only: derive it "
                "from jaxrl.envs.AutoReset and write reset_env and step_env"
            )

    def _of_inner(self, name: str) -> Callable | None:
        function = getattr(self.env, name, None)
        return function and (lambda state, params: function(*self.unwrapped(state, params)))


def wrapped(task: Task, wrap: Sequence[str | Callable], objects: Mapping[str, Callable] | None = None) -> Task:
    """The task with wrappers around its environment, the first of `wrap` innermost.

    Each is an expression, ``sticky_actions(probability=0.1)``, of a name in CATALOGUE or a reference
    ``package.module:factory``, or from Python a factory that takes an environment. Numbers that the task's params were
    given stay. Raises UserError for what cannot be read, an environment without ``reset_env`` and ``step_env``, and
    whatever the wrapper refuses.
    """
    env, params = task.env, task.params
    for entry in wrap:
        factory, keywords, label = _factory(entry, objects or {})
        try:
            env = factory(env, **keywords)
        except UserError:
            raise
        except Exception as error:
            what = f"wrapper {label!r} cannot be put around environment {task.name!r}{place(error)}"
            raise UserError(f"{what}: {reason(error)}") from error
        if not isinstance(env, Wrapper):
            raise UserError(
                f"wrapper {label!r} made a {type(env).__name__}: it must return a jaxrl.envs.wrappers.Wrapper"
            )
        params = env.around(params)
    return task_of(env, params, task.name)


def _factory(entry: str | Callable, objects: Mapping[str, Callable]) -> tuple[Callable, dict[str, Any], str]:
    if callable(entry):
        return entry, {}, getattr(entry, "__name__", str(entry))
    call = read(entry, objects)
    return references.load("wrapper", call.reference, objects), call.keywords, text_of(call)
