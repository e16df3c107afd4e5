"""The field `trainer`: which fields a loop has use for, a user's own loop, and runs of loops that are not on_policy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl.trainers
from jaxrl.envs import AutoReset
from jaxrl.errors import UserError
from jaxrl.results import lanes as stored_lanes
from jaxrl.spec.settings import references, settings
from jaxrl.spec.spec import spec
from jaxrl.sweep.plan import lanes
from jaxrl.sweep.policy import evaluate, load_policy
from jaxrl.sweep.program import build
from jaxrl.sweep.run import run
from jaxrl.sweep.watch import watch
from jaxrl.trainers.on_policy import on_policy
from jaxrl.types import Discrete

SMALL = {
    "num_envs": 4, "num_steps": 8, "steps": 6 * 32, "hidden": (8,), "epochs": 1, "minibatches": 2,
    "evals": 2, "eval_episodes": 2,
}  # fmt: skip
SELMO = {"trainer": "selmo", "bonus": "forward_error(width=8, minibatches=2)", "selmo.snapshots": 3}
SURPRISE = {"trainer": "adversarial_surprise", "adversarial_surprise.classes": 3}
OF_BONUS = {"coef", "bonus_discount", "bonus_episodic", "streams", "warmup"}


class Slide(AutoReset):
    """A point on five cells that a step moves; pays 1 at the right; draws itself."""

    actions, max_steps, num_states, map_shape = Discrete(3), 8, 5, (1, 5)

    def state_id(self, state, params):
        return state[0]

    def seen(self, cell):
        return (jnp.arange(5) == cell).astype(jnp.int32)

    def render(self, state, params=None):
        return jnp.broadcast_to(self.seen(state[0])[None, :, None] * 255, (4, 5, 3)).astype(jnp.uint8)

    def reset_env(self, key, params):
        return self.seen(2), (2, 0)

    def step_env(self, key, state, action, params):
        cell, time = jnp.clip(state[0] + action - 1, 0, 4), state[1] + 1
        return self.seen(cell), (cell, time), cell == 4, False, time >= 8, {}


def loop(patience=2.0, *, task, agent, reward, combine, num_envs, num_steps, wait=1, warmup=0):
    """A user's own trainer: on_policy with a metric of its own."""
    inner = on_policy(task, agent, reward, combine, num_envs=num_envs, num_steps=num_steps, warmup=warmup)

    def step(state):
        state, metrics = inner.step(state)
        return state, {**metrics, "loop/patience": jnp.float32(patience + wait)}

    return inner._replace(step=step)


def small(**fields):
    return spec(**{**SMALL, "env": Slide, **fields})


def fields_of(**fields):
    ((program, (values,)),) = settings(small(**fields))
    return {**program, **values}


def test_a_trainer_has_the_fields_that_its_factory_asks_for():
    plain = fields_of(bonus="count")
    assert plain["trainer"] == "on_policy" and set(plain) > OF_BONUS
    assert not any(name.startswith("on_policy.") for name in plain)
    skilled = fields_of(**SELMO, **{"selmo.mixture": 0.1})
    assert not (OF_BONUS - {"warmup"}) & set(skilled) and set(skilled) > {"warmup", "normalize_reward"}
    own = {"selmo.mixture": 0.1, "selmo.snapshots": 3, "selmo.curious": 0.5, "selmo.restart": True}
    assert {name: value for name, value in skilled.items() if name.startswith("selmo.")} == own
    played = fields_of(**SURPRISE)
    assert not (OF_BONUS | {"normalize_reward"}) & set(played) and played["bonus"] == "none"
    assert played["adversarial_surprise.rounds"] == 4 and played["discount"] == 0.99


def test_what_a_trainer_has_no_use_for_makes_no_lanes():
    grid = {"trainer": ["on_policy", "selmo"], "coef": [0.1, 1.0], "selmo.mixture": [0.0, 0.5, 1.0]}
    made = small(bonus="rnd", grid=grid)
    assert {program["trainer"]: len(values) for program, values in settings(made)} == {"on_policy": 2, "selmo": 3}


def test_streams_of_another_trainer_change_no_program():
    assert fields_of(**SELMO, streams="only") == fields_of(**SELMO)
    assert fields_of(**SURPRISE, streams="only") == fields_of(**SURPRISE)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"trainer": "selmoo"}, "unknown trainer 'selmoo': did you mean 'selmo'"),
        ({**SELMO, "selmo.mixtur": 1}, "did you mean 'selmo.mixture'"),
        ({"selmo.mixture": 0.5}, "unknown field 'selmo.mixture'"),
        ({**SELMO, "selmo.mixture": 2}, r"selmo.mixture = 2.0: must be in \[0, 1\]"),
        ({**SELMO, "bonus": "none"}, "trainer 'selmo' explores by its bonus alone: name one"),
        ({**SURPRISE, "bonus": "rnd"}, "trainer 'adversarial_surprise' pays rewards of its own: bonus must be"),
        ({**SURPRISE, "adversarial_surprise.rounds": 1}, "adversarial_surprise.rounds = 1: must be at least 2"),
    ],
)
def test_a_mistake_is_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        small(**fields)


def test_the_catalogue_asks_for_nothing_that_is_not_supplied():
    for name in jaxrl.trainers.CATALOGUE:
        takes = jaxrl.spec.fields.trainer_signature(name, {})
        assert set(takes.supplied) <= set(jaxrl.trainers.SUPPLIED), name
        assert re.match(rf"{name}: |Collect", takes.doc), name


def test_a_users_own_trainer(tmp_path):
    made = small(trainer=loop, grid={"loop.patience": [1.0, 5.0]}, **{"loop.wait": 3})
    found = lanes(made)
    reference = f"{__name__}:loop"
    assert found[0].program["trainer"] == reference and reference in found[0].sources
    assert reference in references(found[0].program, made.objects)
    program = build(found[0].program, made.objects)
    for lane, patience in zip(found, (1.0, 5.0), strict=True):
        trainer = program.make({name: jnp.float32(value) for name, value in lane.values.items()}).trainer
        metrics = jax.eval_shape(lambda trainer=trainer: trainer.step(trainer.init(jax.random.key(0))))[1]
        assert "loop/patience" in metrics and lane.values["loop.patience"] == patience


@pytest.fixture(scope="module", params=[SELMO, SURPRISE], ids=["selmo", "adversarial_surprise"])
def ran(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("ran")
    made = small(seeds=2, **request.param)
    run(made, out)
    return out, made


def test_its_policies_are_stored_loaded_evaluated_and_watched(ran):
    out, made = ran
    objects = made.objects
    frame = stored_lanes(out)
    assert list(frame["status"]) == ["ok", "ok"]
    again = evaluate(out, episodes=4, objects=objects)
    assert np.isfinite(again["eval_return"]).all() and (again["eval_return"] <= 8).all()
    lane = frame["lane"][0]
    policy = load_policy(out, lane, objects=objects)
    memory = policy.memory(3)
    obs = jnp.zeros((3, *policy.task.obs_shape), policy.task.obs_dtype)
    _, action, _ = policy.agent.act(jax.random.key(0), policy.state, memory, obs, jnp.ones(3, bool))
    assert action.shape == (3,) and policy.task.max_steps == 8
    if made.fixed["trainer"] == "selmo":  # its skills are stored with the learner
        one, two, three = jax.tree.leaves(policy.state.snapshots.params)[0]
        assert not np.array_equal(one, two) and not np.array_equal(two, three)
    seen = watch(out, lane, out / "watch", episodes=3, objects=objects)
    assert seen.episode.is_file() and seen.visits.is_file() and seen.steps == 8
