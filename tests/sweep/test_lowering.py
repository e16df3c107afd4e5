"""Programs for machines that are not here: every trainer lowers for TPU and GPU, and no lane talks to another."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from worlds import Corridor

import jaxrl.intrinsic
import jaxrl.trainers
from jaxrl.results.store import chunks, read_file
from jaxrl.spec.spec import spec
from jaxrl.sweep.lanes import Packing, keys_of, lanes_of, stacked
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.program import build

ROOT = Path(__file__).parents[2]
PLATFORMS = ("tpu", "cuda")
SEGMENT = 2
TINY = {
    "env": Corridor, "num_envs": 2, "num_steps": 8, "steps": 64, "hidden": (4,), "epochs": 1, "minibatches": 1,
    "evals": 1, "eval_episodes": 1, "seeds": 2,
}  # fmt: skip
PROGRAMS = {
    "ppo": {"bonus": "e3b"},
    "ppo_rnn": {"agent": "ppo_rnn", "bonus": "rnd(hidden=(4,))"},
    "selmo": {"trainer": "selmo", "bonus": "rnd(hidden=(4,))", "selmo.snapshots": 2},
    "adversarial_surprise": {"trainer": "adversarial_surprise"},
}
WRITTEN = {"airs": "airs(count, none)", "byol_explore": "byol_explore(minibatches=1)"}  # where the name is not enough
# Communication as it is named in optimised HLO, whether it is started and awaited apart or not.
COLLECTIVE = re.compile(
    r"\b(all-reduce|all-gather|all-to-all|ragged-all-to-all|collective-permute|collective-broadcast|reduce-scatter"
    r"|send|recv)(?:-start|-done)?\("
)


def exported(function, *arguments):
    """What `function` lowers to for every platform; raises where an operation has no rule for one of them."""
    shapes = jax.eval_shape(lambda *values: values, *arguments)
    return jax.export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)


def calls_of(module):
    """The targets that a module calls outside of itself."""
    return set(re.findall(r"custom_call @([\w.]+)", module.mlir_module()))


def lanes_with(packing, **fields):
    """(functions, values, keys) of a tiny program's lanes."""
    made = spec(**{**TINY, **fields})
    found = lanes(made)
    functions = lanes_of(build(found[0].program, made.objects), packing, SEGMENT)
    return functions, stacked([lane.values for lane in found]), keys_of([lane.seed for lane in found])


def lowered(**fields):
    """{name: exported} of the three functions of a tiny program's lanes, run together as accelerators run them."""
    functions, values, keys = lanes_with(Packing(1, 2, "tpu"), **fields)
    states = jax.eval_shape(functions.init, values, keys)
    return {
        "init": exported(functions.init, values, keys),
        "run": exported(functions.run, values, states, jnp.int32(1)),
        "evaluate": exported(functions.evaluate, values, keys, states),
    }


def assert_lowers(**fields):
    for name, module in lowered(**fields).items():
        assert module.platforms == PLATFORMS
        # A call back into Python, or into the CPU's own libraries, would not run there.
        assert not [call for call in calls_of(module) if re.search("callback|lapack|python", call)], name


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_trainer_lowers_for_accelerators(name):
    assert_lowers(**PROGRAMS[name])


def test_no_trainer_is_missing_here():
    assert {fields.get("trainer", "on_policy") for fields in PROGRAMS.values()} == set(jaxrl.trainers.CATALOGUE)


@pytest.mark.slow
@pytest.mark.parametrize("bonus", [name for name in jaxrl.intrinsic.CATALOGUE if name not in ("e3b", "rnd")])
def test_every_bonus_lowers_for_accelerators(bonus):
    assert_lowers(bonus=WRITTEN.get(bonus, bonus))


def test_what_no_accelerator_runs_is_noticed():
    with pytest.raises(NotImplementedError, match="tpu"):
        exported(jax.lax.linalg.schur, jnp.eye(3))


def compiled_texts(functions, values, keys):
    """Optimised HLO of init and run."""
    init = functions.init.lower(values, keys).compile()
    states = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(functions.init, values, keys),
        init.output_shardings,
    )
    return init.as_text(), functions.run.lower(values, states, jnp.int32(1)).compile().as_text()


def assert_silent(functions, values, keys):
    for text in compiled_texts(functions, values, keys):
        assert "num_partitions=2" in text
        assert not COLLECTIVE.findall(text)


@pytest.mark.parametrize("together", [1, 2], ids=["map", "vmap"])
def test_compiled_lanes_never_communicate(tiny_program, tiny_lanes, together):
    values, keys = stacked([lane.values for lane in tiny_lanes]), keys_of([lane.seed for lane in tiny_lanes])
    assert_silent(lanes_of(tiny_program, Packing(2, together, "cpu"), 4), values, keys)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_lanes_of_every_trainer_never_communicate(name):
    assert_silent(*lanes_with(Packing(2, 1, "cpu"), **PROGRAMS[name]))


@pytest.mark.parametrize(
    ("talk", "name"),
    [
        (lambda x: jax.lax.psum(x, "lanes"), "all-reduce"),
        (lambda x: jax.lax.all_gather(x, "lanes", tiled=True), "all-gather"),
        (lambda x: jax.lax.ppermute(x, "lanes", [(0, 1), (1, 0)]), "collective-permute"),
        (lambda x: jax.lax.psum_scatter(jnp.tile(x, 2), "lanes", tiled=True), "reduce-scatter"),
    ],
)
def test_a_lane_that_talks_is_noticed(talk, name):
    mesh = Mesh(np.asarray(jax.local_devices()[:2]), ("lanes",), axis_types=(AxisType.Auto,))
    spread = PartitionSpec("lanes")
    talking = jax.shard_map(talk, mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False)
    assert COLLECTIVE.findall(jax.jit(talking).lower(jnp.arange(4.0)).compile().as_text()) == [name]


SWEEP = f"""
import sys
from jaxrl.sweep.run import run
from jaxrl.spec.spec import spec
run(spec(**{ {**TINY, "env": "probe/chain", "seeds": 9, "bonus": "count"} !r}), sys.argv[1], at_once=1)
"""


@pytest.fixture(scope="module")
def metrics_on(tmp_path_factory):
    """{devices: bytes of the metrics of one sweep of nine lanes that ran on so many devices}."""

    def of(devices):
        out = tmp_path_factory.mktemp(f"devices{devices}")
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PYTHONPATH": str(ROOT)}
        cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
        environment = {**os.environ, **flags, **cache}
        command = [sys.executable, "-c", SWEEP, str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        (manifest,) = chunks(out)
        assert manifest["packing"]["devices"] == devices and len(manifest["lanes"]) == 9
        return read_file(out / manifest["chunk"], "metrics.parquet", manifest)

    return of


@pytest.mark.slow
def test_eight_devices_give_the_metrics_of_one(metrics_on):
    assert metrics_on(8) == metrics_on(1)
