"""Makes results/ again, the stored runs that the notebooks read: `make notebook-results`.

    landscape           visit counts and RND on DeepSea-10 over coefficient and step size, eight seeds
    many_seeds          the cell of each bonus that was best there, on 64 other seeds
    global_vs_episodic  the lanes that decided `jaxrl reproduce global-vs-episodic`, and where their policies go

The first two are trained here, about four minutes on two cores. The third is copied from what
`jaxrl reproduce global-vs-episodic --record` left in results/reproduce. Only what the notebooks show is kept: a few
metrics, no parameters. A copy's manifest bears the commit of the copying.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxrl.devices import prepare_jax

prepare_jax(os.environ)

import jax  # noqa: E402
import numpy as np  # noqa: E402

from jaxrl import results  # noqa: E402
from jaxrl.errors import UserError  # noqa: E402
from jaxrl.reproduce import catalogue, record  # noqa: E402
from jaxrl.reproduce.lab import FRESH  # noqa: E402
from jaxrl.reproduce.reproduce import OUT, kept, place  # noqa: E402
from jaxrl.signatures import code_fingerprint, identity  # noqa: E402
from jaxrl.sweep import load_policy, sweep  # noqa: E402
from jaxrl.trainers.rollout import collect, start  # noqa: E402

KEPT = Path(__file__).parent / "results"
TRAINED = Path("results/notebooks")
NAME = "global-vs-episodic"
FIELDS = {"env": "DeepSea-bsuite", "env_args": {"size": 10}, "steps": 40_960, "evals": 5, "eval_episodes": 32}
GRID = {"bonus": ["count", "rnd"], "coef": [0.01, 0.1, 1.0, 10.0], "lr": [1e-4, 5e-4, 2e-3, 1e-2]}
METRIC = "eval_return_sampled"
METRICS = ("eval_return", METRIC, "return", "coverage", "solved")
MAP_SEEDS, MAP_ENVS = 8, 64


def main() -> None:
    curves = sweep(TRAINED / "landscape", grid=GRID, seeds=8, on_event=say, **FIELDS)
    keep(TRAINED / "landscape", KEPT / "landscape", METRICS)
    best = results.final(curves[METRIC]).mean("seed").stack(cell=["coef", "lr"])
    cells = [best.sel(bonus=bonus).isel(cell=int(best.sel(bonus=bonus).argmax("cell"))) for bonus in GRID["bonus"]]
    columns = {name: [cell[name].item() for cell in cells] for name in GRID}
    sweep(TRAINED / "many_seeds", zip=columns, seeds=range(100, 164), on_event=say, **FIELDS)
    keep(TRAINED / "many_seeds", KEPT / "many_seeds", METRICS)
    claim()


def claim() -> None:
    """The lanes behind the record of the claim, and maps of where the policies of one world go."""
    source, target = place(NAME, "cpu", OUT), KEPT / NAME.replace("-", "_")
    left, recorded = kept(NAME, "cpu", OUT), record.read(NAME, "cpu")
    if left is None or left != recorded:
        raise UserError(f"{source} is not what the record of {NAME} was made from: jaxrl reproduce {NAME} --record")
    arms = catalogue.load(NAME).ARMS
    keep(source, target, ("return", "coverage"), lambda lane: lane["seed"] >= FRESH)
    named = {arm if isinstance(arm, str) else identity(arm): name for name, arm in arms.items()}
    frame = results.lanes(target)
    corridors = frame[(frame["env"] == "grid/Corridors") & (frame["status"] == "ok")].sort_values("seed")
    maps = {name: visits(source, corridors["lane"][corridors["bonus"] == bonus][:MAP_SEEDS].tolist())
            for bonus, name in named.items()}  # fmt: skip
    np.savez_compressed(target / "visits.npz", **maps)
    (target / "arms.json").write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")


def keep(source: Path, target: Path, metrics: Sequence[str], wanted: Callable = lambda lane: True) -> None:
    """Copy the lanes of the code that wrote last, with some metrics and without parameters."""
    shutil.rmtree(target, ignore_errors=True)
    manifests = results.chunks(source)
    codes = {manifest["code"] for manifest in manifests}
    code = running if (running := code_fingerprint()) in codes else manifests[-1]["code"]
    for manifest in manifests:
        chunk = results.read_chunk(source / manifest["chunk"])
        rows = [row for row, lane in enumerate(chunk.lanes) if wanted(lane)]
        if rows and manifest["code"] == code:
            curves = {name: chunk.curves[name][rows] for name in metrics if name in chunk.curves}
            lanes = [chunk.lanes[row] for row in rows]
            results.write_chunk(target, chunk._replace(lanes=lanes, curves=curves, params={}))


def visits(directory: Path, lanes: Sequence[str]) -> np.ndarray:
    """Steps that the exploring policies of `lanes` spend in each cell, ``[rows, columns]``."""
    policies = [load_policy(directory, lane, greedy=False) for lane in lanes]
    task, agent, _, memory = policies[0]

    @jax.jit
    def play(state, key):
        k_start, k_steps = jax.random.split(key)
        carry = start(k_start, task, MAP_ENVS)
        return collect(k_steps, task, agent, state, memory(MAP_ENVS), carry, task.max_steps)[-1]["states"]

    states = np.concatenate([np.ravel(play(policy.state, jax.random.key(i))) for i, policy in enumerate(policies)])
    return np.bincount(states, minlength=task.num_states).reshape(task.env.map_shape)


def say(event: dict) -> None:
    if event["kind"] in ("compile", "chunk"):
        print(event["kind"], event.get("seconds", event.get("lanes")), flush=True)


if __name__ == "__main__":
    main()
