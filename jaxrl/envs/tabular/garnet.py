"""Garnets: random MDPs, each named by a number, so that thousands of them can be the lanes of one program."""

from math import ceil, sqrt

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tabular.mdp import Outcomes, Tabular, whole
from jaxrl.errors import UserError
from jaxrl.keys import key_of
from jaxrl.types import Array


@flax.struct.dataclass
class GarnetParams:
    mdp_seed: Array | int = 0  # which MDP
    reward_density: Array | float = 0.1  # share of the pairs (s, a) that pay, in [0, 1]


class Garnet(Tabular):
    """Generalized average reward non-stationary environment test-bed (Archibald et al. 1995), here stationary.

    From each pair (s, a), ``branching`` different states can follow, drawn evenly, with the lengths into which as many
    less one uniform cuts divide the unit interval for probabilities. Ours: a pair pays with probability
    ``params.reward_density``, an amount uniform in [0, 1), the same each time; the start is state 0; no state is
    terminal; 50 states, 4 actions, branching 3 and horizon 20. At densities far below 1 / (S A) whole MDPs pay nothing,
    and then every return counts as solved.

    What follows a pair is drawn anew from ``mdp_seed`` at each step, which costs less than to store the tables for
    thousands of lanes.
    """

    def __init__(
        self,
        num_states: int = 50,
        num_actions: int = 4,
        branching: int = 3,
        horizon: int = 20,
        observation: str = "one_hot",
    ):
        super().__init__(num_states, num_actions, horizon, observation)
        self.branching = whole("branching", branching, 1)
        if self.branching > self.num_states:
            raise UserError(f"branching must be at most num_states={self.num_states}, not {self.branching}")
        self.default_params = GarnetParams()

    def limits(self):
        return {"mdp_seed": (0, 2**31 - 1), "reward_density": (0, 1)}

    def starts(self, params):
        return jnp.ones(1), jnp.zeros(1, jnp.int32)

    def outcomes(self, state, action, params):
        mdp_key = key_of(jnp.asarray(params.mdp_seed, jnp.int32))
        key = jax.random.fold_in(mdp_key, state * self.actions.n + action)
        # One call, because it is most of what a step costs.
        for_states, for_cuts, pays, reward = jnp.split(
            jax.random.uniform(key, (2 * self.branching + 1,)),
            [self.branching, 2 * self.branching - 1, 2 * self.branching],
        )
        probability = jnp.diff(jnp.sort(for_cuts), prepend=0.0, append=1.0)
        reward = jnp.where(pays < params.reward_density, reward, 0.0)
        return Outcomes(probability, distinct(for_states, self.num_states), jnp.broadcast_to(reward, self.branching))

    def picture(self):
        columns = ceil(sqrt(self.size))
        cells = np.full(columns * ceil(self.size / columns), -1)
        cells[: self.size] = np.arange(self.size)
        return cells.reshape(-1, columns)


def distinct(uniforms: Array, n: int) -> Array:
    """K different numbers of ``0 .. n - 1`` ``[K]`` int32, each subset alike, from as many uniforms in [0, 1).

    Floyd's algorithm (Bentley & Floyd 1987): K steps, and no sort of n.
    """
    k = uniforms.size
    chosen = jnp.full(k, -1)
    for i in range(k):
        highest = n - k + i
        number = (uniforms[i] * (highest + 1)).astype(jnp.int32)
        chosen = chosen.at[i].set(jnp.where((chosen == number).any(), highest, number))
    return chosen
