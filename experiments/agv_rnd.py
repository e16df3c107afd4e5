"""RND lets PPO drive a warehouse vehicle out of a U-shaped shelf to a target that it does not see.

Paper     Yin, Su, Lin, Zhen, Festl and Watzenig 2024 (arXiv:2404.12594): RND-PPO against PPO for path planning.
Claim     With a reward at the target alone, PPO with RND reaches it in more episodes than PPO.
Protocol  AGVWarehouse, layout "u": the vehicle starts inside the shelf, its opening away from the targets. The reward
          is 1 at the target, nothing else. An action is held for three steps of 0.1 s, and an episode has 160 of
          them. Observation: lidar, motion, heading, place, and the target where it is seen. PPO, two critics,
          the bonus non-episodic (Burda et al. 2018); RND sees place and lidar. "PPO + count", a lifelong count of cells
          of half a metre, is the oracle. Score: share of 64 episodes of the policy as it acts (sampled) that reach the
          target, at the end of training.
Run       jaxrl reproduce agv-rnd
Departs   The paper's simulator and its rewards are not published; the vehicle is ours (two dimensions). The paper sums
          reward and bonus and trains RND and agent in turns; this is RND as it was published. Four settings were tried
          on seeds below 1000 before this one (other lengths of an action and an episode, fewer steps, RND on the whole
          observation): in them PPO alone arrived as often as with RND.
"""

import jax
import jax.numpy as jnp

from jaxrl.envs.coverage.agv_warehouse import RAYS, AGVWarehouse
from jaxrl.intrinsic.combine import map_obs
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.rnd import rnd
from jaxrl.reproduce import Difference
from jaxrl.types import IntrinsicReward

HELD = 3  # steps of the simulation that an action lasts
POSE = slice(23, 25)  # of the observation: x and y, over 10 m
CELLS = 20  # of half a metre, along each side


class Held(AGVWarehouse):
    """AGVWarehouse, each action held for `HELD` steps or until the target is reached; a step is one action."""

    def step_env(self, key, state, action, params):
        def step(carry, _):
            state, reward, ended = carry
            _, after, gained, terminated, _, _ = super(Held, self).step_env(key, state, action, params)
            state = jax.tree.map(lambda new, old: jnp.where(ended, old, new), after, state)
            return (state, reward + gained * ~ended, ended | terminated), None

        time = state.time + 1
        start = state, jnp.float32(0), jnp.bool_(False)
        (state, reward, reached), _ = jax.lax.scan(step, start, None, HELD)
        state = state._replace(time=time)
        return self.observe(state, params), state, reward, reached, (time >= self.max_steps) & ~reached, {}


def of_cells() -> IntrinsicReward:
    return map_obs(count(), lambda obs: jnp.floor(obs[..., POSE] * CELLS))


def of_view() -> IntrinsicReward:
    return map_obs(rnd(lr=1e-3), lambda obs: jnp.concatenate([obs[..., :RAYS], obs[..., POSE]], -1))


ARMS = {"PPO": "none", "PPO + RND": of_view, "PPO + count": of_cells}
PANEL = "U-shaped shelf"
DIFFERENCES = (
    Difference("RND reaches the target more often than PPO alone", PANEL, "PPO + RND", "PPO", 0.05),
    Difference("the oracle, a count of cells, does so too", PANEL, "PPO + count", "PPO", 0.05),
)
SCALES = {
    "smoke": {"seeds": 2, "arms": ["PPO + RND", "PPO"], "steps": 4096, "coefs": [1]},
    "cpu": {"seeds": 16, "pilot": 4, "steps": 409_600, "coefs": [0.1, 1]},
    "gpu": {"seeds": 32, "pilot": 8, "steps": 10_240_000, "coefs": [0.1, 1]},
}
WORLD = {"layout": "u", "pose": True, "max_steps": 160, "step_cost": 0.0, "collision_cost": 0.0}


def measure(lab):
    panel = lab.compare(
        ARMS, env=Held, env_args=WORLD, steps=lab.scale["steps"], metric="eval_return_sampled",
        choose={"coef": lab.scale["coefs"]}, lr=1e-3, num_steps=64, evals=4, eval_episodes=64,
    )  # fmt: skip
    panel.attrs |= {"title": "success of the policy", "units": "fraction of episodes"}
    return {PANEL: panel}
