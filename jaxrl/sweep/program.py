"""From a program's static fields to the pure functions that one lane runs.

`build` is called once per program; the `make` it returns is called inside the traced function, with traced values. A
value ``params.NAME`` becomes a number in the environment's params, so lanes of one program may differ in it.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrl.agents
from jaxrl import envs
from jaxrl.envs.contract import Task
from jaxrl.envs.params import check_numbers, check_traceable, with_numbers
from jaxrl.envs.wrappers.wrapper import wrapped
from jaxrl.intrinsic import expression
from jaxrl.signatures import signature
from jaxrl.sweep.spec import PARAMS, iterations
from jaxrl.trainers.evaluate import evaluate
from jaxrl.trainers.on_policy import OnPolicyState, on_policy, split_streams, summed_stream
from jaxrl.types import Agent, Key, Trainer


class LaneProgram(NamedTuple):
    """What one lane runs, with its values bound; built inside the trace."""

    trainer: Trainer
    greedy: Agent
    sampling: Agent
    evaluate: Callable  # (key, OnPolicyState) -> metrics, scalars
    task: Task  # with the lane's own numbers


class Program(NamedTuple):
    task: Task
    make: Callable[[Mapping[str, Any]], LaneProgram]


def build(static: Mapping[str, Any], objects: Mapping[str, Callable] | None = None) -> Program:
    """The program of static fields as `jaxrl.sweep.spec` resolved them; `objects` are user code by reference."""
    objects = objects or {}
    shared = envs.make(objects.get(static["env"], static["env"]), **static["env_args"])
    shared = wrapped(shared, static.get("wrap", ()), objects)
    followed: set[str] = set()
    bonus = expression.parse(static["bonus"], objects)
    reference = jaxrl.agents.CATALOGUE.get(static["agent"], static["agent"])
    factory = objects.get(reference) or _load(reference)
    takes = signature(objects.get(reference, reference))

    def make(values: Mapping[str, Any]) -> LaneProgram:
        numbers = _params(values)
        task = with_numbers(shared, numbers)
        for name in numbers.keys() - followed:  # once, because following a number costs a trace of the environment
            check_traceable(shared, name)
            followed.add(name)
        if bonus == expression.parse("none"):  # the control: no bonus, so no critic and no advantage of one either
            streams, combine = summed_stream(0.0, values["discount"])
        elif static["streams"] == "split":
            streams, combine = split_streams(
                values["coef"], values["discount"], values["bonus_discount"], static["bonus_episodic"]
            )
        else:
            streams, combine = summed_stream(values["coef"], values["discount"])

        def agent(explore: bool) -> Agent:
            supplied = {
                "streams": streams, "actions": task.actions, "iterations": iterations(static), "explore": explore
            }  # fmt: skip
            chosen = {name: values[name] for name in takes.swept} | {name: static[name] for name in takes.static}
            return factory(**chosen, **{name: supplied[name] for name in takes.supplied})

        reward = expression.build(bonus, {**static, **values}, objects, actions=task.actions)
        sampling, greedy = agent(explore=True), agent(explore=False)
        trainer = on_policy(
            task,
            sampling,
            reward,
            combine,
            num_envs=static["num_envs"],
            num_steps=static["num_steps"],
            warmup=static.get("warmup", 0),
            reward_discount=values["discount"] if static["normalize_reward"] else None,
        )

        def measure(key: Key, state: OnPolicyState):
            k_greedy, k_sampled = jax.random.split(key)
            episodes = static["eval_episodes"]
            greedy_return = evaluate(k_greedy, task, greedy, state.agent, episodes=episodes).mean()
            sampled_return = evaluate(k_sampled, task, sampling, state.agent, episodes=episodes).mean()
            solved = jnp.nan if task.solved is None else (greedy_return >= task.solved).astype(jnp.float32)
            return {"eval_return": greedy_return, "eval_return_sampled": sampled_return, "solved": jnp.float32(solved)}

        return LaneProgram(trainer, greedy, sampling, measure, task)

    return Program(shared, make)


def check_values(program: Program, values: Mapping[str, float]) -> None:
    """Raises UserError for a lane's number that its field in the environment's params cannot hold; not for tracing."""
    check_numbers(program.task, _params(values))


def _params(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PARAMS): value for name, value in values.items() if name.startswith(PARAMS)}


def _load(reference: str) -> Callable:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
