"""What changes numbers is in a lane's id, the same before and after jax is imported; the generator changes none."""

import json
import os
import re
import subprocess
import sys

import jax
import pytest

from jaxrl import identity
from jaxrl.signatures import PACKAGE

ROOT = PACKAGE.parent
WORLD = '''
"""Six cells; which way an action leads is drawn where nobody handed a key over."""
import jax, jax.numpy as jnp
from jaxrl.envs import AutoReset, Discrete

class Scrambled(AutoReset):
    actions, max_steps = Discrete(2), 12
    def __init__(self):
        self.start = int(jax.random.randint(jax.random.PRNGKey(5), (), 0, 6))
    def reset_env(self, key, params):
        return jnp.arange(6.0) == self.start, (self.start + jnp.int32(0), jnp.int32(0))
    def step_env(self, key, state, action, params):
        swapped = jax.random.bernoulli(jax.random.key(3), shape=(6,))[state[0]]
        cell, time = jnp.clip(state[0] + 2 * (action ^ swapped) - 1, 0, 5), state[1] + 1
        return jnp.arange(6.0) == cell, (cell, time), cell / 5.0, cell == 5, time >= 12, {}
'''
SWEEP = """
import json, sys
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.run import run
from jaxrl.results.query import curves
made = spec(env="worlds_of_others:Scrambled", bonus="0.5 * rnd", seeds=2, grid={"coef": [0.1, 1.0]}, num_envs=2,
            num_steps=8, steps=48, hidden=(4,), epochs=1, minibatches=2, evals=1, eval_episodes=2, warmup=1)
run(made, sys.argv[1], at_once=int(sys.argv[2]))
found = curves(sys.argv[1])
print(json.dumps({"ids": [lane.id for lane in lanes(made)],
                  "bits": {name: found[name].values.tobytes().hex() for name in found}}))
"""
IDS = """
import sys
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes
if sys.argv[1] == "jax":
    import jax
assert ("jax" in sys.modules) == (sys.argv[1] == "jax")
(lane,) = lanes(spec(env="probe/chain"))
print(lane.id)
"""


def started(code, *arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_") or name == "JAX_PLATFORMS"}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env={**kept, **environment}, cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


def said(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out.strip()


def test_jax_default_generator_changes_no_id_and_no_bit_of_a_packed_sweep(tmp_path):
    (tmp_path / "worlds_of_others.py").write_text(WORLD)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    runs = [started(SWEEP, str(tmp_path / name), at_once, PYTHONPATH=path, JAX_DEFAULT_PRNG_IMPL=name)
            for name, at_once in (("threefry2x32", "2"), ("rbg", "2"))]  # fmt: skip
    plain, rbg = (json.loads(said(process)) for process in runs)
    assert len(set(plain["ids"])) == 4 and plain["ids"] == rbg["ids"]
    assert {"return", "coverage", "ppo/entropy"} & plain["bits"].keys() == {"return", "ppo/entropy"}
    assert plain["bits"] == rbg["bits"]


def test_keys_are_made_in_one_place():
    made = re.compile(r"random\.(key|PRNGKey)\((?!.*impl=)|random\.key\)")
    lines = [f"{path.relative_to(PACKAGE)}: {line}" for path in PACKAGE.rglob("*.py")
             for line in path.read_text().splitlines() if made.search(line) and '"""' not in line]  # fmt: skip
    assert lines == []


def test_ids_differ_under_what_changes_numbers_with_and_without_jax():
    variants = [{}, {"JAX_DEFAULT_PRNG_IMPL": "rbg"}, {"JAX_ENABLE_X64": "1"},
                {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}]  # fmt: skip
    runs = [started(IDS, jax, **{"PYTHONPATH": str(ROOT), "XLA_FLAGS": "", **more})
            for more in variants for jax in ("jax", "none")]  # fmt: skip
    ids = [said(process) for process in runs]
    assert ids[0::2] == ids[1::2]
    plain, rbg, wide, fast = ids[0::2]
    assert plain == rbg and len({plain, wide, fast}) == 3


SETTINGS = [
    ("jax_enable_x64", "True", True, "jax_enable_x64=true"),
    ("jax_threefry_partitionable", "off", False, "jax_threefry_partitionable=false"),
    ("jax_random_seed_offset", "1", 1, "jax_random_seed_offset=true"),
    ("jax_random_seed_offset", "7", 7, "jax_random_seed_offset=7"),
    ("jax_high_dynamic_range_gumbel", "yes", True, "jax_high_dynamic_range_gumbel=true"),
    ("jax_default_matmul_precision", "float32", "float32", "jax_default_matmul_precision=float32"),
    ("jax_numpy_dtype_promotion", "strict", "strict", "jax_numpy_dtype_promotion=strict"),
    ("jax_explicit_x64_dtypes", "allow", "allow", "jax_explicit_x64_dtypes=allow"),
]


@pytest.mark.parametrize(("name", "variable", "value", "word"), SETTINGS)
def test_a_setting_is_read_from_its_variable_and_from_jax_alike(monkeypatch, name, variable, value, word):
    assert identity.settings() == "defaults"
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        assert identity.settings() == word
    finally:
        jax.config.update(name, before)
    monkeypatch.setenv(name.upper(), variable)
    assert identity.settings() == "defaults"  # jax has read its variables
    monkeypatch.delitem(sys.modules, "jax")
    assert identity.settings() == word


def test_every_setting_is_one_of_jax_and_its_default_is_right(monkeypatch):
    assert {name: identity._word(getattr(jax.config, name)) for name in identity.DEFAULTS} == identity.DEFAULTS


def test_a_setting_of_a_block_counts_within_it():
    with jax.enable_x64(True):
        assert identity.settings() == "jax_enable_x64=true"


def test_flags_of_xla_count_where_they_change_numbers(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_dump_to=/x")
    assert identity.settings() == "defaults"
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math --xla_allow_excess_precision=false")
    assert identity.settings() == "xla_allow_excess_precision=false xla_cpu_enable_fast_math=true"
