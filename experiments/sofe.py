"""A policy that sees the counts behind its bonus covers more of a maze, and its critic can predict the bonus.

Paper     Creus Castanyer, Romoff and Berseth 2024 (arXiv:2310.18144), the experiments on mazes without reward.
Claim     An episodic count pays by a history that the policy cannot see; shown the counts, it covers more in an
          episode than with the same bonus alone, more than a recurrent policy does, and its critic explains more of
          the bonus's return.
Protocol  A fixed maze, the agent's cell one-hot. The bonus alone, its return ending with the episode: 1 at first
          visits ("salesman") or 1 / sqrt(n). PPO, PPO with the counts in its observation, recurrent PPO without.
          Coverage per episode of the training policy and explained variance, means over the last fifth of training.
          The entropy coefficient is chosen for each arm, by coverage.
Run       jaxrl reproduce sofe
Departs   The counts' encoding is ours (see augment_obs). No arm sees the time: a clock would let the policy
          without counts learn one tour by heart.
"""

import jax

from jaxrl.envs.params import Around
from jaxrl.envs.wrappers.wrapper import Wrapper
from jaxrl.reproduce import Difference


class Entered(Wrapper):
    """The agent's cell alone is seen, one-hot; the reward is the share of the maze that the step enters first.

    The memory is the cells entered in this episode, bool ``[num_states]``.
    """

    def cell(self, inner, params):
        return jax.nn.one_hot(self.env.state_id(inner, params), self.num_states)

    def reset_env(self, key, params):
        _, inner = self.env.reset_env(key, params)
        cell = self.cell(inner, params)
        return cell, Around(cell > 0, inner)

    def step_env(self, key, state, action, params):
        _, inner, _, *rest = self.env.step_env(key, state.inner, action, params)
        cell = self.cell(inner, params)
        entered = state.own | (cell > 0)
        return cell, Around(entered, inner), (entered & ~state.own).any() / self.reachable, *rest

    @property
    def reachable(self):
        side = self.env.width // 2  # crossings a side, joined by a spanning tree; all but the first are to be entered
        return 2 * side**2 - 2


def entered(env) -> Wrapper:
    return Entered(env)


COVERAGE, CRITIC = "coverage", "critic"
SALESMAN, COUNT = "episodic_count(first_visit=True, buckets=1024)", "episodic_count(buckets=1024)"
COUNTS = {"wrap": [entered, "augment_obs(time=False)"]}
ARMS = {
    "salesman": {"bonus": SALESMAN},
    "salesman, counts seen": {"bonus": SALESMAN, **COUNTS},
    "salesman, recurrent": {"bonus": SALESMAN, "agent": "ppo_rnn"},
    "1 / sqrt(n)": {"bonus": COUNT},
    "1 / sqrt(n), counts seen": {"bonus": COUNT, **COUNTS},
}
DIFFERENCES = (
    Difference("salesman: the counts raise coverage", COVERAGE, "salesman, counts seen", "salesman", 0.05),
    Difference("1 / sqrt(n): the counts raise coverage", COVERAGE, "1 / sqrt(n), counts seen", "1 / sqrt(n)", 0.05),
    Difference("the counts beat recurrence", COVERAGE, "salesman, counts seen", "salesman, recurrent", 0.05),
    Difference("the critic explains more", CRITIC, "salesman, counts seen", "salesman", 0.1),
)
SCALES = {
    "smoke": {
        "seeds": 2,
        "arms": ["salesman", "salesman, counts seen"],
        "steps": 4096,
        "size": 7,
        "limit": 24,
        "entropy": [0.1],
    },
    "cpu": {"seeds": 16, "pilot": 4, "steps": 307_200, "size": 11, "limit": 100, "entropy": [0.01, 0.1]},
    "gpu": {"seeds": 32, "pilot": 8, "steps": 4_096_000, "size": 15, "limit": 200, "entropy": [0.01, 0.1]},
}


def measure(lab):
    scale = lab.scale
    maze = {"size": scale["size"], "max_steps": scale["limit"], "goal": False}
    common = {
        "env": "grid/Maze", "env_args": maze, "wrap": [entered], "streams": "only", "bonus_episodic": True,
        "steps": scale["steps"], "evals": 0, "last": 0.2,
    }  # fmt: skip
    panels = {COVERAGE: lab.compare(ARMS, metric="return", choose={"entropy": scale["entropy"]}, **common)}
    chosen = {row["arm"]: row["chosen"] for row in lab.chosen}
    arms = {name: {**fields, **chosen.get(name, {"entropy": scale["entropy"][0]})} for name, fields in ARMS.items()}
    panels[CRITIC] = lab.compare(arms, metric="ppo/explained_variance", **common)
    panels[COVERAGE].attrs |= {"title": "cells entered in an episode", "units": "fraction of the maze"}
    panels[CRITIC].attrs |= {"title": "variance of the bonus's return that the critic explains", "units": "fraction"}
    return panels
