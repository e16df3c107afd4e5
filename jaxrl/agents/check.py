"""``check_agent``: what an agent promises, tested by following shapes through its functions; nothing is compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import envs
from jaxrl.envs.contract import Task
from jaxrl.errors import UserError
from jaxrl.shapes import ContractError, arrays, begun, calling, described, leads_with, learned, made, parts, same, words
from jaxrl.signatures import identity, signature
from jaxrl.trainers.rollout import example_of
from jaxrl.types import Agent, PyTree, Rollout, Streams, Transition


def check_agent(
    agent: Callable | Agent,
    env: Any = "probe/chain",
    *,
    num_streams: int = 2,
    num_steps: int = 64,
    num_envs: int = 16,
) -> dict[str, Any]:
    """Test an agent against the contract of `jaxrl.types.Agent`, within two seconds.

    Args:
        agent: a factory, whose numbers that may be swept are traced, as in a sweep; or an agent that is made already,
            for rewards of `num_streams` streams.
        env: a Task, or whatever `jaxrl.envs.make` accepts.

    Returns:
        What was seen: shapes of `state`, `memory`, `action` and `extras` in words, and the names of `metrics`.

    Raises:
        UserError: naming the method that breaks the contract, what is expected and what came.
    """
    task = env if isinstance(env, Task) else envs.make(env)
    if isinstance(agent, Agent):
        return follow("the agent", (agent,), task, num_streams, num_steps, num_envs)
    takes, what = signature(agent), f"agent {identity(agent).rpartition(':')[2]!r}"
    seen: list[dict[str, Any]] = []

    def both(swept):
        streams = Streams(jnp.ones(num_streams), jnp.full(num_streams, 0.99), jnp.ones(num_streams, bool))
        given = {"streams": streams, "actions": task.actions, "iterations": 10, "explore": True}
        if unknown := set(takes.supplied) - given.keys():
            raise UserError(f"{what} asks for {min(unknown)!r}, which is not one of {', '.join(given)}")
        supplied = {name: given[name] for name in takes.supplied}
        ways = [{"explore": False}, {"explore": True}] if "explore" in supplied else [{}]
        agents = [made(what, Agent, agent, **{**swept, **takes.static, **supplied, **way}) for way in ways]
        seen.append(follow(what, agents, task, num_streams, num_steps, num_envs))

    jax.eval_shape(both, {name: jnp.float32(value) for name, value in takes.swept.items()})
    return seen[0]


def follow(
    what: str, agents: Sequence[Agent], task: Task, num_streams: int, num_steps: int, num_envs: int
) -> dict[str, Any]:
    """The facts of `check_agent` for the last of `agents`, called `what`, which learns; the others only act."""
    example, key = example_of(task, num_envs), jax.eval_shape(jax.random.key, 0)
    for agent in agents:
        state, memory = begun(what, agent.init, example)
        action, extras = _acted(what, agent, state, memory, example)
    batch = example._replace(action=action, extras=extras)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_steps, *x.shape), x.dtype), batch)
    rollout = Rollout(batch, memory, example.obs, example.first)
    rewards = jax.ShapeDtypeStruct((num_steps, num_envs, num_streams), jnp.float32)
    facts: dict[str, Any] = {name: words(tree) for name, tree in zip(
        ("state", "memory", "action", "extras"), (state, memory, action, extras), strict=True)}  # fmt: skip

    def update(key, now, rollout, rewards):
        with calling(f"{what}: update"):
            updated = agent.update(key, now, rollout, rewards)
        facts["metrics"] = learned(what, updated, state)

    jax.eval_shape(update, key, state, rollout, rewards)
    return facts


def _acted(what: str, agent: Agent, state: PyTree, memory: PyTree, example: Transition) -> tuple[PyTree, PyTree]:
    """Shapes of (action, extras) ``[N, ...]``."""
    num_envs = example.first.shape[0]

    def act(key, now, remembered, obs, first, reward):
        with calling(f"{what}: act"):
            acted = agent.act(key, now, remembered, obs, first)
        after, action, extras = parts(f"{what}: act", "(memory, action, extras)", acted)
        same(f"{what}: the memory", memory, arrays(f"{what}: the memory", after), ("init", "act"))
        found, wanted = arrays(f"{what}: the action", action), example.action
        if getattr(found, "shape", None) != wanted.shape or found.dtype != wanted.dtype:
            must = f"it must be {described(wanted)}, [num_envs, ...]"
            raise ContractError(f"{what}: the action from act is {words(found)}, {must}")
        leads_with(f"{what}: the extras", arrays(f"{what}: the extras", extras), num_envs, "num_envs")
        with calling(f"{what}: observe"):
            after = agent.observe(after, reward)
        same(f"{what}: the memory", memory, arrays(f"{what}: the memory", after), ("init", "observe"))
        return action, extras

    key = jax.eval_shape(jax.random.key, 0)
    return jax.eval_shape(act, key, state, memory, example.obs, example.first, example.reward)
