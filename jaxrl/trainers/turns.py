"""The game of `adversarial_surprise` as an environment: whose turn it is, and a density of what Control sees.

What the players see is one float32 vector ``[2 D C + 3]``: the D entries of the observation one-hot in C classes, theta
in the same places, and the clock: whose turn it is (0 Explore, 1 Control), time in the turn, time in the meta-episode.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.contract import AutoReset, Task
from jaxrl.errors import UserError
from jaxrl.keys import key_of
from jaxrl.types import Agent, Array, Key, PyTree

FLOOR = 1e-3  # of a probability inside the logarithm; the released code's
CLOCK = 3  # entries


class GameState(NamedTuple):
    """One world in one meta-episode."""

    inner: PyTree
    obs: Array  # [*O]  of the world, as it stands
    counts: Array  # [D, C] float32  how often each entry was in each class while Control was judged
    time: Array  # () int32  steps of the meta-episode so far
    over: Array  # () bool  the world has ended


class Game(AutoReset):
    """A world that lasts `rounds` turns of `length` steps: it stays as it ended, or is cut.

    `judges`: time in the meta-episode, before the step, -> whether what the step shows is counted.
    """

    def __init__(self, task: Task, judges: Callable, rounds: int, length: int, classes: int):
        if not callable(getattr(task.env, "advance", None)):
            raise UserError(
                f"environment {task.name!r} cannot be played in turns, because it has reset and step only: derive it "
                "from jaxrl.envs.AutoReset and write reset_env and step_env"
            )
        if not any(jnp.issubdtype(task.obs_dtype, kind) for kind in (jnp.integer, jnp.bool_)):
            raise UserError(
                f"environment {task.name!r} has observations of {task.obs_dtype}: a density of categories needs whole "
                "numbers"
            )
        if task.max_steps < rounds * length:
            raise UserError(
                f"num_steps = {rounds * length}: a meta-episode must fit into an episode of environment {task.name!r}, "
                f"at most {task.max_steps} steps"
            )
        self.env, self.judges = task.env, judges
        self.rounds, self.length, self.classes = rounds, length, classes
        self.actions, self.lazy_reset = task.actions, task.env.lazy_reset
        self.map_shape, self.map_cells = (getattr(task.env, name, None) for name in ("map_shape", "map_cells"))
        if render := getattr(task.env, "render", None):
            self.render = lambda state, params: render(state.inner, params)

    def one_hot(self, obs: Array) -> Array:
        """``[D, C]``; what is out of the classes counts as the last."""
        entries = jnp.clip(obs.reshape(-1).astype(jnp.int32), 0, self.classes - 1)
        return jax.nn.one_hot(entries, self.classes)

    def seen(self, state: GameState) -> Array:
        counted = state.counts[0].sum()
        theta = jnp.where(counted > 0, state.counts / jnp.maximum(counted, 1.0), 1.0 / self.classes)
        turn, steps = state.time // self.length, self.rounds * self.length
        clock = jnp.stack([turn % 2, state.time % self.length / self.length, state.time / steps])
        return jnp.concatenate([self.one_hot(state.obs).reshape(-1), theta.reshape(-1), clock])

    def reset_env(self, key, params):
        obs, inner = self.env.reset(key, params)
        state = GameState(inner, obs, jnp.zeros((obs.size, self.classes)), jnp.int32(0), jnp.bool_(False))
        return self.seen(state), state

    def step_env(self, key, state, action, params):
        obs, inner, reward, terminated, truncated, _ = self.env.advance(key, state.inner, action, params)
        stays = lambda old, new: jnp.where(state.over, old, new)
        obs, inner = jax.tree.map(stays, (state.obs, state.inner), (obs, inner))
        counts = state.counts + jnp.where(self.judges(state.time), self.one_hot(obs), 0.0)
        over = state.over | terminated | truncated
        after = GameState(inner, obs, counts, state.time + 1, over)
        cut = after.time >= self.rounds * self.length
        return self.seen(after), after, stays(0.0, reward), False, cut, {}


def played_in_turns(task: Task, judges: Callable, rounds: int, length: int, classes: int) -> Task:
    """The task of the game in the world of `task`; raises UserError where it cannot be played there."""
    game = Game(task, judges, rounds, length, classes)
    shape = jax.eval_shape(lambda key: game.reset(key, task.params)[0], key_of(0)).shape
    state_id = task.state_id and (lambda state, params: task.state_id(state.inner, params))
    return task._replace(
        env=game, obs_shape=shape, obs_dtype=jnp.dtype(jnp.float32), max_steps=rounds * length, state_id=state_id
    )


def log_density(obs: Array, next_obs: Array, classes: int) -> Array:
    """log p(o') ``[...]`` under the theta of what the players saw before it; both ``[..., 2 D C + 3]``.

    The sum over entries of the log of their probabilities, each at least `FLOOR`.
    """
    half = (obs.shape[-1] - CLOCK) // 2
    theta = obs[..., half : 2 * half].reshape(*obs.shape[:-1], -1, classes)
    arrived = next_obs[..., :half].reshape(theta.shape)
    return jnp.log(jnp.maximum((theta * arrived).sum(-1), FLOOR)).sum(-1)


def in_turns(agent: Agent) -> Agent:
    """Both players as one agent of the game: state ``[2, ...]``, and whoever's turn it is acts."""

    def init(key: Key, example):
        (one, memory), (other, _) = (agent.init(k, example) for k in jax.random.split(key))
        if jax.tree.leaves(memory):
            raise UserError(
                "trainer 'adversarial_surprise' lets policies take turns, so its agent must keep no memory: use 'ppo'"
            )
        return jax.tree.map(lambda *x: jnp.stack(x), one, other), ()

    def act(key: Key, state, memory, obs, first):
        control = obs[:, -CLOCK] > 0.5
        acted = [
            agent.act(k, jax.tree.map(lambda x, i=i: x[i], state), (), obs, first)[1:]
            for i, k in enumerate(jax.random.split(key))
        ]
        choose = lambda one, other: jnp.where(control.reshape(-1, *(1 for _ in one.shape[1:])), other, one)
        return (), *jax.tree.map(choose, *acted)

    return Agent(init, act, agent.update)
