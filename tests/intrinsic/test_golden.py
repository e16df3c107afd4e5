"""Two rollouts of each method, stored: numbers that change when nobody meant to change them.

After a change that was meant: JAXRL_REWRITE_GOLDEN=1 python -m pytest tests/intrinsic/test_golden.py
"""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch
from references import roll

from jaxrl.intrinsic import CATALOGUE
from jaxrl.intrinsic.airs import airs
from jaxrl.intrinsic.apt import apt
from jaxrl.intrinsic.byol_explore import byol_explore
from jaxrl.intrinsic.cfn import cfn
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.deir import deir
from jaxrl.intrinsic.disagreement import disagreement
from jaxrl.intrinsic.e3b import e3b
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.intrinsic.forward_error import forward_error
from jaxrl.intrinsic.icm import icm
from jaxrl.intrinsic.ngu import ngu
from jaxrl.intrinsic.none import none
from jaxrl.intrinsic.noveld import noveld
from jaxrl.intrinsic.rdd import rdd
from jaxrl.intrinsic.re3 import re3
from jaxrl.intrinsic.ride import ride
from jaxrl.intrinsic.rnd import rnd
from jaxrl.intrinsic.simhash import simhash

GOLDEN = Path(__file__).parents[1] / "golden"
T, N = 8, 3
METHODS = {
    "none": none,
    "count": count,
    "episodic_count": episodic_count,
    "simhash": lambda: simhash(1e-3, learned=True, bits=8, dim=4, hidden=(8,), minibatches=2),
    "cfn": lambda: cfn(1e-3, dim=4, hidden=(8,), capacity=32, minibatches=2),
    "rdd": lambda: rdd(1e-3, replay=True, dim=4, hidden=(8,), capacity=32, minibatches=2),
    "rnd": lambda: rnd(1e-3, proportion=0.5, dim=4, hidden=(8,), minibatches=2),
    "airs": lambda: airs(episodic_count(), rnd(1e-3, scale=False, dim=4, hidden=(8,), minibatches=2), hidden=(8,)),
    "e3b": lambda: e3b(lr=1e-3, actions=ACTIONS, dim=4, hidden=(8,), minibatches=2),
    "ngu": lambda: ngu(1e-3, 1e-2, actions=ACTIONS, k=3, remembered=4, family=3, dim=4, hidden=(8,), minibatches=2),
    "re3": lambda: re3(0.1, k=2, earlier=30, dim=4, hidden=(8,)),
    "apt": lambda: apt(1e-3, actions=ACTIONS, k=6, dim=4, hidden=(8,), minibatches=2),
    "icm": lambda: icm(1e-3, whiten=True, actions=ACTIONS, dim=4, hidden=(8,), minibatches=2),
    "disagreement": lambda: disagreement(1e-3, actions=ACTIONS, dim=4, hidden=(8,), width=8, minibatches=2),
    "forward_error": lambda: forward_error(lr=1e-3, actions=ACTIONS, width=8, minibatches=2),
    "ride": lambda: ride(1e-3, actions=ACTIONS, dim=4, hidden=(8,), minibatches=2),
    "byol_explore": lambda: byol_explore(
        1e-3, actions=ACTIONS, horizon=3, dim=4, width=5, hidden=(8,), minibatches=3
    ),
    "deir": lambda: deir(
        1e-3, actions=ACTIONS, remembered=4, queue=16, dim=4, width=5, hidden=(8,), epochs=2, minibatches=2
    ),
    "noveld": lambda: noveld(lr=1e-3, dim=4, hidden=(8,), minibatches=2),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_numbers_are_the_stored_ones(name):
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 11) for i in (11, 12)]
    bonuses, _, metrics = roll(METHODS[name](), batches, example(N))
    found = {"bonus": np.stack(bonuses), **{key: np.stack([m[key] for m in metrics]) for key in metrics[0]}}
    path = GOLDEN / f"{name}.npz"
    if os.environ.get("JAXRL_REWRITE_GOLDEN"):
        np.savez_compressed(path, **{key.replace("/", "|"): value for key, value in found.items()})
        pytest.skip(f"{path.name} rewritten")
    with np.load(path, allow_pickle=False) as stored:
        assert {key.replace("|", "/") for key in stored} == set(found)
        for key in stored:
            np.testing.assert_allclose(found[key.replace("|", "/")], stored[key], rtol=1e-4, atol=1e-6)
