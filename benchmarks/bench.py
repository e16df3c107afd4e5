"""Every speed claim of jaxrl, each beside a reference in the same run: `make bench`. One line per row.

Medians of three; ratios are what counts. Each measurement is a process of its own, jaxrl and the reference in turn,
with compilation uncached. The reference is `benchmarks.reference_ppo`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

ROWS = (
    "ppo-cartpole-16", "ppo-cartpole-auc", "rnd-cartpole-16", "lanes-256", "bytes-per-lane", "conv-in-loop",
    "ppo-minatar-conv",
)  # fmt: skip
CARTPOLE: dict[str, Any] = {"env": "CartPole-v1", "num_envs": 64, "num_steps": 128, "evals": 0}
MINATAR: dict[str, Any] = {**CARTPOLE, "env": "Breakout-MinAtar", "torso": "conv"}
RND = "rnd(proportion=0.25, dim=64, hidden=(64, 64), epochs=1)"


def measure(lanes: int, iterations: int, calls: int, bonus: str, curves: bool, minatar: bool) -> None:
    """Run in a child process: time `calls` calls of `iterations` iterations and print one JSON line."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxrl.spec.spec import spec
    from jaxrl.sweep.lanes import compiled_bytes, keys_of, lanes_of, packing_for, stacked
    from jaxrl.sweep.plan import lanes as lanes_in
    from jaxrl.sweep.program import build

    fields = MINATAR if minatar else CARTPOLE
    steps = fields["num_envs"] * fields["num_steps"]
    # Seeds from 5000 up: not those of any other claim.
    made = lanes_in(
        spec(**fields, bonus=bonus, steps=steps * 10_000, seeds=range(5000, 5000 + lanes), warmup=0)
    )
    program = build(made[0].program)
    values, keys = stacked([lane.values for lane in made]), keys_of([lane.seed for lane in made])
    functions = lanes_of(program, packing_for(lanes), iterations)
    states = functions.init(values, keys)
    clock = time.perf_counter()
    compiled = functions.run.lower(values, states, jnp.int32(iterations)).compile()
    compile_s = time.perf_counter() - clock
    seconds, cpu_seconds, returns = [], [], []
    for _ in range(calls + 1 - curves):
        clock, cpu = time.perf_counter(), time.process_time()
        states, metrics = jax.block_until_ready(compiled(values, states, jnp.int32(iterations)))
        seconds.append(time.perf_counter() - clock)
        cpu_seconds.append(time.process_time() - cpu)
        returns.append(np.asarray(metrics["return"]))
    skipped = 0 if curves else 1
    answer = {
        "steps_per_s": lanes * iterations * steps / float(np.median(seconds[skipped:])),
        "steps_per_cpu_s": lanes * iterations * steps / float(np.median(cpu_seconds[skipped:])),
        "compile_s": compile_s,
        "bytes": compiled_bytes(compiled) * jax.local_device_count(),
    }
    if curves:
        answer["curves"] = np.concatenate(returns, 1).tolist()
    print(json.dumps(answer))


def child(*arguments: str, devices: int) -> dict:
    """The JSON line that a benchmark process prints."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    environment = {**os.environ, **flags}
    done = subprocess.run([sys.executable, "-m", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"benchmark process {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def ours(lanes=16, iterations=5, calls=3, bonus="none", curves=False, devices=None, minatar=False) -> dict:
    arguments = ["--child", "--lanes", lanes, "--iterations", iterations, "--calls", calls, "--bonus", bonus]
    arguments += ["--curves"] * curves + ["--minatar"] * minatar
    return child("benchmarks.bench", *map(str, arguments), devices=devices or os.cpu_count() or 1)


def reference(lanes=16, iterations=5, calls=3, curves=False) -> dict:
    arguments = ["--lanes", lanes, "--iterations", iterations, "--calls", calls] + (["--curves"] if curves else [])
    return child("benchmarks.reference_ppo", *map(str, arguments), devices=1)


def median(runs: list[dict], field: str) -> float:
    return sorted(run[field] for run in runs)[len(runs) // 2]


def row(name: str, met: bool, **fields: str) -> None:
    print(name, *(f"{key}={value}" for key, value in fields.items()), f"met={'yes' if met else 'NO'}", flush=True)


def ppo_speed() -> None:
    pairs = [(ours(), reference()) for _ in range(3)]
    mine, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    speed, other = median(mine, "steps_per_s"), median(theirs, "steps_per_s")
    row(
        "ppo-cartpole-16", speed / other >= 2.6,
        steps_per_s=f"{speed:.0f}", reference=f"{other:.0f}", ratio=f"{speed / other:.2f}x",
        bound=">=2.6x", compile_s=f"{median(mine, 'compile_s'):.1f}",
        reference_compile_s=f"{median(theirs, 'compile_s'):.1f}",
    )  # fmt: skip


def ppo_learning() -> None:
    """Area under the curve of finished training returns, 64 seeds, 40 iterations (327,680 steps).

    Paired by index; the two programs draw their random numbers differently, so pairing takes no variance away.
    """
    import numpy as np

    from jaxrl.results.stats import paired_difference

    areas = []
    for run in (ours, reference):
        curve = np.array(run(lanes=64, iterations=40, calls=1, curves=True)["curves"])
        areas.append(np.nanmean(curve, 1))
    mean = areas[1].mean()
    difference, low, high = (x / mean for x in paired_difference(areas[0], areas[1], np.random.default_rng(0)))
    row(
        "ppo-cartpole-auc", abs(difference) <= 0.05,
        seeds="64", area=f"{areas[0].mean():.1f}", reference=f"{mean:.1f}",
        difference=f"{difference:+.1%}", interval=f"[{low:+.1%},{high:+.1%}]", bound="within 5%",
    )  # fmt: skip


def rnd_overhead() -> None:
    pairs = [(ours(bonus=RND), ours()) for _ in range(3)]
    extra = sorted(bare["steps_per_s"] / rnd["steps_per_s"] - 1 for rnd, bare in pairs)[1]
    rnd = [pair[0] for pair in pairs]
    row(
        "rnd-cartpole-16", extra <= 0.4 and median(rnd, "compile_s") < 15,
        steps_per_s=f"{median(rnd, 'steps_per_s'):.0f}",
        reference=f"{median([pair[1] for pair in pairs], 'steps_per_s'):.0f}", more_time=f"{extra:.0%}", bound="<=40%",
        compile_s=f"{median(rnd, 'compile_s'):.1f}", compile_bound="<15",
    )  # fmt: skip


def many_lanes() -> None:
    pairs = [(ours(lanes=256, iterations=2, calls=1), ours(lanes=16, iterations=2, calls=3)) for _ in range(3)]
    slower = sorted(few["steps_per_s"] / many["steps_per_s"] for many, few in pairs)[1]
    compile_ratio = sorted(many["compile_s"] / few["compile_s"] for many, few in pairs)[1]
    row(
        "lanes-256", slower <= 1.15 and compile_ratio <= 1.2,
        steps_per_s=f"{median([pair[0] for pair in pairs], 'steps_per_s'):.0f}",
        reference=f"{median([pair[1] for pair in pairs], 'steps_per_s'):.0f}", time_per_lane=f"{slower:.2f}x",
        bound="<=1.15x", compile=f"{compile_ratio:.2f}x", compile_bound="<=1.2x",
    )  # fmt: skip


def memory() -> None:
    """Bytes fitted at 16 and 64 lanes, held out: 256."""
    at = {lanes: ours(lanes=lanes, iterations=1, calls=0)["bytes"] for lanes in (16, 64, 256)}
    per_lane = (at[64] - at[16]) / 48
    predicted = at[16] + 240 * per_lane
    row(
        "bytes-per-lane", abs(predicted / at[256] - 1) <= 0.15,
        per_lane=f"{per_lane:.0f}", predicted_256=f"{predicted:.0f}", reference=f"{at[256]}",
        error=f"{predicted / at[256] - 1:+.1%}", bound="within 15%",
    )  # fmt: skip


def convolution() -> None:
    """A loop's gradient of the torso's convolutions beside the native one outside; for pictures of 10 and 84 pixels."""
    runs = [child("benchmarks.native_convolution", devices=1) for _ in range(3)]
    for size in ("minatar", "atari"):
        found = [run[size] for run in runs]
        ratio = median(found, "ratio")
        row(
            "conv-in-loop", ratio <= 1.5,
            pictures=size, cpu_ms=f"{1e3 * median(found, 'inside'):.0f}",
            reference=f"{1e3 * median(found, 'alone'):.0f}", ratio=f"{ratio:.2f}x", bound="<=1.5x",
        )  # fmt: skip


def minatar() -> None:
    """PPO on Breakout-MinAtar, one lane, beside the CPU time of its gradients alone, native and outside of loops.

    Each step is in four epochs of two networks' minibatches; what is over is acting, values, products and the world.
    """
    pairs = [
        (ours(1, 1, 1, devices=1, minatar=True), child("benchmarks.native_convolution", devices=1)["minatar"])
        for _ in range(3)
    ]
    speed = median([pair[0] for pair in pairs], "steps_per_cpu_s")
    alone = 512 / (4 * 2 * median([pair[1] for pair in pairs], "alone"))
    row(
        "ppo-minatar-conv", alone / speed <= 1.5,
        steps_per_s=f"{median([pair[0] for pair in pairs], 'steps_per_s'):.0f}", steps_per_cpu_s=f"{speed:.0f}",
        reference=f"{alone:.0f}", time=f"{alone / speed:.2f}x", bound="<=1.5x",
        compile_s=f"{median([pair[0] for pair in pairs], 'compile_s'):.1f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="*", default=ROWS, choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)}")
    for name, default in (("lanes", 16), ("iterations", 5), ("calls", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, help=argparse.SUPPRESS)
    parser.add_argument("--bonus", default="none", help=argparse.SUPPRESS)
    for name in ("child", "curves", "minatar"):
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        told = ("lanes", "iterations", "calls", "bonus", "curves", "minatar")
        measure(*(getattr(arguments, name) for name in told))
        return
    rows = (ppo_speed, ppo_learning, rnd_overhead, many_lanes, memory, convolution, minatar)
    for name, measurement in zip(ROWS, rows, strict=True):
        if name in arguments.rows:
            measurement()


if __name__ == "__main__":
    main()
