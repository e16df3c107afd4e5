"""One lane of a thousand that breaks: told with its first bad iteration, and 999 others that keep every bit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.results import store
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.run import run
from jaxrl.types import IntrinsicReward

pytestmark = pytest.mark.faults

COUNT, SICK, BREAKS = 1000, 417, 20
NEVER = 1e6  # iterations; the values of the lanes differ above it, which no lane notices


def poisoned(at=1e9) -> IntrinsicReward:
    """Visits of the chain's cells; NaN from iteration `at` on, counted from 1."""

    def init(key, example):
        return (jnp.float32(1), jnp.zeros(example.obs.shape[-1])), ()

    def label(state, memory, batch):
        return (), jnp.where(state[0] >= at, jnp.nan, 1 / jnp.sqrt(batch.next_obs @ state[1] + 1)), ()

    def update(key, state, memory, batch, trace):
        return (state[0] + 1, state[1] + batch.next_obs.sum((0, 1))), {}

    return IntrinsicReward(init, label, update)


def thousand(sick: dict[int, float]):
    values = [sick.get(index, NEVER + index) for index in range(COUNT)]
    return spec(
        env="probe/chain",
        bonus=poisoned,
        num_envs=2,
        num_steps=8,
        steps=24 * 16,
        hidden=(8,),
        epochs=1,
        minibatches=2,
        evals=1,
        eval_episodes=1,
        grid={"poisoned.at": values},
    )


def test_lane_417_of_a_thousand(tmp_path):
    """A hundred at once, as an accelerator runs them."""
    found = {}
    for name, sick in (("healthy", {}), ("poisoned", {SICK: float(BREAKS)})):
        summary = run(thousand(sick), tmp_path / name, at_once=100)
        (path,) = summary.chunks
        assert summary.lanes == COUNT
        found[name] = store.read_chunk(path)
        names = [lane.id for lane in lanes(thousand(sick))]
        assert [lane["lane"] for lane in found[name].lanes] == names
        assert summary.diverged == ((names[SICK],) if sick else ())
    healthy, poisoned = found["healthy"], found["poisoned"]
    sick = poisoned.lanes[SICK]
    assert (sick["status"], sick["first_bad_iteration"], sick["values"]["poisoned.at"]) == ("diverged", BREAKS, BREAKS)
    others = np.arange(COUNT) != SICK
    assert {lane["status"] for index, lane in enumerate(poisoned.lanes) if index != SICK} == {"ok"}
    assert poisoned.curves.keys() == healthy.curves.keys() and poisoned.params.keys() == healthy.params.keys()
    for one, two in ((healthy.curves, poisoned.curves), (healthy.params, poisoned.params)):
        for name in one:
            assert one[name][others].tobytes() == two[name][others].tobytes(), name
    for name, curve in healthy.curves.items():  # and it was the same lane until then
        np.testing.assert_array_equal(curve[SICK, : BREAKS - 1], poisoned.curves[name][SICK, : BREAKS - 1], name)
    assert np.isnan(poisoned.curves["bonus_mean"][SICK, BREAKS - 1 :]).all()
