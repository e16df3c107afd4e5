"""Steps per second of environments under a random policy, beside other libraries: `make bench-env`. One line per row.

Medians of three. Each measurement is a process of its own, jaxrl and the other in turn. A program returns a checksum
of every observation, reward and end flag, because XLA removes the computation of what nobody reads.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ENVS, BIG = 1024, 65_536
# name -> (environment, what stands beside it, environments, steps of a timed call)
PAIRS = {
    "doorkey-navix": ("grid/DoorKey-8x8", "native:navix", ENVS, 256),
    "doorkey-xminigrid": ("grid/DoorKey-8x8", "native:xminigrid", ENVS, 256),
    "multiroom": ("grid/MultiRoom-N6", "grid/DoorKey-8x8", ENVS, 256),
    "doorkey-resets": ("grid/DoorKey-8x8", "eager:grid/DoorKey-8x8", ENVS, 256),
    "multiroom-resets": ("grid/MultiRoom-N6", "eager:grid/MultiRoom-N6", ENVS, 256),
    "deepsea": ("DeepSea-bsuite", "native:gymnax:DeepSea-bsuite", ENVS, 1024),
    "cartpole": ("CartPole-v1", "native:gymnax:CartPole-v1", ENVS, 1024),
}
# Fewer environments, and once: with 1,024 of Craftax the row had not ended after a quarter of an hour.
SLOW = {"craftax-resets": ("craftax/Classic-Symbolic", "eager:craftax/Classic-Symbolic", 64, 64)}
BOUNDS = {"doorkey-navix": 1.0, "doorkey-xminigrid": 1.0, "multiroom": 1 / 3}
ARGUMENTS: dict[str, dict[str, Any]] = {"DeepSea-bsuite": {"size": 20}}


def ours(name: str, eager: bool) -> tuple[Callable, Callable, Callable]:
    """(reset, step, actions) of a jaxrl task; `eager` resets all environments at every step."""
    import jax
    import jax.numpy as jnp

    from jaxrl import envs
    from jaxrl.envs.contract import sample_action
    from jaxrl.trainers.rollout import start, step_all

    task = envs.make(name, **ARGUMENTS.get(name, {}))

    def reset(key, num_envs):
        carry = start(key, task, num_envs)
        return carry.state, carry.obs

    def step(key, state, action):
        if eager:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(action.shape[0]))
            stepped = jax.vmap(task.env.step, (0, 0, 0, None))(keys, state, action, task.params)
        else:
            stepped = step_all(key, task, state, action)
        obs, state, reward, terminated, truncated, _ = stepped
        return state, (obs, reward, terminated, truncated)

    return reset, step, lambda key, num_envs: jax.vmap(functools.partial(sample_action, task.actions))(
        jax.random.split(key, num_envs)
    )


def gymnax(name: str) -> tuple[Callable, Callable, Callable]:
    import gymnax
    import jax

    env, params = gymnax.make(name, **ARGUMENTS.get(name, {}))

    def reset(key, num_envs):
        obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), params)
        return state, obs

    def step(key, state, action):
        keys = jax.random.split(key, action.shape[0])
        obs, state, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        return state, (obs, reward, terminated, truncated)

    return reset, step, lambda key, num_envs: jax.random.randint(key, (num_envs,), 0, env.num_actions)


def navix() -> tuple[Callable, Callable, Callable]:
    """DoorKey-8x8 as MiniGrid has it: the agent's view, 640 steps."""
    import jax
    import navix

    env = navix.make(
        "Navix-DoorKey-8x8-v0", max_steps=640, observation_fn=navix.observations.symbolic_first_person
    )

    def reset(key, num_envs):
        timestep = jax.vmap(env.reset)(jax.random.split(key, num_envs))
        return timestep, timestep.observation

    def step(key, timestep, action):
        timestep = jax.vmap(env.step)(timestep, action)
        return timestep, (timestep.observation, timestep.reward, timestep.step_type, timestep.is_done())

    return reset, step, lambda key, num_envs: jax.random.randint(key, (num_envs,), 0, 7)


def xminigrid() -> tuple[Callable, Callable, Callable]:
    import jax
    import xminigrid
    from xminigrid.wrappers import GymAutoResetWrapper

    env, params = xminigrid.make("MiniGrid-DoorKey-8x8")
    env = GymAutoResetWrapper(env)

    def reset(key, num_envs):
        timestep = jax.vmap(env.reset, (None, 0))(params, jax.random.split(key, num_envs))
        return timestep, timestep.observation

    def step(key, timestep, action):
        timestep = jax.vmap(env.step, (None, 0, 0))(params, timestep, action)
        return timestep, (timestep.observation, timestep.reward, timestep.step_type, timestep.discount)

    return reset, step, lambda key, num_envs: jax.random.randint(key, (num_envs,), 0, 6)


def contender(what: str) -> tuple[Callable, Callable, Callable]:
    kind, _, name = what.partition(":")
    if kind != "native":
        return ours(name, eager=True) if kind == "eager" else ours(what, eager=False)
    library, _, name = name.partition(":")
    return gymnax(name) if library == "gymnax" else {"navix": navix, "xminigrid": xminigrid}[library]()


def measure(what: str, num_envs: int, num_steps: int) -> None:
    """In a child process: time three calls after a first one and print one JSON line."""
    import resource

    import jax
    import jax.numpy as jnp

    reset, step, actions = contender(what)

    def run(key):
        k_reset, k_steps = jax.random.split(key)
        state, obs = reset(k_reset, num_envs)

        def body(carry, key):
            state, total = carry
            k_act, k_step = jax.random.split(key)
            state, seen = step(k_step, state, actions(k_act, num_envs))
            return (state, total + sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(seen))), None

        total = sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(obs))
        return jax.lax.scan(body, (state, total), jax.random.split(k_steps, num_steps))[0][1]

    clock = time.perf_counter()
    compiled = jax.jit(run).lower(jax.random.key(0)).compile()
    compile_s, seconds = time.perf_counter() - clock, []
    for seed in range(4):
        clock = time.perf_counter()
        jax.block_until_ready(compiled(jax.random.key(seed)))
        seconds.append(time.perf_counter() - clock)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rate = num_envs * num_steps / sorted(seconds[1:])[1]
    print(json.dumps({"steps_per_s": rate, "compile_s": compile_s, "bytes": memory}))


def child(what: str, num_envs: int, num_steps: int) -> dict:
    """The JSON line of a measuring process; it has one device and an empty compilation cache."""
    command = [sys.executable, "-m", "benchmarks.bench_env", "--child", what, str(num_envs), str(num_steps)]
    done = subprocess.run(
        command, env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"benchmark process {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def pair(name: str, mine: str, other: str, num_envs: int, num_steps: int, repeats: int) -> None:
    runs = [(child(mine, num_envs, num_steps), child(other, num_envs, num_steps)) for _ in range(repeats)]
    rates = [sorted(run[side]["steps_per_s"] for run in runs)[repeats // 2] for side in (0, 1)]
    ratio = rates[0] / rates[1]
    bound = BOUNDS.get(name)
    judged = f" bound=>={bound:.2f}x met={'yes' if ratio >= bound else 'NO'}" if bound else ""
    print(
        f"{name} environments={num_envs} {mine}={rates[0]:.0f} {other}={rates[1]:.0f} ratio={ratio:.2f}x"
        f" compile_s={runs[0][0]['compile_s']:.1f}{judged}",
        flush=True,
    )


def memory() -> None:
    """The peak memory of a whole process that steps 65,536 environments."""
    for name in ("grid/DoorKey-8x8", "grid/MultiRoom-N6"):
        seen = child(name, BIG, 16)
        gigabytes = seen["bytes"] / 1e9
        met = "yes" if gigabytes <= 2 else "NO"
        print(
            f"memory environments={BIG} {name} process_gb={gigabytes:.2f} bound=<=2 met={met}"
            f" steps_per_s={seen['steps_per_s']:.0f}",
            flush=True,
        )


def main() -> None:
    rows = (*PAIRS, *SLOW, "memory")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="*", default=rows, choices=rows, metavar="ROW", help=f"of {', '.join(rows)}")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, num_envs, num_steps = arguments.child
        measure(what, int(num_envs), int(num_steps))
        return
    for name, row in {**PAIRS, **SLOW}.items():
        if name in arguments.rows:
            pair(name, *row, repeats=1 if name in SLOW else 3)
    if "memory" in arguments.rows:
        memory()


if __name__ == "__main__":
    main()
