"""A convolution whose gradient costs a CPU no more inside a loop than outside.

XLA's CPU backend has a fast convolution for images ``[B, H, W, C]`` and kernels ``[h, w, in, out]`` alone. Outside of
loops it brings every other order of axes into this one; inside of `scan`, `map` and `while_loop` it falls back to a
naive loop, 20 to 40 times as slow. JAX's gradient of a convolution has other orders. On a CPU the two convolutions that
make a gradient are therefore written in the fast order, at the same values; accelerators keep JAX's own, for which
their compilers have kernels. `make bench` measures it.

With images x, kernel k, stride s, output y, its gradient g, and p the padding before the first pixel:

    y[b, i, j, o] = sum_{u, v, c} x[b, s i + u - p, s j + v - p, c] k[u, v, c, o]
    dk[u, v, c, o] = sum_{b, i, j} x[b, s i + u - p, s j + v - p, c] g[b, i, j, o]     x as C images of B channels,
                                                                                       g as their dilated kernel
    dx[b, m, n, c] = sum_{u, v, o} g'[b, m - u + p, n - v + p, o] k[u, v, c, o]        g' with s - 1 zeros between
"""

from functools import partial

import jax
from jax import lax

from jaxrl.types import Array

AXES = ("NHWC", "HWIO", "NHWC")
_convolved = partial(lax.conv_general_dilated, dimension_numbers=AXES)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: Array, kernel: Array, stride: int, padding: str) -> Array:
    """``[B, H, W, C], [h, w, C, out] -> [B, H', W', out]``; `padding` is "SAME" or "VALID". Reverse mode alone."""
    return _convolved(x, kernel, (stride, stride), padding)


def _forward(x: Array, kernel: Array, stride: int, padding: str):
    return convolution(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: str, residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    cpu, default = partial(_fast_in_loops, stride, padding), partial(_of_jax, stride, padding)
    return lax.platform_dependent(*residuals, g, cpu=cpu, default=default)


convolution.defvjp(_forward, _backward)


def _of_jax(stride: int, padding: str, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    of_x = lambda x: _convolved(x, kernel, (stride, stride), padding)
    of_kernel = lambda kernel: _convolved(x, kernel, (stride, stride), padding)
    return *jax.linear_transpose(of_x, x)(g), *jax.linear_transpose(of_kernel, kernel)(g)


def _fast_in_loops(stride: int, padding: str, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    around_x, around_g = [], []
    for size, width, count, (before, _) in zip(x.shape[1:3], kernel.shape[:2], g.shape[1:3], pads, strict=True):
        last = (count - 1) * stride  # where the last window begins
        around_x.append((before, last + width - size - before))
        around_g.append((width - 1 - before, size - last - 1 + before))
    dx = _convolved(g, kernel[::-1, ::-1].swapaxes(2, 3), (1, 1), around_g, lhs_dilation=(stride, stride))
    images, kernels = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
    dk = _convolved(images, kernels, (1, 1), around_x, rhs_dilation=(stride, stride)).transpose(1, 2, 0, 3)
    return dx, dk
