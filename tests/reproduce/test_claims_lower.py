"""Every claim at gpu scale, with an executor that lowers its programs for CUDA and makes scores up."""

import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.reproduce import catalogue
from jaxrl.reproduce.lab import Lab
from jaxrl.reproduce.verdict import decide
from jaxrl.sweep.lanes import Packing, keys_of, lanes_of, stacked
from jaxrl.sweep.plan import lanes, programs
from jaxrl.sweep.program import build

SEGMENT = 2


def lower(spec):
    """Raises where a program of a spec has no rule for CUDA, or calls back into Python or the CPU's libraries."""
    for static, group in programs(lanes(spec)):
        functions = lanes_of(build(static, spec.objects), Packing(1, len(group), "cuda"), SEGMENT)
        values, keys = stacked([lane.values for lane in group]), keys_of([lane.seed for lane in group])
        states = jax.eval_shape(functions.init, values, keys)
        for function, arguments in (
            (functions.init, (values, keys)),
            (functions.run, (values, states, jnp.int32(1))),
            (functions.evaluate, (values, keys, states)),
        ):
            shapes = jax.eval_shape(lambda *given: given, *arguments)
            module = jax.export.export(jax.jit(function), platforms=("cuda",))(*shapes).mlir_module()
            assert not re.findall(r"custom_call @\S*(?:callback|lapack|python)", module), static["bonus"]


@pytest.mark.slow
@pytest.mark.claims
@pytest.mark.parametrize("name", catalogue.names())
def test_a_claim_lowers_for_cuda_at_gpu_scale(name, tmp_path, monkeypatch):
    """Nothing is trained and nothing is committed: `_scores` and `_account` would read what was."""
    claim, rng = catalogue.load(name), np.random.default_rng(0)

    def execute(spec, out, *, stop, on_event):
        lower(spec)
        return types.SimpleNamespace(stopped=False)

    class Scores:
        """A score for whatever lane is asked for."""

        def __getitem__(self, ids):
            return types.SimpleNamespace(to_numpy=lambda: rng.normal(size=len(ids)))

    monkeypatch.setattr(Lab, "_account", lambda lab, made: None)
    monkeypatch.setattr(Lab, "_scores", lambda lab, metric, last: types.SimpleNamespace(loc=Scores()))
    # Calibration trains no lanes: it would run here, and for long.
    walks = {"walks": 2} if "walks" in claim.SCALES["gpu"] else {}
    lab = Lab(claim.SCALES["gpu"] | walks, tmp_path, execute=execute)
    panels = claim.measure(lab)
    for one in claim.DIFFERENCES:  # every registered difference can be asked of the gpu scale's panels
        decide(one, panels)
    assert not any(tmp_path.iterdir())
