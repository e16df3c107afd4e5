"""MarsExplorer: PPO uncovers more of unseen terrain than chance, less than a frontier planner; a bonus helps when only
a finished map pays.

Paper     Koutras et al. 2021, MarsExplorer: generated terrain, learned explorers against frontier methods.
Claim     Where every cell that is uncovered pays, PPO beats a random agent and stays below nearest-frontier. Where a
          finished map alone pays, PPO finishes more maps with an episodic bonus than without.
Protocol  Terrain of 15x15 cells, a new map each episode, lidar of 3 cells, 8 blocks, 100 steps; walls are bumped into,
          not fatal. `every cell`: 1/225 for each new cell, so that the return is the share of the map that was
          uncovered after the first look. `finished map`: 1 when all that can be seen has been seen to 90 %, which ends
          the episode, and nothing before. Bonus: episodic_count at first visits, of the whole view. PPO, two
          critics. Score: mean return over 64 episodes, new maps, at the end of training; frontier and random play the
          same number. The policy acts by sampling (a greedy one of little training stands against a wall).
Run       jaxrl reproduce mars-explorer
Departs   Sizes and rewards: the paper's are 21x21, lidar 6, -400 for a crash. Its published curves are smoothed
          polynomials with added noise; nothing is compared with them.
"""

import jax
import numpy as np
import xarray as xr

from jaxrl.envs import make
from jaxrl.envs.coverage.frontier import frontier
from jaxrl.reproduce import Difference

SIZE, EPISODES = 15, 64
WORLD = {"size": SIZE, "lidar_range": 3.0, "obstacles": 8, "max_steps": 100, "crash_ends": False, "step_cost": 0.0}
WORLD |= {"collision_reward": 0.0, "outside_reward": 0.0, "covered": 0.9}
DENSE, SPARSE = "every cell", "finished map"
REWARDS = {
    DENSE: {"cell_reward": 1 / SIZE**2, "complete_reward": 0.0, "covered": 1.0},
    SPARSE: {"cell_reward": 0.0, "complete_reward": 1.0},
}
BONUS = "episodic_count(first_visit=True, buckets=1024)"
ARMS = {"PPO": "none", "PPO + bonus": BONUS}
DIFFERENCES = (
    Difference("every cell pays: PPO uncovers more than a random agent", DENSE, "PPO", "random", 0.05),
    Difference("every cell pays: a frontier planner uncovers more than PPO", DENSE, "frontier", "PPO", 0.02),
    Difference("a finished map pays: the bonus finishes more maps", SPARSE, "PPO + bonus", "PPO", 0.05),
)
SCALES = {
    "smoke": {"seeds": 2, "arms": ["PPO", "PPO + bonus"], "steps": 2048, "panels": [SPARSE], "coefs": [1]},
    "cpu": {"seeds": 16, "pilot": 4, "steps": 409_600, "panels": [DENSE, SPARSE], "coefs": [0.1, 1]},
    "gpu": {"seeds": 32, "pilot": 8, "steps": 10_240_000, "panels": [DENSE, SPARSE], "coefs": [0.01, 0.1, 1]},
}


def measure(lab):
    panels = {panel: scored(lab, panel) for panel in lab.scale["panels"]}
    for panel in panels.values():
        panel.attrs |= {"title": "score of the policy on new maps", "units": "share"}
    return panels


def scored(lab, panel: str) -> xr.DataArray:
    env_args = {**WORLD, **REWARDS[panel]}
    common = {"env": "coverage/MarsExplorer", "env_args": env_args, "evals": 4, "eval_episodes": EPISODES}
    common |= {"metric": "eval_return_sampled"}
    trained = lab.compare(ARMS, steps=lab.scale["steps"], lr=1e-3, choose={"coef": lab.scale["coefs"]}, **common)
    return xr.concat([trained, *scripted(lab, env_args, trained)], "arm")


def scripted(lab, env_args, like: xr.DataArray) -> list[xr.DataArray]:
    """What the agents that do not learn score, on as many maps for each seed."""
    task = make("coverage/MarsExplorer", **env_args)
    policies = {
        "frontier": lambda key, state: frontier(state),
        "random": lambda key, state: jax.random.randint(key, (), 0, 4),
    }

    def episode(key, policy):
        def step(carry, key):
            state, alive = carry
            action = policy(jax.random.fold_in(key, 1), state)
            _, state, reward, terminated, truncated, _ = task.env.advance(key, state, action, task.params)
            return (state, alive & ~(terminated | truncated)), reward * alive

        state = task.env.reset(key, task.params)[1]
        keys = jax.random.split(jax.random.fold_in(key, 0), task.max_steps)
        return jax.lax.scan(step, (state, True), keys)[1].sum()

    found = []
    for name, policy in policies.items():
        of_seed = lambda seed, policy=policy: jax.vmap(
            lambda i: episode(jax.random.fold_in(jax.random.key(seed), i), policy)
        )(np.arange(EPISODES)).mean()
        scores = jax.jit(lambda seeds, of_seed=of_seed: jax.lax.map(of_seed, seeds))(np.array(lab.seeds))
        lab.steps += len(lab.seeds) * EPISODES * task.max_steps
        found.append(xr.DataArray(np.asarray(scores)[None], {"arm": [name], "seed": like["seed"]}, ("arm", "seed")))
    return found
