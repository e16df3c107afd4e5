"""CFN follows visit counts more closely than RND does, and so it solves sizes of DeepSea that RND does not.

Paper     Lobel, Bagaria and Konidaris 2023 (arXiv:2306.03186): bonus against true counts on a visual grid; its tasks.
Claim     Along the same walk the coin flip network ranks cells by 1 / sqrt(n) better than random network distillation,
          and PPO with it solves DeepSea on more seeds. Less than 0.1 of rho, or a fifth of the seeds, is none.
Protocol  Counts: `jaxrl.calibrate`, walks over a 21x21 grid shown as one-hot row and column and as a picture, each
          bonus as it comes, RND also with CFN's step size and passes (1e-3 and four instead of 1e-4 and one), which
          are ten times and four times its own: what is left is due to the kind of bonus. Exact counts are the ceiling.
          DeepSea: PPO, two critics, non-episodic bonus; solved: the greedy policy at the end. The coefficient is
          chosen for each bonus and size from 0.1 and 1. Counts (at 1) are shown too, and PPO alone, the floor.
Run       jaxrl reproduce cfn-vs-rnd
Evidence  Refuted as a whole, though all four differences from RND as it comes are reproduced: given CFN's step size and
          passes, RND is level with it on one-hot cells and DeepSea-12 and not told from it on DeepSea-16. Most of the
          gap is how long a bonus learns; what is left to the kind of bonus is 0.13 of rho, on pictures.
Departs   DeepSea for the paper's tasks, PPO for its Rainbow; CFN keeps a ring of 32,768 visits, not all. The walks and
          their networks (MLP on the picture too) are ours.
"""

from jaxrl.reproduce import Difference, counts
from jaxrl.reproduce.counts import COUNTS, SEA, WORLDS

ARMS = {"none": "none", "count": "count", "rnd": "rnd", "rnd trained as cfn": "rnd(lr=1e-3, epochs=4)", "cfn": "cfn"}
DIFFERENCES = tuple(
    difference
    for rnd in ("rnd", "rnd trained as cfn")
    for difference in (
        *(Difference(f"{world}: CFN keeps to counts better than {rnd}", COUNTS, "cfn", rnd, 0.1, {"world": world})
          for world in WORLDS),
        *(Difference(f"DeepSea-{size}: CFN solves more than {rnd}", SEA, "cfn", rnd, 0.2, {"size": size})
          for size in (12, 16)),
    )
)  # fmt: skip
SCALES = {
    "smoke": {"seeds": 2, "arms": ["cfn", "rnd"], "walks": 2, "sizes": [],
              "walk": {"side": 5, "limit": 20, "rollouts": 12, "picture_rollouts": 4}},
    "cpu": {"seeds": 32, "pilot": 4, "walks": 8, "walk": {}, "sizes": [12, 16], "steps": 51_200, "coefs": [0.1, 1]},
    "gpu": {"seeds": 64, "pilot": 16, "walks": 64, "walk": {}, "sizes": [12, 16, 20, 30], "steps": 512_000,
            "coefs": [0.1, 0.3, 1]},
}  # fmt: skip


def measure(lab):
    return counts.measure(lab, ARMS)
