"""selmo: skills from snapshots of a curious policy (Groth et al. 2021, arXiv:2109.08603).

Curiosity finds complex behaviour and loses it again, when its novelty is spent: what the explorer can do at the end is
not the best of what it could do on the way. So K snapshots of it are kept, at fixed intervals, as skills for a task:

    exploration   a share `curious` of the run; the agent learns from the bonus alone
    task          a learner starts afresh and learns from the extrinsic reward alone; for each of its episodes, with
                  probability `mixture`, one of the snapshots plays instead, drawn uniformly

Snapshot 0 is the untrained policy: the learner starts from it, and nobody plays it. `mixture=0` is learning from
scratch (but for the episodes that the explorer left unfinished); with `restart=False` too the learner goes on from the
explorer's last policy. With `curious=1` the whole run is exploration. Any bonus explores; the paper's is
`forward_error`.

Departures: on-policy, where the paper's learner is MPO with replay buffers for model and policy. PPO's probability
ratio is taken to whoever acted, so what a snapshot did is learned from as far as the clip allows, and its advantages
are those of the mixture; one episode-wise mixture stands for the paper's hierarchical policy, and there are no
auxiliary tasks. The bonus goes on learning, unused, while the task is learned.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.contract import Task
from jaxrl.errors import UserError
from jaxrl.trainers.on_policy import on_policy
from jaxrl.types import Agent, Array, IntrinsicReward, Key, PyTree, Trainer


def selmo(
    mixture=0.3,  # share of episodes that a snapshot plays while the task is learned
    *,
    task: Task,
    agent: Agent,
    reward: IntrinsicReward,
    num_envs: int,
    num_steps: int,
    iterations: int,
    warmup: int,
    reward_discount,
    snapshots=8,  # K, the untrained policy and the explorer's last one among them
    curious=0.5,  # share of the run that explores; 1: all of it
    restart=True,  # the learner starts from the untrained policy, not from the explorer's last
) -> Trainer:
    """The on-policy trainer with `Skilled` for its agent's state; the agent takes one stream and keeps no memory.

    Evaluation plays the learner (while exploring: the explorer). Metrics: those of `on_policy`, and `selmo/exploring`,
    1 or 0.

    Raises:
        UserError: fewer than two snapshots, more than one an iteration, or an agent with memory.
    """
    if snapshots < 2:
        raise UserError(f"selmo.snapshots = {snapshots}: must be at least 2, the first and the last policy")
    interval = int(curious * iterations) // (snapshots - 1)
    if interval < 1:
        raise UserError(
            f"selmo.snapshots = {snapshots}: must be at most {int(curious * iterations) + 1}, because only "
            f"{int(curious * iterations)} of the run's {iterations} iterations explore"
        )
    last = interval * (snapshots - 1)  # updates of the explorer
    restart_after = last if restart and curious < 1 else -1
    learn_after = last if curious < 1 else iterations
    skilled = with_skills(agent, mixture, snapshots, interval, restart_after, learn_after)
    both = lambda reward, bonus: jnp.stack([reward, bonus], -1)
    trainer = on_policy(
        task, skilled, reward, both,
        num_envs=num_envs, num_steps=num_steps, warmup=warmup, reward_discount=reward_discount,
    )  # fmt: skip
    return trainer._replace(policy=lambda agent: learner_alone(skilled, agent))


class Skilled(NamedTuple):
    learner: PyTree  # state of the agent: the explorer's, then the learner's
    snapshots: PyTree  # [K, ...] states of the explorer
    updates: Array  # () int32


def with_skills(
    agent: Agent, mixture, count: int, interval: int, restart_after: int, learn_after: int
) -> Agent:
    """`agent` as the explorer, who leaves `count` snapshots, and then the learner, who shares its episodes with them.

    Memory is who plays the episode, ``[N]`` int32: 0 the learner, else a snapshot's number. Rewards are
    ``[T, N, 2]``, extrinsic and bonus. Numbers of updates: a snapshot is taken every `interval`; the learner starts
    afresh after `restart_after` and learns from the extrinsic reward after `learn_after`.
    """

    def init(key: Key, example):
        learner, memory = agent.init(key, example)
        if jax.tree.leaves(memory):
            raise UserError(
                "trainer 'selmo' lets policies take turns, so its agent must keep no memory: use agent 'ppo'"
            )
        library = jax.tree.map(lambda x: jnp.repeat(x[None], count, 0), learner)
        return Skilled(learner, library, jnp.int32(0)), jnp.zeros(len(example.first), jnp.int32)

    def act(key: Key, state: Skilled, player, obs, first):
        k_share, k_which, k_act = jax.random.split(key, 3)
        share = jnp.where(state.updates < learn_after, 0.0, mixture)
        drawn = jax.random.randint(k_which, player.shape, 1, count)
        drawn = jnp.where(jax.random.uniform(k_share, player.shape) < share, drawn, 0)
        player = jnp.where(first, drawn, player)
        states = jax.tree.map(lambda library, learner: library.at[0].set(learner), state.snapshots, state.learner)

        def one_env(key, player, obs, first):
            mine = jax.tree.map(lambda x: x[player], states)
            _, action, extras = agent.act(key, mine, (), obs[None], first[None])
            return jax.tree.map(lambda x: x[0], (action, extras))

        return player, *jax.vmap(one_env)(jax.random.split(k_act, len(player)), player, obs, first)

    def update(key: Key, state: Skilled, rollout, rewards):
        extrinsic, bonus = rewards[..., :1], rewards[..., 1:]
        exploring = state.updates < learn_after
        learner, metrics = agent.update(
            key, state.learner, rollout._replace(memory=()), jnp.where(exploring, bonus, extrinsic)
        )
        updates = state.updates + 1
        due = (updates % interval == 0) & (updates <= interval * (count - 1))
        slot = jnp.minimum(updates // interval, count - 1)
        keep = lambda library, new: library.at[slot].set(jnp.where(due, new, library[slot]))
        snapshots = jax.tree.map(keep, state.snapshots, learner)
        fresh = lambda library, new: jnp.where(updates == restart_after, library[0], new)
        learner = jax.tree.map(fresh, snapshots, learner)
        return Skilled(learner, snapshots, updates), {**metrics, "selmo/exploring": exploring.astype(jnp.float32)}

    return Agent(init, act, update)


def learner_alone(skilled: Agent, agent: Agent) -> Agent:
    """What evaluation plays: `agent` (greedy or not) with the learner's state, whoever would share its episodes."""

    def act(key, state: Skilled, player, obs, first):
        _, action, extras = agent.act(key, state.learner, (), obs, first)
        return player, action, extras

    return skilled._replace(act=act)
