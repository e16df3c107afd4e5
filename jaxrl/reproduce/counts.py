"""What claims about pseudo-counts share: does a bonus follow visit counts, and does it solve DeepSea?"""

from collections.abc import Mapping

import xarray as xr

from jaxrl.calibrate import Protocol, calibrate
from jaxrl.reproduce.lab import Arm, Lab

COUNTS, SEA = "Counts", "DeepSea"
WORLDS = {"one-hot": "spearman", "picture": "spearman_picture"}


def measure(lab: Lab, arms: Mapping[str, str]) -> dict[str, xr.DataArray]:
    """The panels COUNTS and SEA of bonuses by name; without walks, or without sizes, in the scale the other alone."""
    panels = {COUNTS: counted(lab, arms)} if lab.scale["walks"] else {}
    return panels | ({SEA: solved(lab, arms)} if lab.scale["sizes"] else {})


def solved(lab: Lab, arms: Mapping[str, str]) -> xr.DataArray:
    """Whether the greedy policy gets the treasure in the end, dims (arm, size, seed)."""
    scale = lab.scale
    # Counts are there to be seen, not to win.
    trained: dict[str, Arm] = {**arms, "count": {"bonus": "count", "choose": {"coef": [1]}}}
    of_sizes = [
        lab.compare(trained, env="DeepSea-bsuite", env_args={"size": size}, steps=scale["steps"], lr=1e-3, evals=2,
                    eval_episodes=1, metric="solved", choose={"coef": scale["coefs"]})
        for size in scale["sizes"]
    ]  # fmt: skip
    sea = xr.concat(of_sizes, xr.Variable("size", scale["sizes"])).transpose("arm", "size", "seed")
    sea.attrs = {"title": "solved at the end of training", "units": "fraction of seeds"}
    return sea


def counted(lab: Lab, arms: Mapping[str, str]) -> xr.DataArray:
    """Spearman correlation with 1 / sqrt(n) of every arm that pays, dims (arm, world, seed)."""
    seeds, protocol = list(lab.seeds)[: lab.scale["walks"]], Protocol(**lab.scale["walk"])
    paying = [arm for arm in lab.scale.get("arms", arms) if arms[arm] != "none"]
    found = [calibrate(arms[arm], seeds, protocol).scores for arm in paying]
    scores = [[scores[measure] for measure in WORLDS.values()] for scores in found]
    coordinates = {"arm": paying, "world": list(WORLDS), "seed": seeds}
    attrs = {"title": "rank correlation of the bonus with 1 / sqrt(n)", "units": "Spearman's rho"}
    return xr.DataArray(scores, coordinates, list(coordinates), attrs=attrs)
