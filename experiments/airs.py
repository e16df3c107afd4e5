"""A bandit over bonuses is within 10 % of the best of them on each of three tasks, though the best one differs.

Paper     Yuan, Li, Jin and Zeng 2023 (arXiv:2301.10886): AIRS matches the best fixed intrinsic reward on every task.
Claim     Choosing a bonus for each rollout by the task's return loses at most a tenth of what the best single bonus
          scores, on tasks where a bonus is needed, where it is in the way, and where only an episodic one helps.
Protocol  `far end`: a line of 36 cells that pays at its end, out of reach without a bonus. `stay`: the same line, which
          pays for staying at its start, where an episodic bonus is in the way. `new worlds`: ContextRooms, a new world
          each episode, for which lifelong counts are too many. Arms of the bandit: none, count, episodic_count at first
          visits, of the whole view. PPO, two critics. Which single arm is best is found on pilot seeds, on each task,
          and named "best". Score: mean return of the policy as it acts (sampled) over 64 episodes at the end of
          training; all lie in [0, 1]. "turns" (gpu) is the same bandit with its outcomes drowned: arms take turns.
Run       jaxrl reproduce airs
Departs   Tasks and arms: the paper's are MiniGrid, Procgen and control with RE3 and RISE. The bandit's payoffs are
          standardised and credited one rollout later (see jaxrl/intrinsic/airs.py).
"""

import jax
import jax.numpy as jnp
import xarray as xr

from jaxrl.envs import AutoReset
from jaxrl.reproduce import Difference
from jaxrl.types import Discrete

CELLS, LIMIT = 36, 44


class Line(AutoReset):
    """36 cells from the left, one-hot; 44 steps. The end pays 1 and ends the episode, or, with `stay`, each step at the
    start 1 / 44. A fixed coin for each cell says which action goes right, so that there is no direction to drift in.
    """

    actions, max_steps = Discrete(2), LIMIT

    def __init__(self, stay: bool = False):
        self.stay = stay

    def reset_env(self, key, params):
        return jnp.arange(CELLS) == 0, (jnp.int32(0), jnp.int32(0))

    def step_env(self, key, state, action, params):
        swapped = jax.random.bernoulli(jax.random.key(3), shape=(CELLS,))[state[0]]
        cell, time = jnp.clip(state[0] + jnp.where((action == 1) ^ swapped, 1, -1), 0, CELLS - 1), state[1] + 1
        end = (cell == CELLS - 1) & (not self.stay)
        reward = (cell == 0) / LIMIT if self.stay else end
        return jnp.arange(CELLS) == cell, (cell, time), reward, end, (time >= LIMIT) & ~end, {}


EPISODIC = "episodic_count(first_visit=True, buckets=1024)"
SINGLE = {"none": "none", "count": "count", "episodic": EPISODIC}
AIRS = {"AIRS": f"airs(none, count, {EPISODIC})", "turns": f"airs(none, count, {EPISODIC}, exploration=1000.0)"}
TASKS = {
    "far end": {"env": Line, "steps": 204_800},
    "stay": {"env": Line, "env_args": {"stay": True}, "steps": 204_800},
    "new worlds": {"env": "grid/ContextRooms", "steps": 204_800},
}
DIFFERENCES = tuple(
    Difference(f"{task}: AIRS is within 10 % of the best single bonus", task, "AIRS", "best", 0.05, share=0.9)
    for task in TASKS
)
SCALES = {
    "smoke": {
        "seeds": 2,
        "pilot": 2,
        "tasks": ["far end"],
        "single": ["count"],
        "arms": ["AIRS", "best"],
        "part": 0.01,
    },
    "cpu": {"seeds": 16, "pilot": 8, "tasks": [*TASKS], "single": [*SINGLE], "arms": ["AIRS", "best"], "part": 1.0},
    "gpu": {"seeds": 64, "pilot": 16, "tasks": [*TASKS], "single": [*SINGLE], "part": 4.0},
}


def measure(lab):
    return {task: scored(lab, task) for task in lab.scale["tasks"]}


def scored(lab, task: str) -> xr.DataArray:
    fields = {**TASKS[task], "lr": 1e-3, "evals": 4, "eval_episodes": 64, "metric": "eval_return_sampled"}
    fields["steps"] = round(lab.scale["part"] * fields["steps"])
    arms = {**AIRS, "best": best(lab, task, fields)}
    panel = lab.compare(arms, **fields)
    panel.attrs |= {"title": f"score of the policy, {task}", "units": "return"}
    return panel


def best(lab, task: str, fields) -> str:
    """The single bonus with the highest mean over pilot seeds."""
    names = lab.scale["single"]
    if len(names) == 1:
        return SINGLE[names[0]]
    train = lambda name: lab.train(f"{task}, {name}: pilot", [{}], lab.pilot, bonus=SINGLE[name], **fields)
    means = {name: float(train(name).mean()) for name in names}
    chosen = max(means, key=lambda name: means[name])
    tried = [{"bonus": name, "score": mean} for name, mean in means.items()]
    lab.chosen.append({"arm": "best", "at": {"task": task}, "chosen": {"bonus": chosen}, "tried": tried})
    return SINGLE[chosen]
