"""On Craftax-Classic, RND, ICM and E3B give no gain over PPO at equal budget.

Paper     Matthews et al. 2024, Craftax (arXiv:2402.16801): PPO, RND, ICM and E3B score alike.
Claim     After the same steps none of the three bonuses returns more than PPO alone, by as much as one achievement.
Protocol  Craftax-Classic-Symbolic, whose reward is 1 for each of 22 achievements and a tenth of changes of health. PPO,
          reward and bonus in one critic each. Score: mean return of the episodes that ended in the last quarter of
          training. The bonuses' coefficient is the released baselines' order, 0.01, of bonuses of unit deviation.
Run       jaxrl reproduce craftax-negative --scale gpu
Departs   Craftax-Classic for Craftax, 5e6 steps a seed instead of 1e9. The cpu scale gives each seed 82,000 steps:
          PPO gets 3.2 of 22 by then, so that "no gain" says little of a longer run. The smoke scale is two programs
          of two lanes; it takes as long as their compilation, a minute or more.
"""

from jaxrl.reproduce import Difference

ARMS = {"PPO": "none", "PPO + RND": "rnd", "PPO + ICM": "icm", "PPO + E3B": "e3b"}
PANEL = "Craftax-Classic"
DIFFERENCES = tuple(
    Difference(f"{arm.removeprefix('PPO + ')} gives no gain of one achievement", PANEL, arm, "PPO", 1.0, gain=False)
    for arm in ARMS
    if arm != "PPO"
)
SCALES = {
    "smoke": {"seeds": 2, "arms": ["PPO + RND", "PPO"], "steps": 8192, "coef": 0.01},
    "cpu": {"seeds": 8, "steps": 81_920, "coef": 0.01},
    "gpu": {"seeds": 16, "steps": 4_915_200, "coef": 0.01},
}


def measure(lab):
    panel = lab.compare(
        ARMS, env="craftax/Classic-Symbolic", steps=lab.scale["steps"], metric="return", last=0.25,
        choose={"coef": [lab.scale["coef"]]}, lr=1e-3, hidden=(128, 128), num_steps=64, evals=0,
    )  # fmt: skip
    panel.attrs |= {"title": "return of the last quarter of training", "units": "return"}
    return {PANEL: panel}
