"""A results tree that looks like a real sweep: bonus x coefficient x seed, curves that rise at different speeds."""

import hashlib

import numpy as np
import pytest

from jaxrl.results.store import Chunk, write_chunk

ITERATIONS = 40
EVALUATED = slice(3, None, 4)  # every fourth iteration, the last one included
SPEED = {"none": 0.0, "count": 30.0, "rnd": 12.0, "e3b": 2.0}


def make_chunk(
    bonus="count", coefs=(0.1,), seeds=range(3), code="c0de", program=None, values=None, diverged=(), **fields
):
    """One program's lanes; ``diverged`` holds (coef, seed) pairs that break at iteration 17."""
    program = {"env": "DeepSea-bsuite", "env_args": {"size": 16}, "bonus": bonus, "steps": ITERATIONS * 1024,
               "num_envs": 16, "hidden": (64, 64), **(program or {})}  # fmt: skip
    lanes, curves = [], {name: [] for name in ("return", "eval_return", "coverage", "solved", "bonus_mean")}
    if bonus == "rnd":
        curves["rnd/loss"] = []
    for coef in coefs:
        for seed in seeds:
            lane_values = {"coef": coef, "discount": 0.99, **(values or {})}
            identity = repr((sorted(program.items(), key=str), sorted(lane_values.items()), seed, code))
            bad = (coef, seed) in diverged
            lanes.append({"lane": hashlib.sha256(identity.encode()).hexdigest()[:16], "seed": seed,
                          "values": lane_values, "status": "diverged" if bad else "ok",
                          "first_bad_iteration": 17 if bad else None})  # fmt: skip
            rng = np.random.default_rng([seed, len(bonus), int(coef * 1000)])
            time = np.arange(ITERATIONS) / ITERATIONS
            middle = 1.2 - np.sqrt(coef) * SPEED[bonus] / 20 + 0.15 * rng.normal()
            curve = 1 / (1 + np.exp(-20 * (time - middle)))
            if bad:
                curve = np.where(np.arange(ITERATIONS) < 17, curve, np.nan)
            measured = np.full(ITERATIONS, np.nan)
            measured[EVALUATED] = curve[EVALUATED]
            curves["eval_return"].append(measured)
            curves["solved"].append(np.where(np.isnan(measured), np.nan, measured > 0.9))
            curves["return"].append(curve + 0.05 * rng.normal(size=ITERATIONS))
            curves["coverage"].append(np.sqrt(time) * (0.4 + 0.6 * curve))
            curves["bonus_mean"].append(np.exp(-3 * time))
            if "rnd/loss" in curves:
                curves["rnd/loss"].append(np.exp(-5 * time))
    parameters = np.random.default_rng(len(lanes)).normal(size=(len(lanes), 4, 3)).astype(np.float32)
    chunk = Chunk(
        program=program,
        lanes=lanes,
        iterations=np.arange(1, ITERATIONS + 1),
        steps=np.arange(1, ITERATIONS + 1) * 1024,
        curves={name: np.array(rows, np.float32) for name, rows in curves.items()},
        params={"policy/dense/kernel": parameters, "policy/dense/bias": np.zeros((len(lanes), 3), np.float32)},
        code=code,
        sources={},
        timing={"started": "2026-11-21T09:00:00+00:00", "compile_seconds": 8.1, "run_seconds": 31.5},
        packing={"lanes_at_once": 32, "devices": 2},
        environment={"jax": "0.10.2", "backend": "cpu", "API_KEY": "hunter2"},
    )
    return chunk._replace(**fields)


def write_sweep(root, bonuses=("none", "count", "rnd", "e3b"), coefs=(0.01, 0.1, 1.0), seeds=range(8)):
    """A whole sweep, one chunk per bonus; count at coefficient 1.0, seed 3, diverges."""
    for bonus in bonuses:
        write_chunk(root, make_chunk(bonus, coefs, seeds, diverged={(1.0, 3)} if bonus == "count" else ()))
    return root


@pytest.fixture
def chunk():
    return make_chunk


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "sweep", seeds=range(4))
