"""Lanes on devices: one compiled program runs R (hyperparameters, seed) pairs that never talk to each other.

The lane axis is split over the local devices by `shard_map`; on each device `lax.map` takes `at_once` lanes together
(vmapped) and the groups one after the other. On a CPU one lane at a time is fastest, because XLA's CPU backend runs a
batched matrix product much slower than the same product alone (`make bench` measures it); an accelerator takes all.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxrl.keys import key_of
from jaxrl.sweep.program import Program
from jaxrl.types import Key, PyTree

ROOT_SEED = 0  # every lane's key is fold_in(key(ROOT_SEED), seed): the same in every hyperparameter cell


class Packing(NamedTuple):
    """How lanes share a machine; changing it changes the last bits of results, so it is recorded with them."""

    devices: int  # local devices that the lane axis is split over
    at_once: int  # lanes that one device runs together
    backend: str


class Lanes(NamedTuple):
    """The compiled-once functions of R lanes; `values` and `keys` lead with R, as everything they return does."""

    init: jax.stages.Wrapped  # (values, keys)             -> states
    run: jax.stages.Wrapped  # (values, states, n)         -> (states, metrics [R, segment]), the first n of them real
    evaluate: jax.stages.Wrapped  # (values, keys, states) -> metrics [R]


def packing_for(lanes: int, at_once: int | None = None) -> Packing:
    """The default packing of `lanes` lanes on this machine's devices."""
    devices = min(jax.local_device_count(), lanes)
    per_device = -(-lanes // devices)
    backend = jax.default_backend()
    return Packing(devices, min(at_once or (1 if backend == "cpu" else per_device), per_device), backend)


def keys_of(seeds: Sequence[int]) -> Key:
    """Typed keys ``[R]``, equal for equal seeds."""
    root = key_of(ROOT_SEED)
    return jax.vmap(lambda seed: jax.random.fold_in(root, seed))(jnp.asarray(seeds, jnp.uint32))


def stacked(values: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """``{name: [R] float32}`` from one dict per lane."""
    return {name: np.asarray([lane[name] for lane in values], np.float32) for name in values[0]}


def lanes_of(program: Program, packing: Packing, segment: int) -> Lanes:
    """The functions of a program's lanes; `segment` is the most iterations that one call of `run` makes."""

    def init(values, key):
        return program.make(values).trainer.init(key)

    def run(values, state, n):
        step = program.make(values).trainer.step
        metrics = {name: jnp.full(segment, jnp.nan, jnp.float32) for name in jax.eval_shape(step, state)[1]}

        def iteration(i, carry):
            state, metrics = carry
            state, row = step(state)
            return state, {name: metrics[name].at[i].set(value) for name, value in row.items()}

        return jax.lax.fori_loop(0, n, iteration, (state, metrics))

    def evaluate(values, key, state):
        return program.make(values).evaluate(key, state)

    return Lanes(
        jax.jit(_spread(init, packing)),
        jax.jit(
            lambda values, states, n: _spread(lambda v, s: run(v, s, n), packing)(values, states), donate_argnums=1
        ),
        jax.jit(_spread(evaluate, packing)),
    )


def padded(tree: PyTree, multiple: int) -> PyTree:
    """Lead axes lengthened to a multiple of `multiple` by repeating the last lane, whose copies are to be trimmed."""
    lanes = len(jax.tree.leaves(tree)[0])
    missing = -lanes % multiple
    return jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], missing, 0)]) if missing else x, tree)


def _spread(function: Callable, packing: Packing) -> Callable:
    """`function` of one lane as a function of R lanes, R a multiple of the devices."""
    # Of this process alone: in a run of several hosts each takes lanes of its own and exchanges nothing.
    mesh = Mesh(np.asarray(jax.local_devices()[: packing.devices]), ("lanes",), axis_types=(AxisType.Auto,))

    def on_one_device(*arguments):
        one = lambda lane: function(*lane)
        if packing.at_once >= len(jax.tree.leaves(arguments)[0]):
            return jax.vmap(one)(arguments) if packing.at_once > 1 else jax.lax.map(one, arguments)
        return jax.lax.map(one, arguments, batch_size=packing.at_once if packing.at_once > 1 else None)

    lanes = PartitionSpec("lanes")
    return jax.shard_map(on_one_device, mesh=mesh, in_specs=lanes, out_specs=lanes, check_vma=False)


def state_bytes(program: Program, values: Mapping[str, float]) -> int:
    """Bytes that one lane's state takes between iterations, exactly, from shapes alone."""

    def init(values, key):
        return program.make(values).trainer.init(key)

    shapes = jax.eval_shape(init, {name: jnp.float32(value) for name, value in values.items()}, key_of(0))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def compiled_bytes(compiled: Any) -> int:
    """Bytes per device that a compiled program needs: arguments, results and scratch, shared buffers counted once."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def most_lanes(per_device: Callable[[int], int], devices: int, wanted: int, limit: int) -> int:
    """The most lanes, `wanted` at most, whose program stays below `limit` bytes per device; at least one.

    Args:
        per_device: bytes that the compiled program of so many lanes needs; asked at one and two lanes per device,
            between which and beyond it is a line (`make bench` measures how straight).
    """
    one, two = per_device(devices), per_device(2 * devices)
    if one + (two - one) * (-(-wanted // devices) - 1) <= limit:
        return wanted
    return devices * max(1, 1 + int((limit - one) // max(1, two - one)))


def memory_limit() -> int:
    """Bytes that one device may take: 85 % of what the accelerator reports, or of this machine's memory, shared."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(0.85 * stats["bytes_limit"])
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):  # no such cgroup version, or "max"
            continue
    return int(0.85 * total) // jax.local_device_count()
