"""Lanes never talk to each other: packing may change last bits, a neighbour nothing."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.sweep.lanes import (
    Packing,
    compiled_bytes,
    keys_of,
    lanes_of,
    memory_limit,
    packing_for,
    padded,
    stacked,
    state_bytes,
)

ONE_BY_ONE, TWO_DEVICES, TOGETHER = Packing(1, 1, "cpu"), Packing(2, 1, "cpu"), Packing(2, 2, "cpu")
SEGMENT = 4


@pytest.fixture(scope="module")
def functions(tiny_program):
    """The functions of a packing, made once: a compiled program is kept by the jit inside."""
    made = {}

    def of(packing, segment=SEGMENT):
        if (packing, segment) not in made:
            made[packing, segment] = lanes_of(tiny_program, packing, segment)
        return made[packing, segment]

    return of


@pytest.fixture(scope="module")
def arguments(tiny_lanes):
    return stacked([lane.values for lane in tiny_lanes]), keys_of([lane.seed for lane in tiny_lanes])


def play(lanes, values, keys, parts=(SEGMENT,)):
    """(states, {metric: [R, iterations]}) on the host, after `parts` calls of run."""
    states, pieces = lanes.init(values, keys), []
    for n in parts:
        states, metrics = lanes.run(values, states, jnp.int32(n))
        pieces.append({name: np.asarray(rows)[:, :n] for name, rows in metrics.items()})
    return on_host(states), {name: np.concatenate([piece[name] for piece in pieces], 1) for name in pieces[0]}


def on_host(tree):
    data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return jax.tree.map(lambda x: np.asarray(data(x)), tree)


def assert_same_bits(one, two):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def reference(functions, arguments):
    return play(functions(TWO_DEVICES), *arguments)


def test_lanes_differ_as_their_values_and_seeds_do(reference, tiny_lanes):
    _, metrics = reference
    assert all(rows.shape == (4, SEGMENT) for rows in metrics.values())
    np.testing.assert_array_equal(metrics["finite"], 1)
    assert len({tuple(row) for row in metrics["ppo/entropy"]}) == 4
    assert [(lane.values["coef"], lane.seed) for lane in tiny_lanes] == [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]


def test_lanes_on_two_devices_are_those_run_one_by_one_on_one(reference, functions, arguments):
    values, keys = arguments
    for lane in range(4):
        one = slice(lane, lane + 1)
        state, metrics = play(functions(ONE_BY_ONE), {name: value[one] for name, value in values.items()}, keys[one])
        for name, rows in metrics.items():
            np.testing.assert_allclose(reference[1][name][one], rows, rtol=1e-5, atol=1e-5, err_msg=name)
        for a, b in zip(jax.tree.leaves(reference[0].agent), jax.tree.leaves(state.agent), strict=True):
            np.testing.assert_allclose(a[one], b, rtol=1e-5, atol=1e-5)


def test_lanes_run_together_are_the_same_lanes(reference, functions, arguments):
    _, metrics = play(functions(TOGETHER), *arguments)
    for name, rows in metrics.items():
        np.testing.assert_allclose(reference[1][name], rows, rtol=1e-5, atol=1e-5, err_msg=name)


def test_equal_packing_gives_equal_bits_in_whichever_place(reference, functions, arguments):
    """Lanes in reverse order, on the other device, beside other neighbours."""
    values, keys = arguments
    backwards = play(functions(TWO_DEVICES), {name: value[::-1] for name, value in values.items()}, keys[::-1])
    assert_same_bits(reference, jax.tree.map(lambda x: x[::-1], backwards))


@pytest.mark.parametrize("packing", [TWO_DEVICES, TOGETHER], ids=["map", "vmap"])
@pytest.mark.parametrize(("field", "value", "first_bad"), [("breaking.at", 3.0, 3), ("lr", 1e30, 1)])
def test_a_diverged_lane_changes_no_bit_of_another(functions, arguments, packing, field, value, first_bad):
    values, keys = arguments
    lanes = functions(packing)
    healthy, sick = play(lanes, values, keys), dict(values)
    sick[field] = values[field].copy()
    sick[field][1] = value
    infected = play(lanes, sick, keys)
    finite = infected[1]["finite"]
    assert finite[1].argmin() + 1 == first_bad and not finite[1, first_bad - 1 :].any()
    others = np.array([0, 2, 3])
    assert_same_bits(*(jax.tree.map(lambda x: x[others], played) for played in (healthy, infected)))
    np.testing.assert_array_equal(finite[others], 1)


@pytest.mark.parametrize("parts", [(1, 1, 1, 1), (3, 1)])
def test_the_length_of_segments_changes_no_bit(reference, functions, arguments, parts):
    assert_same_bits(reference, play(functions(TWO_DEVICES), *arguments, parts))


def test_another_segment_size_changes_no_bit(reference, functions, arguments):
    assert_same_bits(reference, play(functions(TWO_DEVICES, segment=2), *arguments, (2, 2)))


def test_iterations_that_were_not_made_are_nan(functions, arguments):
    lanes = functions(TWO_DEVICES)
    _, metrics = lanes.run(arguments[0], lanes.init(*arguments), jnp.int32(2))
    finite = np.asarray(metrics["finite"])
    np.testing.assert_array_equal(finite[:, :2], 1)
    assert np.isnan(finite[:, 2:]).all()


def test_keys_depend_on_the_seed_alone():
    keys = jax.random.key_data(keys_of([3, 5, 3, 2**32 - 1]))
    np.testing.assert_array_equal(keys[0], keys[2])
    assert len({tuple(key.tolist()) for key in keys}) == 3
    np.testing.assert_array_equal(jax.random.key_data(keys_of([5]))[0], keys[1])


def test_cells_of_one_seed_begin_alike(reference):
    """Coefficients 0.1 and 1.0 play the same first rollout, and part after it."""
    _, metrics = reference
    for name in ("return", "coverage", "bonus_mean"):
        np.testing.assert_allclose(metrics[name][:2, 0], metrics[name][2:, 0], rtol=1e-6)
    assert np.abs(metrics["ppo/entropy"][:2, 1:] - metrics["ppo/entropy"][2:, 1:]).max() > 0


def test_padding_repeats_the_last_lane_up_to_a_multiple_of_the_devices():
    tree = {"value": np.arange(3.0), "key": keys_of([0, 1, 2])}
    longer = padded(tree, 2)
    np.testing.assert_array_equal(longer["value"], [0, 1, 2, 2])
    data = np.asarray(jax.random.key_data(longer["key"]))
    assert data.shape[0] == 4
    np.testing.assert_array_equal(data[3], data[2])
    assert padded(tree, 1)["value"].shape == padded(tree, 3)["value"].shape == (3,)


@pytest.mark.parametrize(
    ("lanes", "at_once", "expected"),
    [(1, None, (1, 1)), (2, None, (2, 1)), (7, None, (2, 1)), (7, 3, (2, 3)), (7, 99, (2, 4)), (1, 8, (1, 1))],
)
def test_the_default_packing_uses_every_device_and_never_more_lanes_than_there_are(lanes, at_once, expected):
    assert packing_for(lanes, at_once) == Packing(*expected, "cpu")


def test_values_are_stacked_in_single_precision():
    made = stacked([{"lr": 0.1, "coef": 1}, {"lr": 0.2, "coef": 2}])
    assert {name: (value.dtype, value.tolist()) for name, value in made.items()} == {
        "lr": (np.float32, np.float32([0.1, 0.2]).tolist()),
        "coef": (np.float32, [1.0, 2.0]),
    }


def test_the_bytes_of_a_lanes_state_are_counted_exactly(tiny_program, tiny_lanes, functions, arguments):
    states = functions(TWO_DEVICES).init(*arguments)
    held = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(on_host(states)))
    assert state_bytes(tiny_program, tiny_lanes[0].values) == held / 4


@pytest.mark.parametrize("at_once", [1, None], ids=["map", "vmap"])
def test_memory_is_predictable_from_two_lane_counts(tiny_program, tiny_lanes, at_once):
    """Bytes = fixed + per lane * lanes, fitted at 4 and 8 lanes and held against the compiler's count at 24."""

    def needed(count):
        lanes = lanes_of(tiny_program, Packing(2, at_once or count // 2, "cpu"), SEGMENT)
        values = stacked([tiny_lanes[0].values] * count)
        states = jax.eval_shape(lanes.init, values, keys_of(range(count)))
        return compiled_bytes(lanes.run.lower(values, states, jnp.int32(1)).compile())

    few, many, held_out = needed(4), needed(8), needed(24)
    predicted = few + (many - few) * (24 - 4) / (8 - 4)
    assert held_out > 1.3 * many  # lanes, not constants, are what takes the memory
    assert abs(predicted / held_out - 1) < 0.15


def test_the_memory_limit_is_a_share_of_this_machine():
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory_limit() <= 0.85 * machine / 2
