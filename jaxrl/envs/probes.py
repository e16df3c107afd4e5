"""One-purpose environments whose values are known by hand; a wrong value names the part that is broken."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.types import Array, Box, Discrete


def make(name: str, **kwargs: Any) -> Task:
    """The task of a probe, by its name ``probe/<name>``."""
    return construct(name, PROBES[name], kwargs)


class Constant(AutoReset):
    """Reward 1, one step. V = 1."""

    actions = Discrete(2)
    max_steps = 1

    def reset_env(self, key, params):
        return jnp.ones(1), ()

    def step_env(self, key, state, action, params):
        return jnp.ones(1), state, 1.0, True, False, {}


class Echo(AutoReset):
    """The observation, -1 or 1 at random, is the reward; one step. V(obs) = obs."""

    actions = Discrete(2)
    max_steps = 1

    def reset_env(self, key, params):
        obs = jax.random.rademacher(key, (1,), jnp.float32)
        return obs, obs

    def step_env(self, key, state, action, params):
        return state, state, state[0], True, False, {}


class Delay(AutoReset):
    """Observations [0] then [1]; the second of two steps pays 1. V([0]) = discount, V([1]) = 1."""

    actions = Discrete(2)
    max_steps = 2

    def reset_env(self, key, params):
        return jnp.zeros(1), 0

    def step_env(self, key, time, action, params):
        return jnp.ones(1), time + 1, time, time == 1, False, {}


class Action(AutoReset):
    """Action 1 pays 1, action 0 pays -1; one step. Optimal V = 1; the uniform policy has V = 0."""

    actions = Discrete(2)
    max_steps = 1

    def reset_env(self, key, params):
        return jnp.ones(1), ()

    def step_env(self, key, state, action, params):
        return jnp.ones(1), state, 2 * action - 1, True, False, {}


class ActionBox(AutoReset):
    """Pays -(action - 0.5)^2; one step. Optimal action 0.5, V = 0; the uniform policy on [-1, 1] has V = -7/12."""

    actions = Box(-1.0, 1.0, (1,))
    max_steps = 1

    def reset_env(self, key, params):
        return jnp.ones(1), ()

    def step_env(self, key, state, action, params):
        return jnp.ones(1), state, -jnp.square(action[0] - 0.5), True, False, {}


class Truncation(AutoReset):
    """Reward 1 at each step, for ever, cut after ``length`` steps; the observation is one-hot of time, ``[length]``.

    The final observation is that of time 0, as in a world that goes round. V = 1 / (1 - discount) in every state, if
    and only if truncation bootstraps from the final observation.
    """

    actions = Discrete(2)
    ends = False

    def __init__(self, length: int = 4):
        self.max_steps = length

    def reset_env(self, key, params):
        return jax.nn.one_hot(0, self.max_steps), 0

    def step_env(self, key, time, action, params):
        over = time + 1 == self.max_steps
        obs = jax.nn.one_hot((time + 1) % self.max_steps, self.max_steps)
        return obs, time + 1, 1.0, over & self.ends, over & (not self.ends), {}


class Termination(Truncation):
    """``Truncation`` with an end where the other has a cut. V(t) = (1 - discount^(length - t)) / (1 - discount)."""

    ends = True


class ChainState(NamedTuple):
    position: Array  # [] int32
    time: Array  # [] int32


class Chain(AutoReset):
    """The action is the position to go to, so a test scripts the visits; the observation is one-hot, ``[length]``.

    Starts at 0, or anywhere but the last position with ``random_start``. The last position terminates and pays 1;
    ``max_steps`` truncates. Optimal V = 1 in every state.
    """

    def __init__(self, length: int = 4, max_steps: int = 8, random_start: bool = False):
        self.length, self.max_steps, self.random_start = length, max_steps, random_start
        self.actions = Discrete(length)
        self.num_states = length - 1

    def state_id(self, state, params):
        return state.position

    def reset_env(self, key, params):
        position = jax.random.randint(key, (), 0, self.length - 1) if self.random_start else jnp.int32(0)
        return jax.nn.one_hot(position, self.length), ChainState(position, 0)

    def step_env(self, key, state, action, params):
        state = ChainState(jnp.asarray(action, jnp.int32), state.time + 1)
        last = state.position == self.length - 1
        return jax.nn.one_hot(state.position, self.length), state, last, last, state.time >= self.max_steps, {}


PROBES = {
    "probe/constant": Constant,
    "probe/echo": Echo,
    "probe/delay": Delay,
    "probe/action": Action,
    "probe/action_box": ActionBox,
    "probe/truncation": Truncation,
    "probe/termination": Termination,
    "probe/chain": Chain,
}
NAMES = tuple(PROBES)
