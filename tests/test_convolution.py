"""The convolution and its gradient: against sums by hand and JAX's own, on each platform in the order that it wants."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.convolution import AXES, convolution
from jaxrl.networks import Conv, orthogonal

# (side, kernel, stride, padding): MinAtar's, the three of Mnih et al. 2015, a rest that no window reaches, and an
# uneven padding.
CASES = [
    (5, 3, 1, "SAME"), (12, 8, 4, "VALID"), (9, 4, 2, "VALID"), (7, 3, 1, "VALID"), (15, 8, 4, "VALID"),
    (8, 4, 2, "SAME"), (9, 3, 4, "SAME"), (6, 2, 1, "SAME"), (3, 1, 2, "VALID"),
]  # fmt: skip


def by_hand(x, kernel, stride, padding):
    """Window by window, in float64; the gradients of the sum of y * g come with it, as a function of g."""
    size, side = kernel.shape[0], x.shape[1]
    count = -(-side // stride) if padding == "SAME" else (side - size) // stride + 1
    missing = max(0, (count - 1) * stride + size - side) if padding == "SAME" else 0
    around = (missing // 2, missing - missing // 2)
    padded = np.pad(x.astype(np.float64), ((0, 0), around, around, (0, 0)))
    window = lambda i, j: np.s_[:, i * stride : i * stride + size, j * stride : j * stride + size]
    y = np.zeros((len(x), count, count, kernel.shape[-1]))
    for i, j in np.ndindex(count, count):
        y[:, i, j] = np.einsum("bhwc,hwco->bo", padded[window(i, j)], kernel)

    def gradients(g):
        dx, dk = np.zeros_like(padded), np.zeros(kernel.shape)
        for i, j in np.ndindex(count, count):
            dx[window(i, j)] += np.einsum("bo,hwco->bhwc", g[:, i, j], kernel)
            dk += np.einsum("bhwc,bo->hwco", padded[window(i, j)], g[:, i, j])
        return dx[:, around[0] : around[0] + side, around[0] : around[0] + side], dk

    return y, gradients


@pytest.mark.parametrize(("side", "size", "stride", "padding"), CASES)
def test_values_and_gradients_are_the_sums_over_windows(side, size, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, side, side, 3)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 3, 4)).astype(np.float32)
    expected, gradients = by_hand(x, kernel, stride, padding)
    found, pull = jax.vjp(lambda x, kernel: convolution(x, kernel, stride, padding), x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    g = rng.normal(size=expected.shape).astype(np.float32)
    for got, wanted in zip(pull(g), gradients(g), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_images_that_are_no_squares():
    rng = np.random.default_rng(1)
    x, kernel = jnp.asarray(rng.normal(size=(2, 9, 6, 2)), jnp.float32), jnp.ones((3, 2, 2, 5))
    ours = lambda x, kernel: convolution(x, kernel, 2, "SAME")
    of_jax = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=AXES)
    gradients = lambda function: jax.grad(lambda x, kernel: (function(x, kernel) ** 2).sum(), (0, 1))(x, kernel)
    for got, wanted in zip(gradients(ours), gradients(of_jax), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_lanes_and_loops_change_no_gradient():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(3, 4, 6, 6, 2)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(3, 3, 3, 2, 5)), jnp.float32)
    gradient = jax.grad(lambda kernel, x: (convolution(x, kernel, 1, "SAME") ** 2).mean())
    alone = jnp.stack([gradient(kernel, rows) for kernel, rows in zip(kernels, x, strict=True)])
    looped = jax.jit(lambda kernels, x: jax.lax.map(lambda lane: gradient(*lane), (kernels, x)))(kernels, x)
    for together in (jax.jit(jax.vmap(gradient))(kernels, x), looped):
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [6, 36])
def test_the_torso_has_the_parameters_and_values_of_flaxs_own(side):
    class Reference(nn.Module):
        @nn.compact
        def __call__(self, x):
            for width, size, stride in zip((32, 64, 64), (8, 4, 3), (4, 2, 1), strict=True):
                size, stride, padding = (size, stride, "VALID") if side >= 36 else (3, 1, "SAME")
                init = orthogonal(2**0.5)
                x = nn.relu(nn.Conv(width, (size, size), (stride, stride), padding=padding, kernel_init=init)(x))
            return x

    x = jax.random.normal(jax.random.key(1), (2, side, side, 3))
    net = Conv((8,), 2)
    params, expected = (module.init(jax.random.key(0), x)["params"] for module in (net, Reference()))
    for name in expected:
        for part in ("kernel", "bias"):
            np.testing.assert_array_equal(params[name][part], expected[name][part])
    features = Reference().apply({"params": expected}, x).reshape(2, -1)
    rest = params["MLP_0"]
    hidden = nn.relu(features @ rest["Dense_0"]["kernel"].T + rest["Dense_0"]["bias"])
    wanted = hidden @ rest["Dense_1"]["kernel"].T + rest["Dense_1"]["bias"]
    np.testing.assert_allclose(net.apply({"params": params}, x), wanted, rtol=1e-4, atol=1e-5)


FAST = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"


@pytest.mark.parametrize(("platform", "orders"), [("cpu", 1), ("cuda", 3), ("tpu", 3)])
@pytest.mark.parametrize("side", [10, 84])
def test_a_gradient_in_a_loop_has_the_order_of_axes_that_its_platform_wants(side, platform, orders):
    """Eight convolutions: three layers forward, three gradients of kernels, two of inputs."""
    net = Conv((8,), 2)
    x = jax.ShapeDtypeStruct((4, side, side, 4), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    loss = lambda params, x: net.apply(params, x).sum()
    loop = lambda params, x: jax.lax.scan(lambda p, _: (jax.grad(loss)(p, x), None), params, None, length=2)[0]
    text = jax.export.export(jax.jit(loop), platforms=[platform])(params, x).mlir_module()
    found = re.findall(r"stablehlo.convolution\(.*?dim_numbers = (\[.*?\]x\[.*?\]->\[.*?\])", text)
    assert len(found) == 8 and FAST in found and len(set(found)) == orders


def test_an_optimised_gradient_in_a_loop_keeps_the_fast_order_on_a_cpu():
    """What XLA makes of it is what counts: no transposition is folded back into a convolution."""
    gradient = jax.grad(lambda kernel, x: (convolution(x, kernel, 1, "SAME") ** 2).mean(), (0, 1))

    def loop(kernel, x):
        step = lambda carry, _: (jax.tree.map(jnp.subtract, carry, gradient(*carry)), None)
        return jax.lax.scan(step, (kernel, x), None, length=2)[0]

    text = jax.jit(loop).lower(jnp.ones((3, 3, 4, 8)), jnp.ones((2, 10, 10, 4))).compile().as_text()
    orders = re.findall(r"convolution\(.*dim_labels=(\S+?)[,\s]", text)
    assert len(orders) >= 3 and set(orders) == {"b01f_01io->b01f"}
