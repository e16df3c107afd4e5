"""Initialisers and torsos; above all that many of them can be made at once on two host devices."""

import os
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl.networks
from jaxrl.errors import UserError
from jaxrl.networks import (
    ACTIVATIONS,
    BLOCK_ROWS,
    CATEGORIES,
    MLP,
    Conv,
    Symbolic,
    gru,
    mean_gradient,
    network,
    orthogonal,
    over,
)

TOGETHER = """
import threading
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec
from jaxrl.networks import MLP

net = MLP((64, 64), 4)
def init(keys):
    return jax.vmap(lambda key: net.init(key, jnp.zeros((1, 16))))(keys)

assert jax.local_device_count() == 2
mesh = jax.make_mesh((2,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))
keys = jax.random.split(jax.random.key(0), 16)
lanes = PartitionSpec("lanes")
sharded = jax.jit(jax.shard_map(init, mesh=mesh, in_specs=lanes, out_specs=lanes, check_vma=False))(keys)

made = {}
def work(device):
    made[device.id] = jax.block_until_ready(jax.jit(init)(jax.device_put(keys, device)))
threads = [threading.Thread(target=work, args=(device,)) for device in jax.local_devices()]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
for tree in (sharded, *made.values()):
    kernel = np.asarray(tree["params"]["Dense_1"]["kernel"])
    gram = np.einsum("rij,rik->rjk", kernel, kernel)
    assert np.abs(gram - 2 * np.eye(64)).max() < 1e-3, "not orthogonal"
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1, "every lane drew the same"
print("done", len(made))
"""


def test_sixteen_initialisations_on_two_host_devices_at_once_do_not_hang():
    """With a QR inside (flax's own orthogonal) this waits for ever on two cores: XLA's batched QR blocks its pool."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run([sys.executable, "-c", TOGETHER], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", "2"]


def test_no_factorisation_hides_in_an_initialiser():
    """The reason why the test above passes, whatever the number of cores: no LAPACK call, so nothing to wait for."""
    net, x = network("conv", (8,), 2), jnp.zeros((1, 5, 5, 1))
    text = str(jax.make_jaxpr(lambda key: net.init(key, x))(jax.random.key(0)))
    assert "dot_general" in text
    assert not re.findall(r"\b(?:geqrf|qr|householder_product|svd|eigh|lu|cholesky)\b", text)


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32), (1, 5), (5, 1), (3, 3, 8, 16), (1, 1, 4, 64)])
def test_orthogonal_makes_the_shorter_side_orthonormal_times_the_scale(shape):
    matrix = np.asarray(orthogonal(1.5)(jax.random.key(3), shape)).reshape(-1, shape[-1]).astype(np.float64)
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, 1.5**2 * np.eye(matrix.shape[1]), atol=1e-4)


def test_orthogonal_keeps_the_dtype_asked_for():
    assert orthogonal()(jax.random.key(0), (4, 4), jnp.bfloat16).dtype == jnp.bfloat16


def test_orthogonal_is_haar():
    """Moments of the Haar measure on O(n): E Q = 0, E Q_ij^2 = 1/n, E tr(Q)^2 = 1, E det = 0, signs symmetric."""
    n, draws = 4, 4000
    q = np.asarray(jax.vmap(lambda key: orthogonal()(key, (n, n)))(jax.random.split(jax.random.key(5), draws)))
    noise = 5 / np.sqrt(draws)
    np.testing.assert_allclose(q.mean(0), 0, atol=noise / np.sqrt(n))
    np.testing.assert_allclose((q**2).mean(0), 1 / n, atol=noise / n)
    np.testing.assert_allclose((np.trace(q, axis1=1, axis2=2) ** 2).mean(), 1, atol=noise * np.sqrt(2))
    np.testing.assert_allclose(np.linalg.det(q).mean(), 0, atol=noise)
    np.testing.assert_allclose((q[:, 0, 0] > 0).mean(), 0.5, atol=noise / 2)
    mixed = (q[:, 0, 0] * q[:, 1, 1] * q[:, 0, 1] * q[:, 1, 0]).mean()  # entries are not independent
    np.testing.assert_allclose(mixed, -1 / (n * (n + 2) * (n - 1)), atol=noise / n**2)


def test_mlp_is_dense_layers_with_an_activation_between():
    net = MLP((6, 5), 3, activation="relu")
    x = np.random.default_rng(0).normal(size=(7, 2, 4)).astype(np.float32)
    params = net.init(jax.random.key(0), x[:1])
    layers = [params["params"][f"Dense_{i}"] for i in range(3)]
    assert [layer["kernel"].shape for layer in layers] == [(6, 8), (5, 6), (3, 5)]
    h = x.reshape(7, -1)
    for layer in layers[:2]:
        h = np.maximum(h @ layer["kernel"].T + layer["bias"], 0)
    expected = h @ layers[2]["kernel"].T + layers[2]["bias"]
    found = net.apply(params, x)
    assert found.shape == (7, 3) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("activation", "function"), [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0)),
                                                      ("elu", lambda x: np.where(x > 0, x, np.expm1(x)))])  # fmt: skip
def test_activations_are_what_their_names_say(activation, function):
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(ACTIVATIONS[activation](jnp.array(x)), function(x), atol=1e-6)


def test_the_output_scale_sets_the_size_of_the_output_layer_alone():
    params = MLP((8,), 4, out_scale=0.01).init(jax.random.key(0), jnp.zeros((1, 3)))["params"]
    singular = lambda name: np.linalg.svd(np.asarray(params[name]["kernel"]), compute_uv=False)
    np.testing.assert_allclose(singular("Dense_1"), 0.01, rtol=1e-3)
    np.testing.assert_allclose(singular("Dense_0"), np.sqrt(2), rtol=1e-3)
    assert all(not np.any(layer["bias"]) for layer in params.values())


@pytest.mark.parametrize(
    ("side", "kernels", "flat"),
    [
        (5, [(3, 3), (3, 3), (3, 3)], 5 * 5 * 64),  # stride 1, same padding
        (36, [(8, 8), (4, 4), (3, 3)], 64),  # 36 -> 8 -> 3 -> 1
        (84, [(8, 8), (4, 4), (3, 3)], 7 * 7 * 64),  # 84 -> 20 -> 9 -> 7, as in Mnih et al. 2015
    ],
)
def test_conv_shapes(side, kernels, flat):
    shapes = jax.eval_shape(Conv((16,), 3).init, jax.random.key(0), jnp.zeros((1, side, side, 2)))["params"]
    convolutions = [shapes[f"Conv_{i}"]["kernel"].shape for i in range(3)]
    assert [shape[:2] for shape in convolutions] == kernels
    assert [shape[2:] for shape in convolutions] == [(2, 32), (32, 64), (64, 64)]
    assert shapes["MLP_0"]["Dense_0"]["kernel"].shape == (16, flat)
    assert shapes["MLP_0"]["Dense_1"]["kernel"].shape == (3, 16)


def test_conv_divides_bytes_by_255_and_leaves_floats_alone():
    net = Conv((8,), 3, channels=(4, 4, 4))
    pixels = jax.random.randint(jax.random.key(1), (2, 6, 6, 1), 0, 256).astype(jnp.uint8)
    params = net.init(jax.random.key(0), pixels[:1])
    as_bytes, as_share = net.apply(params, pixels), net.apply(params, pixels.astype(jnp.float32) / 255)
    np.testing.assert_allclose(as_bytes, as_share, rtol=1e-5)
    assert np.abs(as_bytes - net.apply(params, pixels.astype(jnp.float32))).max() > 1e-2


def test_over_merges_the_leading_axes_of_every_array_splits_them_again_and_shares_the_parameters():
    net = MLP((4,), 2)
    x = jax.random.normal(jax.random.key(2), (3, 5, 6))
    params = net.init(jax.random.key(0), x[0, :1])
    found = over(net.apply, 2)(params, x)
    assert found.shape == (3, 5, 2)
    for t, n in np.ndindex(3, 5):
        np.testing.assert_allclose(found[t, n], net.apply(params, x[t, n][None])[0], rtol=1e-5, atol=1e-6)
    offset = jnp.arange(15.0).reshape(3, 5)
    shifted = over(lambda p, batch: {"sum": net.apply(p, batch[0]) + batch[1][:, None], "rows": batch[1]}, 2)
    both = shifted(params, (x, offset))
    np.testing.assert_array_equal(both["rows"], offset)
    np.testing.assert_allclose(both["sum"], found + offset[..., None], rtol=1e-5, atol=1e-6)


def test_symbolic_gives_each_category_of_each_channel_of_each_cell_a_weight_of_its_own():
    """By hand: a sum over cells and channels of the column of the value found there; others clip to 0 and 15."""
    net = Symbolic((7,), 3)
    grid = np.random.default_rng(0).integers(-3, 20, (5, 2, 3, 2)).astype(np.int32)
    params = net.init(jax.random.key(0), jnp.asarray(grid[:1]))
    layers = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"]["MLP_0"])
    assert layers["Dense_0"]["kernel"].shape == (7, 2 * 3 * 2 * CATEGORIES)
    columns = layers["Dense_0"]["kernel"].reshape(7, 2, 3, 2, CATEGORIES)
    for row, found in zip(grid, np.asarray(net.apply(params, jnp.asarray(grid))), strict=True):
        total = sum(columns[(slice(None), *cell, min(max(row[cell], 0), 15))] for cell in np.ndindex(row.shape))
        expected = layers["Dense_1"]["kernel"] @ np.tanh(total)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_symbolic_takes_lanes_and_bytes():
    net = network("symbolic", (8,), 3)
    grids = jax.random.randint(jax.random.key(1), (2, 4, 3, 3, 2), 0, 256).astype(jnp.uint8)
    params = jax.vmap(lambda key: net.init(key, grids[0, :1]))(jax.random.split(jax.random.key(0), 2))
    together = jax.jit(jax.vmap(net.apply))(params, grids)
    for i in range(2):
        alone = net.apply(jax.tree.map(lambda x, i=i: x[i], params), grids[i].astype(jnp.int32))
        np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-2


@pytest.mark.parametrize(
    ("x", "found"), [(jnp.zeros((1, 4, 4, 2)), r"float32\[4, 4, 2\]"), (jnp.zeros((1, 9), jnp.uint8), r"uint8\[9\]")]
)
def test_symbolic_refuses_what_holds_no_categories(x, found):
    with pytest.raises(UserError, match=f"torso 'symbolic' needs .* not {found}"):
        network("symbolic", (8,), 3).init(jax.random.key(0), x)


def of_flax(params):
    """The gates' parameters under the names of flax's GRUCell, the same cell in six products."""
    part = lambda x: np.split(np.asarray(x), 3, -1)
    tree = {}
    for gate, w, b, u in zip("rzn", part(params["input"]), part(params["bias"]), part(params["hidden"]), strict=True):
        tree[f"i{gate}"] = {"kernel": w, "bias": b}
        tree[f"h{gate}"] = {"kernel": u, **({"bias": params["candidate_bias"]} if gate == "n" else {})}
    return {"params": tree}


def test_gru_is_flaxs_and_unrolls_from_its_memory_with_resets():
    steps, rows, size, width = 6, 3, 4, 5
    rng = np.random.default_rng(0)
    core, cell = gru(width), nn.GRUCell(width)
    x = jnp.asarray(rng.normal(size=(steps, rows, size)), jnp.float32)
    start = jnp.asarray(rng.normal(size=(rows, width)), jnp.float32)
    first = jnp.asarray([[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    params = core.init(jax.random.key(0), x[0])
    params = jax.tree.map(lambda p: p + jnp.asarray(0.3 * rng.normal(size=p.shape), jnp.float32), params)
    found = core.unroll(params, start, x, first)
    hidden, other = start, of_flax(params)
    for t in range(steps):
        hidden = jnp.where(first[t][:, None], 0.0, hidden)
        stepped = core.step(params, hidden, x[t])
        hidden, _ = cell.apply(other, hidden, x[t])
        np.testing.assert_allclose(found[t], hidden, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(stepped, hidden, rtol=1e-4, atol=1e-5)


def test_gru_starts_with_each_gate_orthogonal_without_bias():
    params = gru(8).init(jax.random.key(0), jnp.zeros((1, 3)))
    for name in ("input", "hidden"):
        gates = np.split(np.asarray(params[name]), 3, -1)
        for gate in gates:
            np.testing.assert_allclose(np.linalg.svd(gate, compute_uv=False), 1, rtol=1e-3)
        assert np.abs(gates[0] - gates[1]).max() > 0.1 and np.abs(gates[1] - gates[2]).max() > 0.1
    assert not np.any(params["bias"]) and not np.any(params["candidate_bias"])


@pytest.mark.parametrize("rows", [BLOCK_ROWS // 2, BLOCK_ROWS, 3 * BLOCK_ROWS, 3 * BLOCK_ROWS + 8])
def test_blocks_of_rows_change_neither_outputs_nor_the_mean_gradient(rows, monkeypatch):
    """Batches of one piece, of three blocks, and of a size that no whole number of blocks fills."""
    net = network("mlp", (8,), 3)
    x = jax.random.normal(jax.random.key(0), (rows // 4, 4, 5))
    params = net.init(jax.random.key(1), x[:, 0])
    minibatch = x.reshape(rows, 5), jnp.linspace(-1.0, 1.0, rows)

    def loss(params, minibatch):
        rows, target = minibatch
        error = ((net.apply(params, rows).sum(-1) - target) ** 2).mean()
        return error, {"error": error}

    def both():
        return over(net.apply, 2)(params, x), mean_gradient(loss, params, minibatch)

    loops = lambda: "scan[" in str(jax.make_jaxpr(lambda: both())())  # a new function: no cached trace
    cut = both()
    assert loops() == (rows == 3 * BLOCK_ROWS)
    monkeypatch.setattr(jaxrl.networks.jax, "default_backend", lambda: "gpu")
    assert not loops()
    for got, expected in zip(jax.tree.leaves(cut), jax.tree.leaves(both()), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-5)
