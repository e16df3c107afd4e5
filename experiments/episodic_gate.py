"""The episodic gate is what makes NovelD and RIDE work: without it, both learn less from the same steps.

Paper     Zhang et al. 2021, NovelD (episodic restriction on the intrinsic reward); Raileanu and Rocktaschel 2020, RIDE
          (arXiv:2002.12292, the ablation without episodic counts).
Claim     In generated rooms behind doors, NovelD without its first-visit gate and RIDE without its episodic count score
          less than with them, averaged over training.
Protocol  MultiRoom-N3-S4 (on a GPU N7-S4) and KeyCorridorS3R1, the agent's view of 7x7, each channel of each cell
          one-hot. PPO with a GRU, two critics, the bonus non-episodic. Score: mean over training of the greedy policy's
          return (ten evaluations of 8 episodes), the area under its learning curve. The coefficient is 1 on a CPU, and
          chosen for each arm on pilot seeds on a GPU. "none", no bonus, is a control of the GPU's scale. Sizes were cut
          after a run with four rooms was stopped, which would have taken 16 minutes (NovelD learned, RIDE was at 0);
          KeyCorridor by a twelfth once more, after a run of 727 s instead of 720.
Run       jaxrl reproduce episodic-gate
Evidence  Refuted by RIDE in KeyCorridor, which has only begun to learn there: the longer run of 727 s had
          0.083 [0.038, 0.128], reproduced, and the same other verdicts. In MultiRoom RIDE scores nothing, with its
          count or without; nor did it on seeds 100 to 103 at coefficients of 0.01, 0.1 and 1, with two rooms, or with
          features of one-hot categories. The papers train for 3e7 frames; a gpu scale would tell.
Departs   Sizes: the papers' are MultiRoom-N7-S4 and larger and KeyCorridorS3R3 and larger, trained by IMPALA for 3e7 to
          1.2e8 frames. Visits are counted of the agent's own view (released codes: the full grid); see the bonuses.
"""

from jaxrl.reproduce import Difference

NOVELD = "noveld(buckets=1024, lr=1e-3)"
RIDE = "ride(buckets=1024, lr=1e-3)"
ARMS = {
    "NovelD": NOVELD,
    "NovelD, no gate": NOVELD.replace(")", ", gate=False)"),
    "RIDE": RIDE,
    "RIDE, no count": RIDE.replace(")", ", gate=False)"),
    "none": "none",
}
MULTIROOM, KEY = "MultiRoom", "KeyCorridor"
N3 = {"env": "grid/MultiRoom", "env_args": {"max_rooms": 3, "max_room_size": 4}}
N7 = {"env": "grid/MultiRoom-N7-S4"}
S3R1 = {"env": "grid/KeyCorridorS3R1"}
DIFFERENCES = tuple(
    Difference(f"{task}: {bonus} learns more with its gate", task, bonus, without, 0.05)
    for task in (MULTIROOM, KEY)
    for bonus, without in (("NovelD", "NovelD, no gate"), ("RIDE", "RIDE, no count"))
)
SCALES = {
    "smoke": {"seeds": 2, "arms": ["NovelD", "NovelD, no gate"], "tasks": {KEY: S3R1 | {"steps": 2048}}, "coefs": [1]},
    "cpu": {"seeds": 16, "arms": list(ARMS)[:4], "coefs": [1],
            "tasks": {MULTIROOM: N3 | {"steps": 61_440}, KEY: S3R1 | {"steps": 90_112}}},
    "gpu": {"seeds": 32, "pilot": 8, "coefs": [0.1, 1],
            "tasks": {MULTIROOM: N7 | {"steps": 3_276_800}, KEY: S3R1 | {"steps": 3_276_800}}},
}  # fmt: skip
LEARNER = {"agent": "ppo_rnn", "torso": "symbolic", "lr": 1e-3, "num_steps": 128, "evals": 10, "eval_episodes": 8}


def measure(lab):
    panels = {}
    for task, fields in lab.scale["tasks"].items():
        choose = {"coef": lab.scale["coefs"]}
        panels[task] = lab.compare(ARMS, metric="eval_return", last=1.0, choose=choose, **fields, **LEARNER)
        panels[task].attrs |= {"title": "return of the greedy policy, mean over training", "units": "return"}
    return panels
