"""Global times episodic (Henaff et al. 2023, arXiv:2306.03236): the product explores where either factor fails."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl.envs import AutoReset
from jaxrl.envs.tabular.rooms import FourRooms, FourRoomsParams
from jaxrl.sweep import sweep
from jaxrl.types import Discrete

COMB = """
##############
#            #
# ############
#           G#
# ############
#S           #
# ############
#            #
# ############
#            #
##############
"""
CELLS = 28


class Comb(FourRooms):
    """One map for ever: five dead ends off a hall, and time to walk to the end of one of them in an episode."""

    def __init__(self):
        super().__init__(COMB, horizon=20)
        self.default_params = FourRoomsParams(0.0)


class Passage(AutoReset):
    """A new world every episode: 28 cells in a row, reward 1 at the end, 34 steps.

    Observed are the cell, one-hot, the action that goes right from here, and the episode's colour, four numbers that
    no other episode has: what was visited in one episode is never met in another.
    """

    actions, max_steps, solved = Discrete(2), 34, 0.9

    def reset_env(self, key, params):
        k_swaps, k_colour = jax.random.split(key)
        swaps = jax.random.bernoulli(k_swaps, shape=(CELLS,))
        state = (jnp.int32(0), jnp.int32(0), swaps, jax.random.normal(k_colour, (4,)))
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        cell, time, swaps, colour = state
        cell = jnp.clip(cell + jnp.where((action == 1) ^ swaps[cell], 1, -1), 0, CELLS - 1)
        state = (cell, time + 1, swaps, colour)
        end = cell == CELLS - 1
        return self.observe(state), state, end, end, state[1] >= self.max_steps, {}

    def observe(self, state):
        cell, _, swaps, colour = state
        return jnp.concatenate([jnp.arange(CELLS) == cell, swaps[cell][None], colour]).astype(jnp.float32)


@pytest.mark.slow
def test_the_product_solves_what_the_global_bonus_and_what_the_episodic_one_cannot(tmp_path):
    """Chosen on seeds 100 to 103. PPO alone reaches neither end: thirteen and 27 moves in the right direction."""
    bonuses = ["count", "episodic_count(first_visit=True)", "count * episodic_count(first_visit=True)"]
    solved = {}
    for world in (Comb, Passage):
        curves = sweep(
            tmp_path / world.__name__, env=world, grid={"bonus": ["none", *bonuses]},
            seeds="0:8", steps=102_400, lr=1e-3, num_steps=64,
        )  # fmt: skip
        final = curves["solved"].isel(iteration=-1)
        solved[world] = [int(final.sel(bonus=bonus).sum()) for bonus in ("none", *bonuses)]
    (alone, once, never, both), (alone_anew, never_anew, each, both_anew) = solved[Comb], solved[Passage]
    assert alone == alone_anew == 0, solved
    assert min(both, both_anew) >= 6, solved
    assert once >= 6 and never_anew <= 2, solved  # the global bonus, on the fixed map and on new ones
    assert each >= 6 and never <= 2, solved  # the episodic bonus, on new maps and on the fixed one
