"""Every fault that ``check_bonus`` names, made on purpose in a bonus that is otherwise sound."""

import time

import jax.numpy as jnp
import pytest
from batches import OBS_SHAPE

from jaxrl.envs import AutoReset, make
from jaxrl.errors import UserError
from jaxrl.intrinsic import CATALOGUE, check_bonus
from jaxrl.intrinsic.base import stateless
from jaxrl.types import Discrete, IntrinsicReward

T, N = 12, 5


class Room(AutoReset):
    """Observations ``[6]``, which never change; four steps."""

    actions, max_steps = Discrete(3), 4

    def reset_env(self, key, params):
        return jnp.zeros(OBS_SHAPE), 0

    def step_env(self, key, state, action, params):
        return jnp.zeros(OBS_SHAPE), state + 1, 0.0, False, state >= 3, {}


@pytest.fixture(scope="module")
def room():
    return make(Room)


def sound(init=None, label=None, update=None) -> IntrinsicReward:
    """State: the mean observation and a count; memory: the last bonus of each environment."""
    return IntrinsicReward(
        init or (lambda key, example: ({"mean": jnp.zeros(6), "n": jnp.int32(0)}, jnp.zeros(example.reward.shape))),
        label or (lambda state, memory, batch: (memory, batch.reward, ())),
        update or (lambda key, state, memory, batch, trace: (state, {"room/n": state["n"]})),
    )


def labels(function):
    return sound(label=lambda state, memory, batch: function(memory, batch))


def updates(function):
    return sound(update=lambda key, state, memory, batch, trace: function(state))


def pays(bonus):
    return labels(lambda memory, batch: (memory, bonus(batch.reward), ()))


def fails(error):
    def raising(*arguments):
        raise error

    return raising


def branching(state, memory, batch):
    if batch.reward.sum() > 0:
        return memory, batch.reward, ()
    return memory, -batch.reward, ()


MUST = r"it must be float32\[12, 5\], \[num_steps, num_envs\]"
FAULTS = {
    "a bonus of three": (pays(lambda r: jnp.zeros(3)), rf"the bonus from label is float32\[3\], {MUST}"),
    "a bonus without time": (pays(lambda r: r.mean(0)), rf"the bonus from label is float32\[5\], {MUST}"),
    "a bonus without environments": (pays(lambda r: r.mean(1)), rf"the bonus from label is float32\[12\], {MUST}"),
    "axes exchanged": (pays(lambda r: r.T), rf"the bonus from label is float32\[5, 12\], {MUST}"),
    "one axis too many": (pays(lambda r: r[..., None]), rf"the bonus from label is float32\[12, 5, 1\], {MUST}"),
    "a whole number": (pays(lambda r: r.astype(jnp.int32)), rf"the bonus from label is int32\[12, 5\], {MUST}"),
    "a flag": (pays(lambda r: r > 0), rf"the bonus from label is bool\[12, 5\], {MUST}"),
    "a number of Python": (pays(lambda r: 1.0), rf"the bonus from label is float32\[\] \(weak type.*\), {MUST}"),
    "no bonus": (pays(lambda r: None), rf"the bonus from label is None, {MUST}"),
    "two values of label": (
        labels(lambda memory, batch: (memory, batch.reward)),
        r"label must return \(memory, bonus, trace\), and returned 2 values",
    ),
    "one value of label": (
        labels(lambda memory, batch: batch.reward),
        r"label must return \(memory, bonus, trace\), and returned a single value, float32\[12, 5\]",
    ),
    "one value of init": (
        sound(lambda key, example: jnp.zeros(2)),
        r"init must return \(state, memory\), and returned a single value, float32\[2\]",
    ),
    "a word in the state": (
        sound(lambda key, example: ({"kind": "mean"}, ())),
        r"the state\['kind'\] is a str, it must be an array or a number",
    ),
    "a state of another shape": (
        updates(lambda state: ({**state, "mean": jnp.zeros(7)}, {})),
        r"the state\['mean'\] is float32\[6\] from init and float32\[7\] from update",
    ),
    "a state of another dtype": (
        updates(lambda state: ({**state, "n": jnp.float32(state["n"])}, {})),
        r"the state\['n'\] is int32\[\] from init and float32\[\] from update",
    ),
    "a state of another structure": (
        updates(lambda state: ({**state, "more": state["n"]}, {})),
        "the state has the structure .*'mean'.* from init and .*'more'.* from update",
    ),
    "a weak type": (
        sound(
            lambda key, example: ({"n": 0}, ()),
            lambda state, memory, batch: ((), batch.reward, ()),
            lambda key, state, memory, batch, trace: ({"n": state["n"] + jnp.int32(1)}, {}),
        ),
        r"the state\['n'\] is int32\[\] \(weak type, from a Python number\) from init and int32\[\] from update",
    ),
    "only the state": (
        updates(lambda state: state["mean"]),
        r"update must return \(state, metrics\), and returned a single value, float32\[6\]",
    ),
    "a state of two for both": (
        sound(
            lambda key, example: ((jnp.zeros(6), jnp.zeros(3)), ()),
            lambda state, memory, batch: ((), batch.reward, ()),
            lambda key, state, memory, batch, trace: state,
        ),
        r"the metrics, the second value of update, must be a dict of scalars by name, not float32\[3\]",
    ),
    "metrics with an axis": (
        updates(lambda state: (state, {"room/mean": state["mean"]})),
        r"the metrics, .* must be a dict of scalars by name, but 'room/mean' is float32\[6\]",
    ),
    "metrics in a list": (
        updates(lambda state: (state, [state["n"]])), r"the metrics, .* must be a dict of scalars by name, not \("),
    "a complex metric": (
        updates(lambda state: (state, {"z": jnp.zeros((), "complex64")})), "the metrics, .* but 'z' is complex64"),
    "memory without environments": (
        sound(lambda key, example: ({"n": jnp.int32(0)}, jnp.zeros(6))),
        r"the memory is float32\[6\], its first axis must be num_envs = 5",
    ),
    "memory that is one number": (
        sound(lambda key, example: ({"n": jnp.int32(0)}, {"steps": jnp.int32(0)})),
        r"the memory\['steps'\] is int32\[\], its first axis must be num_envs = 5",
    ),
    "memory of another shape": (
        labels(lambda memory, batch: (batch.reward, batch.reward, ())),
        r"the memory is float32\[5\] from init and float32\[12, 5\] from label",
    ),
    "memory that is lost": (
        labels(lambda memory, batch: ((), batch.reward, ())),
        r"the memory has the structure \* from init and \(\) from label",
    ),
    "an if": (
        sound(label=branching),
        r"label failed in .*test_bonus_check.py, line \d+, `if batch.reward.sum\(\) > 0:`: TracerBool.*: use jnp.where",
    ),
    "shapes that do not fit": (
        pays(lambda r: r @ jnp.zeros((6, 2))),
        r"label failed in .*test_bonus_check.py, line \d+, `pays\(lambda r: r @ .*`: TypeError: dot_general requires",
    ),
    **{
        f"{type(error).__name__} in {method}": (
            sound(**{method: fails(error)}),
            rf"{method} failed in .*test_bonus_check.py, line \d+, `raise error`: {type(error).__name__}: ",
        )
        for method in ("init", "label", "update")
        for error in (TypeError("no"), IndexError("no"), AttributeError("no"), ZeroDivisionError("no"), KeyError("no"))
    },
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_sentence_that_names_the_method(room, fault):
    bonus, sentence = FAULTS[fault]
    with pytest.raises(UserError, match=f"^the bonus: {sentence}") as raised:
        check_bonus(bonus, room, num_steps=T, num_envs=N)
    assert "\n" not in str(raised.value)


def test_an_error_keeps_its_cause(room):
    with pytest.raises(UserError) as raised:
        check_bonus(sound(init=fails(error := ZeroDivisionError("no"))), room)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(("num_steps", "num_envs"), [(8, 8), (6, 5), (12, 6)])
def test_axes_that_are_mixed_up_show_although_their_sizes_are_equal(room, num_steps, num_envs):
    wrong = {
        (8, 8): lambda batch: batch.reward.T,
        (6, 5): lambda batch: batch.obs.mean(0).T,  # [6, N] where [T, N] is due
        (12, 6): lambda batch: batch.obs.mean(1),  # [T, 6] where [T, N] is due
    }[num_steps, num_envs]
    with pytest.raises(UserError, match="the bonus from label is"):
        check_bonus(stateless(wrong), room, num_steps=num_steps, num_envs=num_envs)
    check_bonus(stateless(lambda batch: batch.reward), room, num_steps=num_steps, num_envs=num_envs)


def test_a_bonus_that_refuses_the_other_sizes_is_no_fault(room):
    """A replay that holds one batch: twice as much would not fit, and nobody asked for twice as much."""
    assert check_bonus(f"cfn(capacity={8 * 8}, epochs=1)", room, num_steps=8, num_envs=8)["bonus"] == "float32[8, 8]"
    with pytest.raises(UserError, match="capacity=63 must be at least num_steps"):
        check_bonus("cfn(capacity=63, epochs=1)", room, num_steps=8, num_envs=8)


def nothing(scale=1.0):
    stateless(lambda batch: scale * batch.reward)


def bare(scale=1.0):
    return lambda batch: batch.reward


def choosy(scale=1.0):
    return stateless(lambda batch: batch.reward if scale > 0 else -batch.reward)


def quick(scale=1.0):
    return stateless(lambda batch: scale * batch.reward)


def test_a_factory_must_return_a_bonus(room):
    with pytest.raises(UserError, match="^bonus 'nothing' must return a jaxrl.types.IntrinsicReward, .* None"):
        check_bonus(nothing, room)
    with pytest.raises(UserError, match=r"^bonus 'bare' must return .* returned a function"):
        check_bonus(bare, room)


def test_a_number_that_may_be_swept_is_traced(room):
    with pytest.raises(UserError, match="^bonus 'choosy': label failed in .*test_bonus_check.py.*TracerBool"):
        check_bonus(choosy, room)
    assert check_bonus(quick, room)["bonus"] == "float32[64, 16]"


def test_the_part_of_an_expression_that_is_wrong_is_named(room):
    with pytest.raises(UserError, match="^bonus 'choosy': label failed"):
        check_bonus("0.5 * count * choosy + quick", room, own=[choosy, quick])
    assert check_bonus("0.5 * count + quick", room, own=[quick])["bonus"] == "float32[64, 16]"


def test_what_was_seen(room):
    assert check_bonus(sound(), room, num_steps=T, num_envs=N) == {
        "state": "{mean: float32[6], n: int32[]}",
        "memory": "float32[5]",
        "bonus": "float32[12, 5]",
        "trace": "()",
        "metrics": ("room/n",),
    }


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_bonus_of_the_catalogue_passes_at_its_defaults_in_two_seconds(room, name):
    before = time.process_time()
    seen = check_bonus({"airs": "airs(count, none)"}.get(name, name), room)
    assert seen["bonus"] == "float32[64, 16]" and time.process_time() - before < 2
