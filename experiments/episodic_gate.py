"""The episodic gate is what makes NovelD and RIDE work: without it, both learn less from the same steps.

Paper     Zhang et al. 2021, NovelD (episodic restriction on the intrinsic reward); Raileanu and Rocktaschel 2020, RIDE
          (arXiv:2002.12292, the ablation without episodic counts).
Claim     In generated rooms behind doors, NovelD without its first-visit gate and RIDE without its episodic count score
          less than with them, averaged over training.
Protocol  MultiRoom and KeyCorridor, the agent's view of 7x7, each channel of each cell one-hot. PPO with a GRU, two
          critics, the bonus non-episodic. Score: mean over training of the greedy policy's return (ten evaluations of
          64 episodes), the area under its learning curve. The coefficient is 1 on a CPU, and chosen for
          each arm on pilot seeds on a GPU. "none", no bonus, is a control of the GPU's scale.
Run       jaxrl reproduce episodic-gate
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
TASKS = {"MultiRoom": "grid/MultiRoom-N4-S5", "KeyCorridor": "grid/KeyCorridorS3R1"}
DIFFERENCES = tuple(
    Difference(f"{task}: {bonus} learns more with its gate", task, bonus, without, 0.05)
    for task in TASKS
    for bonus, without in (("NovelD", "NovelD, no gate"), ("RIDE", "RIDE, no count"))
)
SCALES = {
    "smoke": {"seeds": 2, "arms": ["NovelD", "NovelD, no gate"], "tasks": ["KeyCorridor"], "steps": 2048, "coefs": [1]},
    "cpu": {"seeds": 16, "arms": list(ARMS)[:4], "tasks": [*TASKS], "steps": 102_400, "coefs": [1]},
    "gpu": {"seeds": 32, "pilot": 8, "tasks": [*TASKS], "steps": 3_276_800, "coefs": [0.1, 1]},
}
LEARNER = {"agent": "ppo_rnn", "torso": "symbolic", "lr": 1e-3, "num_steps": 128, "evals": 10, "eval_episodes": 64}


def measure(lab):
    panels = {}
    for task in lab.scale["tasks"]:
        panels[task] = lab.compare(
            ARMS, env=TASKS[task], steps=lab.scale["steps"], metric="eval_return", last=1.0,
            choose={"coef": lab.scale["coefs"]}, **LEARNER,
        )  # fmt: skip
        panels[task].attrs |= {"title": "return of the greedy policy, mean over training", "units": "return"}
    return panels
