"""Boxes of any bounds are one unit box to policies and networks; spaces are read by their class, or refused by name."""

from types import SimpleNamespace

import gymnasium
import gymnax.environments.spaces
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import spaces
from jaxrl.errors import UserError
from jaxrl.types import Box, Discrete

APART = Box((-1.0, 2.0, -3e38), (4.0, 2.5, 3e38), (3,))
BOXES = [Box(10.0, 20.0, (2,)), Box(0.0, 255.0, (1,)), Box(-0.01, 0.01, (2,)), APART]
UNIT = Box(-1.0, 1.0, (3,))


@pytest.mark.parametrize("box", BOXES)
def test_the_unit_box_is_mapped_affinely_on_the_bounds_of_each_coordinate(box):
    low, high = (np.broadcast_to(np.float64(bound), box.shape) for bound in (box.low, box.high))
    unit = np.random.default_rng(0).uniform(-1, 1, (500, *box.shape)).astype(np.float32)
    action = np.asarray(jax.jit(lambda x: spaces.from_unit(box, x))(unit))
    half = high / 2 - low / 2
    assert (np.abs(action - (low + half + unit * half)) <= 1e-6 * (np.abs(action) + half)).all()
    np.testing.assert_allclose(spaces.code(box, action), unit, atol=1e-5)
    ends = np.asarray(spaces.from_unit(box, jnp.stack([-7.0 * jnp.ones(box.shape), 7.0 * jnp.ones(box.shape)])))
    np.testing.assert_array_equal(ends, np.float32([low, high]))
    np.testing.assert_array_equal(spaces.bounds(box), ends)
    assert hash(box) == hash(Box(*box))


@pytest.mark.parametrize("low", [0.1, -0.3, 1e-30, 16777215.0, -1.0000001])
@pytest.mark.parametrize("size", [1e-3, 0.7, 1.0, 3.3e7])
def test_rounding_never_leaves_the_box(low, size):
    if np.float32(low) == np.float32(low + size):
        pytest.skip("no box in float32")
    box = Box(low, low + size, (4,))
    action = np.asarray(spaces.from_unit(box, jnp.array([-1.0, 1.0, 0.99999994, -0.99999994])))
    assert (action >= np.float32(low)).all() and (action <= np.float32(low + size)).all()


def test_in_the_unit_box_nothing_changes_by_a_bit():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 3)), jnp.float32)
    action = spaces.from_unit(UNIT, x)
    np.testing.assert_array_equal(action, jnp.clip(x, -1.0, 1.0))
    assert spaces.code(UNIT, action) is action and spaces.to_unit(UNIT, action) is action
    key = jax.random.key(3)
    expected = jax.random.uniform(key, (50, 3), jnp.float32, -1.0, 1.0)
    np.testing.assert_array_equal(spaces.sample(UNIT, key, (50,)), expected)


def test_samples_are_uniform_on_every_coordinate():
    box = Box((-2.0, 10.0), (3.0, 10.5), (2,))
    drawn = np.asarray(spaces.sample(box, jax.random.key(0), (4000,)))
    assert drawn.shape == (4000, 2) and drawn.dtype == np.float32
    quantiles = np.quantile(drawn, [0.1, 0.5, 0.9], axis=0)
    np.testing.assert_allclose(quantiles, [[-1.5, 10.05], [0.5, 10.25], [2.5, 10.45]], atol=0.15)


def test_discrete_actions_are_seen_one_hot():
    np.testing.assert_array_equal(spaces.code(Discrete(3), jnp.array([2, 0])), [[0, 0, 1], [1, 0, 0]])
    assert spaces.width(Discrete(3)) == 3 and spaces.width(UNIT) == 3
    assert spaces.bounds(Discrete(3)) == (0, 2)


def test_spaces_in_words():
    assert spaces.text(Discrete(7)) == "Discrete(7)"
    assert spaces.text(Box(-1.0, 1.0, (6,))) == "Box(-1, 1, [6])"
    assert spaces.text(Box((-1.0, 0.5), 4.0, (2,))) == "Box([-1, 0.5], 4, [2])"


class Subclassed(gymnasium.spaces.Discrete):
    pass


@pytest.mark.parametrize(
    ("space", "found"),
    [
        (Discrete(3), Discrete(3)),
        (gymnasium.spaces.Discrete(3), Discrete(3)),
        (gymnax.environments.spaces.Discrete(3), Discrete(3)),
        (Subclassed(2), Discrete(2)),
        (gymnasium.spaces.Box(-1.0, 1.0, (2,)), Box(-1.0, 1.0, (2,))),
        (gymnax.environments.spaces.Box(-2, 2, (1,)), Box(-2.0, 2.0, (1,))),
        (gymnasium.spaces.Box(np.float32([-1, 0]), np.float32([1, 5])), Box((-1.0, 0.0), (1.0, 5.0), (2,))),
        (Box(np.array([-1.0, 0.0]), 5, (2,)), Box((-1.0, 0.0), 5.0, (2,))),
    ],
)
def test_spaces_of_libraries_are_read_by_their_class(space, found):
    read = spaces.read("Own", space)
    assert read == found and type(read) is type(found)
    assert hash(read) == hash(found)


class Actions:  # has everything that a Discrete and a Box have
    n, start, low, high, shape = 4, 0, -1.0, 1.0, (2,)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            gymnasium.spaces.Discrete(3, start=-1),
            r"the actions -1 \.\. 1: .* set Discrete\(3\) and add -1",
        ),
        (gymnasium.spaces.MultiBinary(4), r"MultiBinary actions, MultiBinary\(4\): .* number the combinations"),
        (gymnasium.spaces.MultiDiscrete([2, 3]), r"MultiDiscrete actions, MultiDiscrete\(\[2 3\]\)"),
        (gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(3)]), "Tuple actions"),
        (gymnasium.spaces.Dict(move=gymnasium.spaces.Discrete(2)), "Dict actions"),
        (gymnax.environments.spaces.Tuple([gymnasium.spaces.Discrete(2)]), "Tuple actions"),
        (Actions(), "actions of type Actions: use Discrete or Box"),
        (SimpleNamespace(n=4), "actions of type SimpleNamespace: use Discrete or Box"),
        ("two", "actions of type str"),
        (Discrete(0), "has 0 actions"),
        (Discrete(2.5), "has 2.5 actions: a whole number"),
        (Box(-np.inf, np.inf, (2,)), r"bounds \[-inf, inf\]: they must be finite"),
        (Box(1.0, -1.0, (2,)), "low below high"),
        (Box((0.0, 1.0), (1.0, 1.0), (2,)), r"bounds \[\(0.0, 1.0\), 1.0\]"),
        (Box(1e10, 1e10 + 1, (2,)), "low below high, in float32"),
        (Box(0.0, 1e39, (1,)), "must be finite"),
        (Box((0.0, 0.0, 0.0), 1.0, (2,)), r"3 bounds low for actions of the shape \(2,\)"),
        (Box(-1.0, 1.0, ()), r"actions of the shape \(\): flatten"),
        (Box(-1.0, 1.0, (2, 3)), r"actions of the shape \(2, 3\): flatten"),
        (gymnasium.spaces.Box(0, 255, (2,), np.uint8), "a Box of uint8 actions"),
    ],
)
def test_a_space_that_no_agent_can_act_in_has_its_sentence(space, sentence):
    with pytest.raises(UserError, match="^environment 'Own' .*" + sentence):
        spaces.read("Own", space)
