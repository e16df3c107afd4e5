"""Noise in the observation makes exact episodic counts useless, and E3B stays, whose features ignore it.

Paper     Henaff, Raileanu, Jiang and Rocktaeschel 2022 (arXiv:2210.05805): what earlier episodic bonuses count decides
          whether they work, E3B needs no such choice; and exploration without reward (there in Habitat).
Claim     Where something changes at every step, every observation is new and a count over the episode pays the same
          everywhere. Elliptical bonuses of features learned by inverse dynamics keep what actions change.
Protocol  A maze without reward. Seen are the agent's cell, one-hot, and 16 bits of 0.1 (MiniGrid shows its agent as a
          10), drawn anew at each step or, without noise, always 0. First visits of the whole observation in the
          episode, or E3B; beside them E3B where bits are as large as what they hide. PPO, the bonus alone, its return
          ending with the episode. Coverage: share of the maze entered in an episode, training policy, mean over the
          last fifth of training.
Run       jaxrl reproduce e3b-noise
Departs   Sizes, and one maze for ever: the paper's worlds, MiniHack's and Habitat's, are new in each episode.
"""

import flax.struct
import jax
import jax.numpy as jnp

from jaxrl.envs.params import Around
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.reproduce import Difference

BITS = 16


@flax.struct.dataclass
class Noise:
    noise: float = 0.1  # the size of the bits


class Seen(Wrapper):
    """The cell and the bits are seen; the reward is the share of the maze that the step enters first.

    The memory is the cells entered in this episode, bool ``[num_states]``.
    """

    def shown(self, key, cell, params):
        bits = jax.random.bernoulli(key, 0.5, (BITS,))
        return jnp.concatenate([cell.astype(jnp.float32), params.own.noise * bits])

    def cell(self, inner, params):
        return jnp.arange(self.num_states) == self.env.state_id(inner, params.inner)

    def reset_env(self, key, params):
        world_key, noise_key = jax.random.split(key)
        _, inner = self.env.reset_env(world_key, params.inner)
        cell = self.cell(inner, params)
        return self.shown(noise_key, cell, params), Around(cell, inner)

    def step_env(self, key, state, action, params):
        world_key, noise_key = jax.random.split(key)
        _, inner, _, *rest = self.env.step_env(world_key, state.inner, action, params.inner)
        cell = self.cell(inner, params)
        # Crossings joined by a spanning tree; all but the cell that an episode opens in are to be entered.
        share = (cell & ~state.own).any() / (2 * (self.env.width // 2) ** 2 - 2)
        return self.shown(noise_key, cell, params), Around(state.own | cell, inner), share, *rest


def seen(env) -> Wrapper:
    return Seen(env, Noise())


COVERAGE = "coverage"
COUNTS, E3B = "episodic_count(first_visit=True)", "e3b(lr=0.001, epochs=4)"
ARMS = {
    "counts": {"bonus": COUNTS, "params.noise": 0.1},
    "E3B": {"bonus": E3B, "params.noise": 0.1},
    "counts, no noise": {"bonus": COUNTS, "params.noise": 0.0},
    "E3B, no noise": {"bonus": E3B, "params.noise": 0.0},
    "E3B, bits of 1": {"bonus": E3B, "params.noise": 1.0},
}
DIFFERENCES = (
    Difference("with noise: E3B beats counts", COVERAGE, "E3B", "counts", 0.05),
    Difference("counts do worse with noise than without", COVERAGE, "counts, no noise", "counts", 0.05),
)
SCALES = {
    "smoke": {"seeds": 2, "arms": ["counts", "E3B"], "steps": 2048, "size": 7, "limit": 24},
    "cpu": {"seeds": 16, "steps": 204_800, "size": 11, "limit": 100},
    "gpu": {"seeds": 32, "steps": 8_192_000, "size": 15, "limit": 200},
}


def measure(lab):
    maze = {"size": lab.scale["size"], "max_steps": lab.scale["limit"], "goal": False}
    panel = lab.compare(
        ARMS, env="grid/Maze", env_args=maze, wrap=[seen], streams="only", bonus_episodic=True, lr=1e-3,
        steps=lab.scale["steps"], evals=0, metric="return", last=0.2,
    )  # fmt: skip
    panel.attrs |= {"title": "cells entered in an episode", "units": "fraction of the maze"}
    return {COVERAGE: panel}
