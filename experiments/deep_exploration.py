"""Bonuses that count over a lifetime solve sizes of DeepSea at which PPO alone, and episodic bonuses, fail.

Paper     Osband et al. 2020 (arXiv:1908.03568), the DeepSea of bsuite: the size at which an agent stops solving it.
Claim     Only one of 2^size sequences of actions pays, and every step of it costs. Nothing is revisited within an
          episode, so that a bonus that forgets at its end is the same for every path: it helps no more than none. A
          bonus that decays with the visits of a lifetime leads to the treasure.
Protocol  Every bonus of the catalogue as it comes, AIRS over (count, rnd, none), and none. PPO, two critics,
          non-episodic bonus. Solved: the greedy policy at the end of 20,480 steps, 1,706 episodes at size 12, where
          2^12 are the paths. PPO's step size, the rollout's 32 steps and the coefficient, 0.1 for all, were chosen with
          counts at sizes 8 and 12, four seeds from 0 (3.9M steps). A panel for each kind of memory.
Run       jaxrl reproduce deep-exploration
Departs   PPO for bsuite's agents. The size is a number of the environment's params, so that one program trains a bonus
          at every size: a smaller sea is shown in the corner of the largest one's picture. One coefficient for all
          means that a bonus may fail here because of its scale.
"""

import flax.struct
import jax.numpy as jnp
import numpy as np

from jaxrl.calibrate import default_bonuses
from jaxrl.calibrate.score import kind
from jaxrl.envs.contract import AutoReset
from jaxrl.intrinsic.expression import parse
from jaxrl.reproduce import Difference
from jaxrl.types import Array, Discrete


@flax.struct.dataclass
class DeepSeaParams:
    size: Array | int  # rows and columns, at most the largest


class DeepSea(AutoReset):
    """A step down and left or right each time; right costs 0.01 / size, and pays 1 in the last column."""

    actions = Discrete(2)
    solved = 0.9

    def __init__(self, largest: int = 8):
        self.max_steps, self.default_params = largest, DeepSeaParams(largest)
        self.right = np.random.default_rng(0).integers(2, size=(largest, largest))  # the action that goes right

    def observe(self, row, column):
        rows, columns = jnp.arange(self.max_steps)[:, None], jnp.arange(self.max_steps)
        return ((rows == row) & (columns == column)).astype(jnp.uint8)

    def reset_env(self, key, params):
        return self.observe(0, 0), jnp.zeros(2, jnp.int32)

    def step_env(self, key, state, action, params):
        row, column = state
        right = action == jnp.asarray(self.right)[row, column]
        last = jnp.asarray(params.size, jnp.int32) - 1
        reward = jnp.where(right, (column == last) - 0.01 / params.size, 0.0)
        ended = row == last
        row, column = row + 1, jnp.clip(jnp.where(right, column + 1, column - 1), 0, last)
        # As in bsuite, what ends an episode looks the same whichever way it ended: nothing is seen.
        obs = jnp.where(ended, jnp.uint8(0), self.observe(row, column))
        return obs, jnp.stack([row, column]).astype(jnp.int32), reward, ended, jnp.zeros((), bool), {}


ARMS = {"none": "none"} | {bonus: bonus for bonus in default_bonuses()} | {"airs": "airs(count, rnd, none)"}
LIFELONG, SHORT, COMPOSED = "lifelong", "episode, batch, recurrent", "composed"
PANELS = {"lifelong": LIFELONG, "episodic": SHORT, "batch": SHORT, "recurrent": SHORT, "composed": COMPOSED}
SIZE = {"size": 12}
DIFFERENCES = (
    *(Difference(f"{one} solves more than PPO alone", LIFELONG, one, "none", 0.2, SIZE)
      for one in ("count", "simhash", "cfn", "rdd")),
    *(Difference(f"count solves more than {one}", SHORT, "count", one, 0.2, SIZE) for one in ("episodic_count", "e3b")),
)  # fmt: skip
SCALES = {
    "smoke": {"seeds": 2, "arms": ["count", "none"], "sizes": [8, 12], "steps": 2048, "coef": 0.1},
    "cpu": {"seeds": 16, "sizes": [8, 12], "steps": 20_480, "coef": 0.1},
    "gpu": {"seeds": 32, "sizes": [8, 12, 16, 20, 24], "steps": 512_000, "coef": 0.1},
}


def measure(lab):
    scale = lab.scale
    sea = lab.compare(ARMS, env=DeepSea, env_args={"largest": max(scale["sizes"])}, steps=scale["steps"], num_steps=32,
                      lr=2e-3, coef=scale["coef"], evals=2, eval_episodes=1, metric="solved",
                      over={"params.size": scale["sizes"]})  # fmt: skip
    sea.attrs |= {"title": "solved at the end of training", "units": "fraction of seeds"}
    # Three panels, since eighteen lines in one cannot be told apart; none and counts are in each.
    shown = {panel: ["none", "count"] for panel in dict.fromkeys(PANELS.values())}
    for arm in map(str, sea["arm"].values):
        if arm not in ("none", "count"):
            shown[PANELS[kind(parse(ARMS[arm]))]].append(arm)
    return {panel: sea.sel(arm=arms) for panel, arms in shown.items() if len(arms) > 2 or panel == LIFELONG}
