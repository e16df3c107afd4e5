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
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.e3b import e3b
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.intrinsic.none import none
from jaxrl.intrinsic.rnd import rnd

GOLDEN = Path(__file__).parents[1] / "golden"
T, N = 8, 3
METHODS = {
    "none": none,
    "count": count,
    "episodic_count": episodic_count,
    "rnd": lambda: rnd(1e-3, proportion=0.5, dim=4, hidden=(8,), minibatches=2),
    "e3b": lambda: e3b(lr=1e-3, actions=ACTIONS, dim=4, hidden=(8,), minibatches=2),
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
