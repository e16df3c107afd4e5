"""From a program's static fields to the pure functions that one lane runs.

`build` is called once per program; the `make` it returns is called inside the traced function, with traced values. A
value ``params.NAME`` becomes a number in the environment's params, so lanes of one program may differ in it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrl.agents
import jaxrl.trainers
from jaxrl import envs, references
from jaxrl.agents.check import follow as follow_agent
from jaxrl.envs.check import check_types
from jaxrl.envs.contract import Task
from jaxrl.envs.params import check_numbers, check_traceable, with_numbers
from jaxrl.envs.wrappers.wrapper import wrapped
from jaxrl.intrinsic import expression
from jaxrl.intrinsic.check import follow_expression
from jaxrl.intrinsic.combine import map_obs
from jaxrl.keys import with_generator
from jaxrl.shapes import made
from jaxrl.signatures import Signature, signature
from jaxrl.spec.fields import CONFIG, PARAMS, iterations, trainer_label
from jaxrl.trainers.evaluate import evaluate
from jaxrl.trainers.on_policy import bonus_stream, split_streams, summed_stream
from jaxrl.types import Agent, Key, PyTree, Streams, Trainer


class LaneProgram(NamedTuple):
    """What one lane runs, with its values bound; built inside the trace."""

    trainer: Trainer
    greedy: Agent
    sampling: Agent
    evaluate: Callable  # (key, the trainer's state) -> metrics, scalars; reads `state.agent` alone
    task: Task  # that its agents play, with the lane's own numbers
    learners: tuple[Agent, Agent]  # greedy and sampling, as the trainer is given them
    streams: Streams  # that they learn from


class Program(NamedTuple):
    task: Task
    make: Callable[[Mapping[str, Any]], LaneProgram]
    check: Callable[[Mapping[str, float]], None]  # given a lane's values, raises UserError for a broken bonus or agent


@with_generator
def build(static: Mapping[str, Any], objects: Mapping[str, Callable] | None = None) -> Program:
    """The program of static fields as `jaxrl.spec.settings` resolved them; `objects` are user code by reference."""
    objects = objects or {}
    shared = envs.make(objects.get(static["env"], static["env"]), **static["env_args"])
    if ":" in static["env"]:  # the user's own: each of ours has its test
        check_types(shared)
    if wrap := static.get("wrap", ()):
        shared = wrapped(shared, wrap, objects)
        if any(":" in entry for entry in wrap):
            check_types(shared)
    followed: set[str] = set()
    bonus = expression.parse(static["bonus"], objects)
    what_agent = f"agent {static['agent'].rpartition(':')[2]!r}"
    agent_factory, agent_takes = _factory("agent", static["agent"], jaxrl.agents.CATALOGUE, objects)
    loop = static.get("trainer", CONFIG["trainer"].default)
    trainer_factory, trainer_takes = _factory("trainer", loop, jaxrl.trainers.CATALOGUE, objects)

    @with_generator
    def make(values: Mapping[str, Any]) -> LaneProgram:
        numbers = _params(values)
        task = with_numbers(shared, numbers)
        for name in numbers.keys() - followed:  # once, because following a number costs a trace of the environment
            check_traceable(shared, name)
            followed.add(name)
        if "combine" not in trainer_takes.supplied:
            streams, combine = summed_stream(0.0, values["discount"])
        elif static.get("streams") == "only":
            streams, combine = bonus_stream(values["bonus_discount"], static["bonus_episodic"])
        elif bonus == expression.parse("none"):  # the control: no bonus, so no critic and no advantage of one either
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
            return made(what_agent, Agent, _made, agent_factory, agent_takes, {**static, **values}, supplied)

        reward = expression.build(bonus, {**static, **values}, objects, actions=task.actions)
        if own := getattr(task.env, "unaugmented", None):  # bonuses judge the environment's own observation
            reward = map_obs(reward, own)
        sampling, greedy = agent(explore=True), agent(explore=False)
        supplied = {
            "task": task,
            "agent": sampling,
            "reward": reward,
            "combine": combine,
            "num_envs": static["num_envs"],
            "num_steps": static["num_steps"],
            "iterations": iterations(static),
            "discount": values.get("discount"),
            "warmup": static.get("warmup", 0),
            "reward_discount": values["discount"] if static.get("normalize_reward") else None,
        }
        trainer = _made(trainer_factory, trainer_takes, {**static, **values}, supplied, f"{trainer_label(loop)}.")
        learners = greedy, sampling
        sampling, greedy, task = trainer.policy(sampling), trainer.policy(greedy), trainer.task or task

        trainer = trainer._replace(init=with_generator(trainer.init), step=with_generator(trainer.step))

        @with_generator
        def measure(key: Key, state: PyTree):
            k_greedy, k_sampled = jax.random.split(key)
            episodes = static["eval_episodes"]
            greedy_return = evaluate(k_greedy, task, greedy, state.agent, episodes=episodes).mean()
            sampled_return = evaluate(k_sampled, task, sampling, state.agent, episodes=episodes).mean()
            solved = jnp.nan if task.solved is None else (greedy_return >= task.solved).astype(jnp.float32)
            return {"eval_return": greedy_return, "eval_return_sampled": sampled_return, "solved": jnp.float32(solved)}

        return LaneProgram(trainer, greedy, sampling, measure, task, learners, streams)

    def check(values: Mapping[str, float]) -> None:
        swept = {name: jnp.float32(value) for name, value in values.items()}
        sizes = static["num_steps"], static["num_envs"]
        follow_expression(bonus, {**static, **swept}, objects, with_numbers(shared, _params(values)), *sizes)

        def agent(swept):
            one = make(swept)
            follow_agent(what_agent, one.learners, one.task, len(one.streams.coef), *sizes)

        jax.eval_shape(agent, swept)

    return Program(shared, make, check)


def check_values(program: Program, values: Mapping[str, float]) -> None:
    """Raises UserError for a lane's number that its field in the environment's params cannot hold; not for tracing."""
    check_numbers(program.task, _params(values))


def _params(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PARAMS): value for name, value in values.items() if name.startswith(PARAMS)}


def _factory(
    kind: str, name: str, catalogue: Mapping[str, str], objects: Mapping[str, Callable]
) -> tuple[Callable, Signature]:
    reference = catalogue.get(name, name)
    return references.load(kind, reference, objects), signature(objects.get(reference, reference))


def _made(
    factory: Callable, takes: Signature, fields: Mapping[str, Any], supplied: Mapping[str, Any], prefix: str = ""
) -> Any:
    """What the factory makes of the run's fields, named with `prefix`, and of what is supplied, which comes first."""
    names = (*takes.supplied, *takes.swept, *takes.static)
    return factory(**{name: supplied[name] if name in supplied else fields[prefix + name] for name in names})
