"""adversarial_surprise: two policies, one body (Fickinger et al. 2021, arXiv:2107.07394).

Explore and Control take turns of L steps in one world. A density of what Control sees is fitted as it goes:

    log p(o) = sum_j log max(theta_j[o_j], 1e-3)     a categorical for each entry j: counts / n, uniform when empty
    r_C      = log p(o_{t+1}), before o_{t+1} is counted, divided by the deviation of its discounted return
    Explore is paid - sum r_C of the turn of Control that follows, on the last step of its own turn, and 0 before

Control is judged, and the density fed, only in the last part of its turn (`no_reward_time` is the share before), so
that it may act first on what Explore left behind. Explore gains by what Control cannot make predictable in time, and
Control by learning to: noise that can be switched off stops paying.

An iteration is one meta-episode of `num_steps` in every environment: `rounds` turns of L = num_steps / rounds steps,
Explore first. The density is kept across its turns and starts empty with the next. Both players see the observation,
theta, whose turn it is, and the time in the turn and in the meta-episode (`jaxrl.trainers.turns`).

`objective` makes the ablations: in "control" both players are paid r_C (SMiRL), in "explore" both are paid - r_C
(entropy, at once); both are then judged in the last part of each of their turns.

Departures: each turn is an episode of its player, so that its return and advantages stop where it ends; the moments
that scale r_C include the meta-episode that is being paid (released code: step by step); networks are MLPs on one
vector, in which observations are one-hot (released code: convolutions on an image with a channel for each class);
values out of the classes count as the last. A world that ends within a meta-episode stays as it ended and pays no more,
because the players take their turns in all environments together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.contract import Task
from jaxrl.errors import UserError, unknown
from jaxrl.moments import Moments, deviation, empty_moments, merge
from jaxrl.trainers.on_policy import all_finite
from jaxrl.trainers.rollout import EnvCarry, collect, example_of, start
from jaxrl.trainers.turns import in_turns, log_density, played_in_turns
from jaxrl.trainers.visits import Visits, exploration, no_visits, visit
from jaxrl.types import Agent, Array, Key, PyTree, Rollout, Trainer

PLAYERS = ("explore", "control")
OBJECTIVES = ("game", *PLAYERS)


class AdversarialState(NamedTuple):
    key: Key
    agent: PyTree  # [2, ...]  Explore's and Control's
    envs: EnvCarry
    scale: Moments  # scalar, of the running return of r_C
    visits: Visits  # of the task's named states


def adversarial_surprise(
    no_reward_time=0.5,  # share of a turn before it is judged
    *,
    task: Task,
    agent: Agent,
    num_envs: int,
    num_steps: int,
    discount,
    rounds=4,  # turns in a meta-episode, every other one Control's; must divide num_steps
    classes=12,  # values that an entry of the observation takes: 0 to classes - 1
    objective="game",  # game, or what both players are paid for: control (SMiRL) or explore (entropy)
) -> Trainer:
    """Trains both players, each an `agent` of one stream; what the environment pays is measured, and paid to nobody.

    Evaluation plays the whole game. Metrics: `return length episodes` of meta-episodes, `coverage first_visit finite`,
    `adversarial_surprise/surprise` (mean of -log p over judged steps), and the agents' under `explore/` and `control/`.

    Raises:
        UserError: `rounds` is odd or does not divide num_steps, an episode of the task is shorter than a meta-episode,
            its observations are not whole numbers, it has reset and step only, or the agent keeps a memory.
    """
    if objective not in OBJECTIVES:
        raise unknown("adversarial_surprise.objective", objective, OBJECTIVES)
    if rounds < 2 or rounds % 2 or num_steps % rounds:
        raise UserError(f"adversarial_surprise.rounds = {rounds}: must be even and divide num_steps = {num_steps}")
    length, all_judged = num_steps // rounds, objective != "game"

    def judges(time):  # the last step of a turn always
        late = time % length >= jnp.minimum(no_reward_time * length, length - 1)
        return ((time // length % 2 == 1) | all_judged) & late

    game = played_in_turns(task, judges, rounds, length, classes)
    players = in_turns(agent)

    def init(key: Key) -> AdversarialState:
        key, k_agents, k_envs = jax.random.split(key, 3)
        agents, _ = players.init(k_agents, example_of(game, num_envs))
        envs = start(k_envs, game, num_envs)
        return AdversarialState(key, agents, envs, empty_moments(), no_visits(task.num_states or 0))

    def step(state: AdversarialState):
        key, k_turns, k_agents = jax.random.split(state.key, 3)

        def turn(envs, inputs):
            key, player = inputs
            mine = jax.tree.map(lambda x: x[player], state.agent)
            _, envs, rollout, played = collect(key, game, agent, mine, (), envs, length)
            return envs, (rollout, played)

        turns = jax.random.split(k_turns, rounds), jnp.arange(rounds) % 2
        envs, (rollouts, played) = jax.lax.scan(turn, state.envs, turns)
        log_p = log_density(rollouts.batch.obs, rollouts.batch.next_obs, classes)  # [rounds, L, N]
        judged = judges(jnp.arange(num_steps)).reshape(rounds, length, 1)
        scale, rewards = paid(state.scale, jnp.where(judged, log_p, 0.0), discount, objective)
        lessons = jax.random.split(k_agents), state.agent, dealt(rollouts), by_player(rewards)[..., None]
        agents, metrics = jax.lax.map(lambda lesson: agent.update(*lesson), lessons)

        states, visits = played.pop("states"), state.visits
        row = {name: of_turns[-1] for name, of_turns in played.items()}  # all worlds end with the last turn
        row["adversarial_surprise/surprise"] = -(judged * log_p).sum() / (judged.sum() * num_envs)
        row |= {f"{who}/{name}": value[i] for i, who in enumerate(PLAYERS) for name, value in metrics.items()}
        if states is not None:
            visits = visit(visits, states.reshape(num_steps, num_envs))
            row |= exploration(visits)
        row["finite"] = all_finite((rewards, metrics, agents))
        return AdversarialState(key, agents, envs, scale, visits), row

    return Trainer(init, step, task=game, policy=in_turns)


def paid(scale: Moments, log_p: Array, discount, objective: str) -> tuple[Moments, Array]:
    """(moments of the return, rewards of whose turn it is), from log p where judged, else 0; ``[rounds, L, N]``."""
    game = objective == "game"
    control = log_p[1::2] if game else log_p

    def step(running, r):
        running = discount * running + r
        return running, running

    scale = merge(scale, jax.lax.scan(step, jnp.zeros(log_p.shape[-1]), control.reshape(-1, log_p.shape[-1]))[1])
    reward = log_p / deviation(scale)
    if game:
        return scale, reward.at[0::2, -1].set(-reward[1::2].sum(1))
    return scale, reward if objective == "control" else -reward


def by_player(x: Array) -> Array:
    """``[rounds, T, N, ...] -> [2, T, rounds / 2 * N, ...]``: turns of one player side by side, as environments are."""
    pairs = x.reshape(-1, 2, *x.shape[1:])
    return jnp.moveaxis(pairs, 0, 2).reshape(2, x.shape[1], -1, *x.shape[3:])


def dealt(rollouts: Rollout) -> Rollout:
    """The turns ``[rounds, L, N, ...]`` as one rollout a player, each turn an episode that ends with its last step."""
    no = jnp.zeros_like(rollouts.batch.first)
    batch = rollouts.batch._replace(first=no.at[:, 0].set(True), terminated=no.at[:, -1].set(True), truncated=no)
    last = jax.tree.map(lambda x: by_player(x[:, None])[:, 0], (rollouts.last_obs, rollouts.last_first))
    return Rollout(jax.tree.map(by_player, batch), (), *last)
