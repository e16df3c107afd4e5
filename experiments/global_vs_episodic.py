"""Global bonuses explore where episodes share a world, episodic ones where they do not, and their product in both.

Paper     Henaff, Jiang and Raileanu 2023 (arXiv:2306.03236), sections 3.1 to 3.3: success against |C|.
Claim     In one world for ever a count over the lifetime finds the end of a corridor that a count over the episode does
          not; where each episode has a new world it is the other way round; the product does as well as the better.
Protocol  Corridors(5, 12), 17 steps an episode, enough for one corridor, and ContextRooms, of |C| worlds or always
          a new one; all is seen, whitened. Bonuses count the agent's position (psi of the paper). PPO, two critics, the
          bonus's return non-episodic. Success: mean return of the greedy policy over 64 episodes at the end of
          training. The coefficient is chosen for each bonus and each |C|. Sizes were cut once more after a first run
          (163,840 steps in ContextRooms) took 13 minutes instead of 12; |C| = 10 came last and decides nothing.
Run       jaxrl reproduce global-vs-episodic
Evidence  Undecided is one of five: in one world the global bonus arrives on 7 of 16 seeds, the episodic one on 4. The
          budget is short there: on seeds 100 to 107, trained twice as long, the global one arrives on 7 of 8.
Departs   Sizes: the paper's worlds are MiniHack's, trained for 5e7 frames. Corridors is a comb (a cell of a grid has
          no five exits); the prototype that gave the expected numbers was a tabular policy gradient.
"""

from jaxrl.envs.grid.cells import AGENT
from jaxrl.intrinsic.combine import map_obs, product
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.reproduce import Difference
from jaxrl.types import IntrinsicReward


def where(obs):
    return obs[..., 0] == AGENT


def of_life() -> IntrinsicReward:
    return map_obs(count(), where)


def of_episode() -> IntrinsicReward:
    return map_obs(episodic_count(first_visit=True, buckets=1024), where)


def of_both() -> IntrinsicReward:
    return product(of_life(), of_episode())


ARMS = {"none": "none", "episodic": of_episode, "global": of_life, "product": of_both}
ONE, NEW = "Corridors", "ContextRooms"
AT = {"contexts": "always new"}
DIFFERENCES = (
    Difference("one world: the global bonus beats none", ONE, "global", "none", 0.1),
    Difference("one world: the global bonus beats the episodic one", ONE, "global", "episodic", 0.1),
    Difference("one world: the product beats the episodic bonus", ONE, "product", "episodic", 0.1),
    Difference("new worlds: the episodic bonus beats the global one", NEW, "episodic", "global", 0.05, AT),
    Difference("new worlds: the product beats the global bonus", NEW, "product", "global", 0.05, AT),
)
SCALES = {
    "smoke": {"seeds": 2, "pilot": 2, "arms": ["global", "none"], "one": 2048, "new": 0, "contexts": [0], "coefs": [1]},
    "cpu": {"seeds": 16, "pilot": 3, "one": 102_400, "new": 122_880, "contexts": [1, 10, 0], "coefs": [0.1, 1]},
    "gpu": {"seeds": 32, "pilot": 8, "one": 204_800, "new": 10_240_000, "contexts": [1, 10, 100, 0], "coefs": [0.1, 1]},
}


def measure(lab):
    scale = lab.scale
    common = {"lr": 1e-3, "normalize_obs": True, "evals": 2, "eval_episodes": 64, "metric": "eval_return"}
    common["choose"] = {"coef": scale["coefs"]}
    panels = {ONE: lab.compare(ARMS, env="grid/Corridors", env_args={"view": "full"}, steps=scale["one"], **common)}
    if scale["new"]:
        over = {"params.contexts": scale["contexts"]}
        rooms = lab.compare(ARMS, env="grid/ContextRooms", steps=scale["new"], over=over, **common)
        panels[NEW] = rooms.assign_coords(contexts=[f"|C| = {n}" if n else "always new" for n in scale["contexts"]])
    for panel in panels.values():
        panel.attrs |= {"title": "success of the greedy policy", "units": "fraction of episodes"}
    return panels
