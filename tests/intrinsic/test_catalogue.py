"""What `jaxrl list bonuses` says is read from docstrings; here it is compared with the code."""

import math

import jax
import jax.numpy as jnp
import pytest
from batches import ACTIONS

from jaxrl import cli, listing
from jaxrl.intrinsic import CATALOGUE
from jaxrl.intrinsic.expression import build, parse
from jaxrl.signatures import signature
from jaxrl.types import Transition

KINDS = {"lifelong", "episodic", "recurrent", "batch", "composed"}
DIM, N = 64, 2


def bytes_of_memory(name):
    """Of one environment, at default arguments, for observations of 64 floats."""
    obs, flags = jnp.zeros((N, DIM)), jnp.zeros(N, bool)
    example = Transition(obs, jnp.zeros(N, jnp.int32), jnp.zeros(N), obs, flags, flags, flags, ())
    reward = build(parse(name), {}, actions=ACTIONS)
    memory = jax.eval_shape(reward.init, jax.random.key(0), example)[1]
    return sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory))


@pytest.mark.parametrize("name", CATALOGUE)
def test_docstring_tells_kind_memory_and_knowledge(name):
    known = signature(CATALOGUE[name])
    kind, memory, knows = (listing.closing_line(known.doc, word) for word in ("Kind", "Memory", "Knows"))
    assert kind in KINDS and knows
    if known.rewards:
        assert memory == "its parts'"
    else:
        size = bytes_of_memory(name)
        assert memory.startswith(f"{size:,} bytes" if size else "none")


def test_list_shows_each_bonus_and_by_name_its_parameters(capsys):
    assert cli.main(["list", "bonuses"]) == 0
    rows = capsys.readouterr().out
    assert all(f" {name} " in rows for name in CATALOGUE) and "parameters of" not in rows
    assert cli.main(["list", "bonuses", "rnd"]) == 0
    rows, _, parameters = capsys.readouterr().out.partition("parameters of rnd:")
    assert "arXiv:1810.12894" in rows and " count " not in rows
    assert "0.0001" in parameters and "Adam step size of the predictor" in parameters
