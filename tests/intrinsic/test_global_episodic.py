"""Global times episodic (Henaff et al. 2023, arXiv:2306.03236): the product explores where either factor fails."""

import jax
import jax.numpy as jnp
import pytest
from worlds import Corridor

from jaxrl.envs.tabular.rooms import FourRooms, FourRoomsParams
from jaxrl.sweep import sweep

COMB = """
###################
#                 #
# #################
#                G#
# #################
#S                #
# #################
#                 #
# #################
#                 #
###################
"""


class Comb(FourRooms):
    """One map for ever: five dead ends off a hall, and time to walk to the end of one of them in an episode."""

    def __init__(self):
        super().__init__(COMB, horizon=24)
        self.default_params = FourRoomsParams(0.0)


class ColouredCorridor(Corridor):
    """The corridor in a colour, four numbers, that no other episode has: what one shows is never seen in another."""

    def state_id(self, state, params):
        return super().state_id(state[0], params)

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        colour = jax.random.normal(key, (4,))
        return jnp.concatenate([obs, colour]), (state, colour)

    def step_env(self, key, state, action, params):
        state, colour = state
        obs, state, *rest = super().step_env(key, state, action, params)
        return jnp.concatenate([obs, colour]), (state, colour), *rest


@pytest.mark.slow
def test_the_product_explores_where_the_global_and_where_the_episodic_factor_does_not(tmp_path):
    """Chosen on seeds 100 to 105. Rollouts are as long as episodes of the corridor, so that a global count, which knows
    what was committed before the rollout, knows nothing of the episode that it judges.
    """
    alone, everywhere, once, product = bonuses = [
        "none",
        "count",
        "episodic_count(first_visit=True)",
        "count * episodic_count(first_visit=True)",
    ]
    for world, fitting, unfit in ((Comb, everywhere, once), (ColouredCorridor, once, everywhere)):
        curves = sweep(
            tmp_path / world.__name__, env=world, grid={"bonus": bonuses},
            seeds="0:8", steps=120_000, lr=1e-3, num_steps=44,
        )  # fmt: skip
        final = curves[["solved", "coverage"]].isel(iteration=-1)
        solved = {bonus: int(final["solved"].sel(bonus=bonus).sum()) for bonus in bonuses}
        covered = {bonus: float(final["coverage"].sel(bonus=bonus).mean()) for bonus in bonuses}
        assert solved[product] >= 6 and solved[unfit] <= 2, (world, solved)
        assert min(covered[product], covered[fitting]) > 0.95, (world, covered)
        assert covered[unfit] < 0.93 and covered[alone] < 0.8, (world, covered)
