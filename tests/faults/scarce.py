"""A sweep of lanes with large states in a process whose memory is limited once it is compiled; prints what was told.

    scarce.py OUT MEGABYTES    what may be allocated beyond what is there when the first chunk begins
"""

import json
import os
import resource
import sys

from jaxrl import cli

cli.prepare_jax(os.environ)

import jax.numpy as jnp  # noqa: E402

from jaxrl.spec.spec import spec  # noqa: E402
from jaxrl.sweep.run import run  # noqa: E402
from jaxrl.types import IntrinsicReward  # noqa: E402

MEGABYTE = 2**18  # float32 numbers


def heavy(scale=1.0, *, megabytes=64) -> IntrinsicReward:
    """A bonus that carries a large array about."""

    def update(key, state, memory, batch, trace):
        return state + 1, {}

    return IntrinsicReward(
        lambda key, example: (jnp.zeros(megabytes * MEGABYTE), ()),
        lambda state, memory, batch: ((), scale * state[0] * jnp.ones_like(batch.reward), ()),
        update,
    )


def on_event(event: dict) -> None:
    print(json.dumps(event, default=str), flush=True)
    if event["kind"] == "begin" and resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        with open("/proc/self/statm") as file:
            there = int(file.read().split()[0]) * resource.getpagesize()
        limit = there + int(sys.argv[2]) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


run(
    spec(env="probe/chain", bonus=heavy, num_envs=2, num_steps=8, steps=16, hidden=(8,), epochs=1, minibatches=2,
         evals=0, seeds=8),
    sys.argv[1],
    at_once=4,
    on_event=on_event,
)  # fmt: skip
