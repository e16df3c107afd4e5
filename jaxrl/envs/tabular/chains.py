"""Chains: RiverSwim and the double chain."""

import flax.struct
import jax.numpy as jnp

from jaxrl.envs.tabular.mdp import Outcomes, Tabular, whole
from jaxrl.types import Array

_BACK = 0.05  # RiverSwim: chance to be washed back


class Chain(Tabular):
    """States in a row, two actions, left (0) and right (1).

    ``params.length`` is traced, up to the ``capacity`` that the arrays have room for; the states from ``length`` on are
    never reached, so that the coverage of a shorter chain ends at length / capacity.
    """

    shortest = 2

    def __init__(self, capacity: int, horizon: int, observation: str):
        capacity = whole("length, or the capacity for lengths,", capacity, self.shortest)
        super().__init__(capacity, 2, horizon, observation)

    def limits(self):
        return {"length": (self.shortest, self.num_states)}


@flax.struct.dataclass
class RiverSwimParams:
    length: Array | int = 6  # states, at least 2
    advance: Array | float = 0.35  # chance that a stroke against the current gets ahead, in [0, 0.95]
    near_reward: Array | float = 0.005  # for going left in the first state
    far_reward: Array | float = 1.0  # for going right in the last


class RiverSwim(Chain):
    """Going left is sure; right is against the current, and the reward worth having lies at its end.

    Strehl & Littman (2008), with the numbers of Osband et al. (2013): in the middle a stroke gets ahead with 0.35,
    stays with 0.6 and is washed back with 0.05; from the first state it gets ahead with 0.6; in the last it stays with
    0.6 and is washed back with 0.4. Episodes start in the first state; the default horizon of 20 is theirs too. The
    optimal gain of six states is 7203/16805 = 0.4286.
    """

    def __init__(self, capacity: int = 6, horizon: int = 20, observation: str = "one_hot"):
        super().__init__(capacity, horizon, observation)
        self.default_params = RiverSwimParams(length=self.num_states)

    def limits(self):
        return super().limits() | {"advance": (0, 1 - _BACK)}

    def starts(self, params):
        return jnp.ones(1), jnp.zeros(1, jnp.int32)

    def outcomes(self, state, action, params):
        first, last = state == 0, state == params.length - 1
        left = action == 0
        middle = jnp.stack([jnp.float32(_BACK), 1 - _BACK - params.advance, jnp.float32(params.advance)])
        right = jnp.where(first, jnp.array([0.0, 0.4, 0.6]), jnp.where(last, jnp.array([0.4, 0.6, 0.0]), middle))
        probability = jnp.where(left, jnp.array([1.0, 0.0, 0.0]), right)
        reward = jnp.where(left & first, params.near_reward, jnp.where(~left & last, params.far_reward, 0.0))
        following = jnp.clip(state + jnp.array([-1, 0, 1]), 0, self.num_states - 1)
        return Outcomes(probability, following, jnp.full(3, reward))


@flax.struct.dataclass
class DoubleChainParams:
    length: Array | int = 31  # states, at least 2
    fail: Array | float = 0.05  # chance to move the other way, in [0, 1]
    left_reward: Array | float = 0.0  # for staying in the first state
    right_reward: Array | float = 1.0  # for staying in the last


class DoubleChain(Chain):
    """Two chains from a start in the middle, of which one pays at its end.

    The setting of Kaufmann et al. (2021): 31 states, failure 0.05, horizon 20. A move past an end stays there, and a
    step that begins and ends in the last state pays 1; V* = 3.154. The first state pays ``left_reward`` alike.
    """

    def __init__(self, capacity: int = 31, horizon: int = 20, observation: str = "one_hot"):
        super().__init__(capacity, horizon, observation)
        self.default_params = DoubleChainParams(length=self.num_states)

    def limits(self):
        return super().limits() | {"fail": (0, 1)}

    def starts(self, params):
        middle = (jnp.asarray(params.length, jnp.int32) - 1) // 2
        return jnp.ones(1), middle[None]

    def outcomes(self, state, action, params):
        last = jnp.asarray(params.length, jnp.int32) - 1
        direction = 2 * action - 1
        following = jnp.clip(state + jnp.stack([direction, -direction]), 0, last)
        stays = following == state
        reward = jnp.where(stays & (state == last), params.right_reward, 0.0)
        reward = jnp.where(stays & (state == 0), params.left_reward, reward)
        fail = jnp.float32(params.fail)
        return Outcomes(jnp.stack([1 - fail, fail]), following, reward)
