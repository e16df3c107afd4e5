"""RDD follows visit counts more closely than RND does, under both ways to train it, and solves more of DeepSea.

Paper     Fang, Yang, Tao, Lyu, Li, Shen and Li 2025 (arXiv:2505.11044): the bonus decays as a count does; its tasks.
Claim     A target that is drawn anew around a random network's output makes the error to its mean a pseudo-count: along
          the same walk it ranks cells by 1 / sqrt(n) better than RND, and PPO with it solves DeepSea on more seeds.
          Less than 0.1 of Spearman's rho, or than a fifth of the seeds, is no difference.
Protocol  Two ways to train it, as the paper leaves open when a target is drawn: `rdd`, anew at each use, from the
          rollout alone, as RND learns; `rdd replay`, once per visit, replayed from a ring. Counts: `jaxrl.calibrate`,
          walks over a 21x21 grid shown as one-hot row and column and as a picture, each bonus as it comes, RND also
          with RDD's step size and passes (1e-3 and four instead of 1e-4 and one), which leaves the kind of bonus.
          DeepSea: PPO, two critics, non-episodic bonus; solved: the greedy policy at the end. The coefficient is
          chosen for each bonus from 0.1 and 1. Counts (at 1) are shown too, and PPO alone, the floor.
Run       jaxrl reproduce rdd-vs-rnd
Evidence  Refuted as a whole, though all six differences from RND as it comes are reproduced: with RDD's step size and
          passes RND keeps to counts as well on one-hot cells, better on pictures (0.82 against 0.62 of rho), and solves
          as much of DeepSea-16. Replay helps the counts little and halves what DeepSea-16 solves (0.34 against 0.69).
Departs   No code of the authors was found and the protocol is second-hand: DeepSea for the paper's tasks; the ring is
          ours. At a constant step size the predictor forgets old draws, which may spoil the counts without replay.
"""

from jaxrl.reproduce import Difference, counts
from jaxrl.reproduce.counts import COUNTS, SEA, WORLDS

ARMS = {
    "none": "none",
    "count": "count",
    "rnd": "rnd",
    "rnd trained as rdd": "rnd(lr=1e-3, epochs=4)",
    "rdd": "rdd",
    "rdd replay": "rdd(replay=True)",
}
DIFFERENCES = tuple(
    difference
    for rdd in ("rdd", "rdd replay")
    for rnd in ("rnd", "rnd trained as rdd")
    for difference in (
        *(Difference(f"{world}: {rdd} keeps to counts better than {rnd}", COUNTS, rdd, rnd, 0.1, {"world": world})
          for world in WORLDS),
        Difference(f"DeepSea-16: {rdd} solves more than {rnd}", SEA, rdd, rnd, 0.2, {"size": 16}),
    )
)  # fmt: skip
SCALES = {
    "smoke": {"seeds": 2, "arms": ["rnd", "rdd"], "walks": 0, "sizes": [16], "steps": 2048, "coefs": [1]},
    "cpu": {"seeds": 32, "pilot": 4, "walks": 8, "walk": {}, "sizes": [16], "steps": 61_440, "coefs": [0.1, 1]},
    "gpu": {"seeds": 64, "pilot": 16, "walks": 64, "walk": {}, "sizes": [16, 20, 30], "steps": 512_000,
            "coefs": [0.1, 0.3, 1]},
}  # fmt: skip


def measure(lab):
    return counts.measure(lab, ARMS)
