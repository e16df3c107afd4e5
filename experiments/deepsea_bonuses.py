"""Does a bonus help on DeepSea-16, and at which coefficient? The main job: `make run`.

Claim     Visit counts make PPO solve DeepSea-16 where it does not by itself: at some coefficient the lower end of
          the 95 % Wilson interval of the solved fraction with `count` lies above the upper end with `none`.
Protocol  {none, count, rnd, e3b} x coefficients {0.01, 0.1, 1} x 8 seeds, 204,800 environment steps a lane
          (16 environments x 64 steps x 200 updates), two critics at discount 0.99, non-episodic bonus stream,
          Adam 1e-3. `none` has no coefficient. Solved: the greedy policy's mean return over 16 episodes reaches 0.9
          (optimum 0.99). Every coefficient is reported and none is crowned. E3B is there to lose: nothing is
          revisited within an episode of DeepSea, so an episodic bonus says nothing.
Run       python experiments/deepsea_bonuses.py            about 4 minutes on two cores; repeated, it only reads
"""

import sys
from pathlib import Path
from typing import Any

from jaxrl.executors.execute import execute
from jaxrl.spec.spec import spec

OUT = Path("results/deepsea_bonuses")
FIELDS: dict[str, Any] = {"env": "DeepSea-bsuite", "env_args": {"size": 16}, "steps": 204_800, "lr": 1e-3}
GRID: dict[str, list] = {"bonus": ["none", "count", "rnd", "e3b"], "coef": [0.01, 0.1, 1.0]}


def main() -> int:
    if code := execute(spec(name="deepsea_bonuses", seeds=8, grid=GRID, **FIELDS), OUT):
        return code
    # Whatever is said from here on is read back from the stored results.
    from jaxrl import results
    from jaxrl.results import report

    curves = results.curves(OUT)
    for name, figure in report.figures(curves).items():
        figure.savefig(OUT / f"{name}.png", dpi=150)
    page = results.write_report(OUT, out=OUT / "report.html")
    lanes = results.lanes(OUT)
    manifests = [manifest for manifest in results.chunks(OUT) if manifest["chunk"] in set(lanes["chunk"])]
    seconds = {part: sum(m["timing"][f"{part}_seconds"] for m in manifests) for part in ("compile", "run")}
    steps = len(lanes) * int(curves["steps"].max())
    print(f"{len(lanes)} lanes, {steps:,} environment steps")
    print(f"compiled in {seconds['compile']:.0f} s, ran in {seconds['run']:.0f} s")
    print(f"figures and {page}")

    table = results.summary(lanes)
    none = table[table["bonus"] == "none"]
    count = table[table["bonus"] == "count"]
    low, high = count["solved_low"].max(), none["solved_high"].max()
    holds = bool(low > high)
    print(
        f"claim: solved with count, best lower bound {low:.3f} {'>' if holds else 'is not above'} {high:.3f}, "
        f"upper bound with none: {'holds' if holds else 'DOES NOT HOLD'}"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
