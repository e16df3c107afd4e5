"""``check_bonus``: what a bonus promises, tested by following shapes through its functions; nothing is compiled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import envs
from jaxrl.envs.contract import Task
from jaxrl.errors import UserError
from jaxrl.intrinsic import CATALOGUE, expression
from jaxrl.intrinsic.combine import map_obs
from jaxrl.shapes import ContractError, arrays, begun, calling, described, learned, parts, same, words
from jaxrl.signatures import identity, signature
from jaxrl.trainers.rollout import example_of
from jaxrl.types import IntrinsicReward, Transition


def check_bonus(
    bonus: str | Callable | IntrinsicReward,
    env: Any = "probe/chain",
    *,
    own: Sequence[Callable] = (),
    num_steps: int = 64,
    num_envs: int = 16,
) -> dict[str, Any]:
    """Test a bonus against the contract of `jaxrl.types.IntrinsicReward`, within two seconds.

    Args:
        bonus: a factory, an expression as in ``"progress * count"``, or a bonus that is made already. Numbers that may
            be swept are traced, as in a sweep.
        env: a Task, or whatever `jaxrl.envs.make` accepts: its observations and actions are what the bonus sees.
        own: factories that the expression may name, as in `jaxrl.sweep.sweep`.

    Returns:
        What was seen: shapes of `state`, `memory`, `bonus` and `trace` in words, and the names of `metrics`.

    Raises:
        UserError: naming the method that breaks the contract, what is expected and what came.
    """
    task = env if isinstance(env, Task) else envs.make(env)
    if isinstance(bonus, IntrinsicReward):
        return follow("the bonus", bonus, task, num_steps, num_envs)
    objects = {identity(factory): factory for factory in (*own, *([bonus] if callable(bonus) else []))}
    tree = expression.parse(identity(bonus) if callable(bonus) else bonus, objects)
    return follow_expression(tree, defaults(tree, objects), objects, task, num_steps, num_envs)


def defaults(tree: expression.Tree, objects: Mapping[str, Callable]) -> dict[str, Any]:
    """What the expression does not write, by dotted name, where nothing else is said."""
    known = {call.name: signature(objects.get(call.reference, call.reference)) for call in expression.terms(tree)}
    swept = {f"{name}.{key}": jnp.float32(value) for name, takes in known.items() for key, value in takes.swept.items()}
    return swept | {f"{name}.{key}": value for name, takes in known.items() for key, value in takes.static.items()}


def follow_expression(
    tree: expression.Tree,
    values: Mapping[str, Any],
    objects: Mapping[str, Callable],
    task: Task,
    num_steps: int,
    num_envs: int,
) -> dict[str, Any]:
    """`follow` for each bonus in the expression that is not of the catalogue, then for the whole, which it returns."""
    static = {name: value for name, value in values.items() if not isinstance(value, jax.Array)}
    traced = {name: value for name, value in values.items() if isinstance(value, jax.Array)}
    of_users = [call for call in expression.terms(tree) if call.reference not in CATALOGUE.values()]
    for part in [*of_users[::-1], *([] if tree in of_users else [tree])]:
        what = f"bonus {part.name if isinstance(part, expression.Call) else expression.canonical(part)!r}"
        seen: list[dict[str, Any]] = []

        def one(traced, part=part, what=what, seen=seen):
            reward = expression.build(part, {**static, **traced}, objects, actions=task.actions)
            seen.append(follow(what, reward, task, num_steps, num_envs))

        jax.eval_shape(one, traced)
    return seen[0]


def follow(what: str, reward: IntrinsicReward, task: Task, num_steps: int, num_envs: int) -> dict[str, Any]:
    """The facts of `check_bonus` for a bonus that messages call `what`.

    It is followed a second time through other numbers of steps and environments where the first could hide that axes
    were mixed up: where they are equal to each other or to an axis of an observation or an action.
    """
    if own := getattr(task.env, "unaugmented", None):
        reward = map_obs(reward, own)
    facts = _follow(what, reward, example_of(task, num_envs), num_steps)
    example = example_of(task, 1)
    sizes = {1, *example.obs.shape[1:], *example.action.shape[1:]}
    if num_steps == num_envs or {num_steps, num_envs} & sizes:
        apart = (n for n in range(2, 2 * len(sizes) + 8) if num_steps * n not in sizes and num_envs * n not in sizes)
        steps_factor, envs_factor = next(apart), next(apart)
        try:
            _follow(what, reward, example_of(task, num_envs * envs_factor), num_steps * steps_factor)
        except ContractError:
            raise
        except UserError:  # a bonus may refuse these sizes; nobody asked for them
            pass
    return facts


def _follow(what: str, reward: IntrinsicReward, example: Transition, num_steps: int) -> dict[str, Any]:
    num_envs = example.reward.shape[0]
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_steps, *x.shape), x.dtype), example)
    facts: dict[str, Any] = {}

    key = jax.eval_shape(jax.random.key, 0)
    state, memory = begun(what, reward.init, example)

    def label_and_update(key, now, remembered, batch):
        with calling(f"{what}: label"):
            labelled = reward.label(now, remembered, batch)
        after, bonus, trace = parts(f"{what}: label", "(memory, bonus, trace)", labelled)
        same(f"{what}: the memory", memory, arrays(f"{what}: the memory", after), ("init", "label"))
        paid = arrays(f"{what}: the bonus", bonus)
        if getattr(paid, "shape", None) != (num_steps, num_envs) or paid.dtype != jnp.float32:
            must = f"it must be float32[{num_steps}, {num_envs}], [num_steps, num_envs]"
            raise ContractError(f"{what}: the bonus from label is {words(paid)}, {must}")
        with calling(f"{what}: update"):
            updated = reward.update(key, now, remembered, batch, trace)
        metrics = learned(what, updated, state)
        facts.update(bonus=described(paid), trace=_in_words(trace), metrics=metrics)

    jax.eval_shape(label_and_update, key, state, memory, batch)
    return {"state": words(state), "memory": words(memory), **facts}


def _in_words(trace: Any) -> str:
    try:
        return words(arrays("trace", trace))
    except ContractError:  # nobody but update looks inside, so anything may be there
        return type(trace).__name__
