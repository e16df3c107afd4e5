"""The lift of a one-step rule to batches, and the refusal to relabel what has a memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch
from references import episodic as reference
from references import roll

from jaxrl.intrinsic.base import OPENINGS_AT_ONCE, episodic, openings, require_memoryless, stateless
from jaxrl.intrinsic.combine import add
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.e3b import e3b
from jaxrl.intrinsic.features import frozen, random_network
from jaxrl.intrinsic.none import none
from jaxrl.intrinsic.rnd import rnd
from jaxrl.types import Episodic

T, N = 8, 3

# Pays the sum of what the episode saw, opening observation included, times the number of steps since it.
SUM = Episodic(
    init=lambda x0: {"sum": x0, "steps": jnp.float32(0)},
    step=lambda memory, x: (
        {"sum": memory["sum"] + x, "steps": memory["steps"] + 1},
        memory["sum"].sum() * (memory["steps"] + 1) + x[0],
    ),
    reset=lambda memory, x0: {"sum": x0, "steps": jnp.float32(0)},
)


def test_episodic_runs_the_rule_in_each_environment_and_starts_afresh_where_first():
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(3)]
    bonuses, _, _ = roll(episodic(frozen(lambda obs: 2 * obs[:3]), SUM), batches, example(N))
    for bonus, expected in zip(
        bonuses,
        reference(batches, lambda past, x: 2 * sum(y[:3].sum() for y in past) * len(past) + 2 * x[0]),
        strict=True,
    ):
        np.testing.assert_allclose(bonus, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("num_steps", "longest", "turns"), [(14, 2, 2), (14, 14, 1), (3, 1000, 0)])
def test_only_openings_are_embedded_and_each_goes_to_the_steps_of_its_episode(num_steps, longest, turns):
    embedded = []

    def embed(state, obs):
        jax.debug.callback(lambda obs: embedded.append(len(obs)), obs)
        return 2 * obs[:, :3]

    batch = fake_batch(jax.random.key(0), num_steps, N, opens=turns > 0, longest=longest)
    features = frozen(lambda obs: obs)._replace(embed=embed)
    found = jax.jit(lambda batch: openings(features, (), batch))(batch)
    jax.effects_barrier()
    opened = np.asarray(batch.first).cumsum(0)
    for t, n in np.argwhere(opened > 0):
        start = np.flatnonzero(batch.first[: t + 1, n])[-1]
        assert (found[t, n] == 2 * batch.obs[start, n, :3]).all()
    assert found.shape == (num_steps, N, 3) and turns == -(-opened.max() // OPENINGS_AT_ONCE)
    assert sum(embedded) == turns * OPENINGS_AT_ONCE * N


def test_episodic_leaves_to_reset_what_survives_an_episode():
    """A rule may keep a field through resets, such as a running average: only what `reset` changes is changed."""
    rule = Episodic(
        init=lambda x0: {"ever": jnp.float32(0), "now": jnp.float32(0)},
        step=lambda memory, x: (jax.tree.map(lambda n: n + 1, memory), memory["ever"] + 100 * memory["now"]),
        reset=lambda memory, x0: {**memory, "now": jnp.float32(0)},
    )
    batch = fake_batch(jax.random.key(0), T, N)
    (bonus,), _, _ = roll(episodic(frozen(lambda obs: obs), rule), [batch], example(N))
    (now,) = reference([batch], lambda past, x: len(past) - 1)
    assert (bonus == np.arange(T)[:, None] + 100 * now).all()


def test_episodic_trains_its_features():
    spied = random_network(dim=4, hidden=(8,))._replace(
        update=lambda key, state, batch: (state, {"seen": batch.reward.sum()})
    )
    batch = fake_batch(jax.random.key(0), T, N)
    rule = SUM._replace(init=lambda x0: {"sum": x0, "steps": jnp.float32(0)})
    _, _, (metrics,) = roll(episodic(spied, rule), [batch], example(N))
    np.testing.assert_allclose(metrics["seen"], batch.reward.sum(), rtol=1e-6)


def test_stateless_is_the_function_of_the_batch():
    batch = fake_batch(jax.random.key(0), T, N)
    (bonus,), states, (metrics,) = roll(stateless(lambda batch: batch.next_obs.sum(-1)), [batch], example(N))
    np.testing.assert_allclose(bonus, np.asarray(batch.next_obs).sum(-1), rtol=1e-5, atol=1e-6)
    assert states == [(), ()] and metrics == {}


@pytest.mark.parametrize("reward", [none(), count(), rnd(scale=False), add(none(), rnd(scale=False, whiten=False))])
def test_memoryless_bonuses_may_relabel(reward):
    assert require_memoryless(reward, example(N)) is reward


@pytest.mark.parametrize(
    ("reward", "held"),
    [
        (e3b(actions=ACTIONS, normalize=False), r"root \(3, 64, 64\)"),
        (rnd(), r"filtered \(3,\)"),
        (add(none(), e3b(actions=ACTIONS)), r"root \(3, 64, 64\)"),
    ],
)
def test_bonuses_with_a_memory_are_refused_in_a_sentence(reward, held):
    with pytest.raises(ValueError, match=f"keeps a memory of each environment's past .*{held}.* cannot be relabelled"):
        require_memoryless(reward, example(N))
