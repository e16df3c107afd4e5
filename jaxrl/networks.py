"""Networks in flax.linen, seen by the rest only through `init` and `apply`: params are plain dicts of arrays.

A network takes one batch axis, ``[B, *O] -> [B, out]``; `over` applies it to ``[T, N, *O]``. Inside, features come
first and the batch last, ``kernel @ x``: every product, its gradients and the sums over the batch then run along
contiguous memory, which XLA's CPU backend rewards (`make bench`).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.errors import UserError, unknown
from jaxrl.types import Array, Key


def orthogonal(scale: float = 1.0):
    """Haar-random (semi-)orthogonal initialiser without QR: safe under vmap, on every backend.

    The polar factor of a Gaussian matrix is Haar distributed, as the sign-corrected Q of its QR is; the Newton-Schulz
    iteration X <- (3 X - X X^T X) / 2 (Higham 2008, section 8.3) reaches it by matrix products alone. A batched QR
    blocks XLA's CPU thread pool for ever on two cores.

    Singular values start in (0, 1] and the small ones grow by 3/2 a round, so 48 rounds lift 1e-8 to one.
    """

    def init(key: Key, shape: Sequence[int], dtype=jnp.float32) -> Array:
        columns = shape[-1]
        rows = math.prod(shape[:-1])
        x = jax.random.normal(key, (max(rows, columns), min(rows, columns)), jnp.float32)
        x = x / jnp.linalg.norm(x)
        product = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        x = jax.lax.fori_loop(0, 48, lambda _, x: 1.5 * x - 0.5 * product(x, product(x.T, x)), x)
        x = x if rows >= columns else x.T
        return (scale * x).reshape(shape).astype(dtype)

    return init


class Dense(nn.Module):
    """``[in, B] -> [out, B]``: kernel ``[out, in]``, bias ``[out]``."""

    out: int
    scale: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", orthogonal(self.scale), (self.out, x.shape[0]))
        return kernel @ x + self.param("bias", nn.initializers.zeros_init(), (self.out,))[:, None]


class MLP(nn.Module):
    """``[B, *O] -> [B, out]``: observation flattened to float32, hidden layers, linear output."""

    hidden: tuple[int, ...]
    out: int
    out_scale: float = 1.0
    activation: str = "tanh"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1).astype(jnp.float32).T
        for width in self.hidden:
            x = ACTIVATIONS[self.activation](Dense(width, 2**0.5)(x))
        # Without the barrier XLA carries the transposed layout back into the products, at twice the time.
        return jax.lax.optimization_barrier(Dense(self.out, self.out_scale)(x)).T


class Conv(nn.Module):
    """``[B, H, W, C] -> [B, out]``: three convolutions, then the hidden layers, linear output.

    From 36 pixels a side on, the 8-4-3 kernels with strides 4-2-1 of Mnih et al. 2015; below (MinAtar, grids) 3x3
    kernels with stride 1 (ours). uint8 pixels are divided by 255.
    """

    hidden: tuple[int, ...]
    out: int
    out_scale: float = 1.0
    activation: str = "relu"
    channels: tuple[int, ...] = (32, 64, 64)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if x.ndim != 4:
            raise UserError(f"torso 'conv' needs observations [H, W, C], not shape {x.shape[1:]}: use torso 'mlp'")
        large = min(x.shape[1:3]) >= 36
        x = x.astype(jnp.float32) / (255.0 if x.dtype == jnp.uint8 else 1.0)
        for width, kernel, stride in zip(self.channels, (8, 4, 3), (4, 2, 1), strict=True):
            kernel, stride, padding = (kernel, stride, "VALID") if large else (3, 1, "SAME")
            x = nn.Conv(
                width, (kernel, kernel), (stride, stride), padding=padding, kernel_init=orthogonal(2**0.5)
            )(x)
            x = ACTIVATIONS[self.activation](x)
        return MLP(self.hidden, self.out, self.out_scale, self.activation)(x)


ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu, "elu": nn.elu}
TORSOS = {"mlp": MLP, "conv": Conv}


class Network(NamedTuple):
    init: Callable  # (key, x[B, *O])     -> params
    apply: Callable  # (params, x[B, *O])  -> [B, out]


def network(torso: str, hidden: tuple[int, ...], out: int, out_scale: float = 1.0, activation="tanh") -> Network:
    """The network for a torso: "mlp" flattens the observation, "conv" wants ``[H, W, C]``; UserError for any other."""
    if torso not in TORSOS:
        raise unknown("torso", torso, TORSOS)
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    module = TORSOS[torso](tuple(hidden), out, out_scale, activation)
    return Network(module.init, module.apply)


def over(function: Callable, axes: int) -> Callable:
    """`function(shared, batch)`, made for one leading axis, for `axes` leading axes of every array of `batch`."""

    def merged(shared, batch):
        lead = jax.tree.leaves(batch)[0].shape[:axes]
        batch = jax.tree.map(lambda x: x.reshape(math.prod(lead), *x.shape[axes:]), batch)
        return jax.tree.map(lambda y: y.reshape(*lead, *y.shape[1:]), function(shared, batch))

    return merged
