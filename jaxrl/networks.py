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

from jaxrl.convolution import convolution
from jaxrl.errors import UserError, unknown
from jaxrl.types import Array, Key, PyTree


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


class Convolution(nn.Module):
    """``[B, H, W, C] -> [B, H', W', out]``: kernel ``[size, size, C, out]``, bias ``[out]``."""

    out: int
    size: int
    stride: int
    padding: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", orthogonal(2**0.5), (self.size, self.size, x.shape[-1], self.out))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.out,))
        return convolution(x, kernel, self.stride, self.padding) + bias


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
        layers = ((8, 4, "VALID"), (4, 2, "VALID"), (3, 1, "VALID")) if large else ((3, 1, "SAME"),) * 3
        for i, (width, layer) in enumerate(zip(self.channels, layers, strict=True)):
            x = ACTIVATIONS[self.activation](Convolution(width, *layer, name=f"Conv_{i}")(x))
        return MLP(self.hidden, self.out, self.out_scale, self.activation)(x)


CATEGORIES = 16  # ours: MiniGrid has 11 kinds of object, XLand-MiniGrid 13 and 12 colors


class Symbolic(nn.Module):
    """``[B, H, W, C]`` integers ``-> [B, out]``: each channel of each cell one-hot (ours), then an MLP.

    For grids of small categories, such as MiniGrid's (object, color, state): as numbers they would have an order.
    Values outside of 0 to 15 count as the nearest of these.
    """

    hidden: tuple[int, ...]
    out: int
    out_scale: float = 1.0
    activation: str = "tanh"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.integer):
            raise UserError(
                f"torso 'symbolic' needs observations [H, W, C] of integers, not {x.dtype}{list(x.shape[1:])} "
                "(normalize_obs makes floats): use torso 'mlp'"
            )
        # A sum of embedding rows is the same function, and took 1.2 to 2 times as long at 512 rows on a CPU.
        categories = jax.nn.one_hot(jnp.clip(x, 0, CATEGORIES - 1), CATEGORIES)
        return MLP(self.hidden, self.out, self.out_scale, self.activation)(categories)


BLOCK_ROWS = 512  # ours: rows of which a layer's activations stay in a core's own cache; used on CPUs alone

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu, "elu": nn.elu}
TORSOS = {"mlp": MLP, "conv": Conv, "symbolic": Symbolic}


class Network(NamedTuple):
    init: Callable  # (key, x[B, *O])     -> params
    apply: Callable  # (params, x[B, *O])  -> [B, out]


def network(torso: str, hidden: tuple[int, ...], out: int, out_scale: float = 1.0, activation="tanh") -> Network:
    """The network for a torso: "mlp" flattens the observation, "conv" wants ``[H, W, C]``, "symbolic" integers of that
    shape; UserError for any other.
    """
    if torso not in TORSOS:
        raise unknown("torso", torso, TORSOS)
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    module = TORSOS[torso](tuple(hidden), out, out_scale, activation)
    return Network(module.init, module.apply)


class Recurrent(NamedTuple):
    """A recurrent layer of W units; `hidden` is what it remembers of each of N sequences."""

    init: Callable  # (key, x[B, D])                                    -> params
    step: Callable  # (params, hidden[N, W], x[N, D])                   -> hidden[N, W]
    unroll: Callable  # (params, hidden[N, W], x[T, N, D], first[T, N]) -> hidden[T, N, W] after each x


def gru(width: int) -> Recurrent:
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), with cuDNN's reset gate, after the product.

        r, z = sigmoid(W x + U h + b)    n = tanh(W_n x + b_n + r * (U_n h + c_n))    h' = (1 - z) n + z h

    `unroll` forgets where `first`, before x is used. Unlike the networks above, batch first: a minibatch has few
    sequences, so that a step is bound by reading U, and this was 1.0 to 1.7 times as fast at 4 to 64 of them.
    """

    def init(key: Key, x: Array):
        keys = jax.random.split(key, (2, 3))
        gates = lambda keys, rows: jnp.concatenate([orthogonal()(key, (rows, width)) for key in keys], -1)
        return {
            "input": gates(keys[0], x.shape[-1]),  # [D, 3 W]
            "hidden": gates(keys[1], width),  # [W, 3 W]
            "bias": jnp.zeros(3 * width),
            "candidate_bias": jnp.zeros(width),
        }

    def advance(params, hidden: Array, given: Array) -> Array:
        """`given`: the input's share of the three gates ``[N, 3 W]``."""
        given_r, given_z, given_n = jnp.split(given, 3, -1)
        kept_r, kept_z, kept_n = jnp.split(hidden @ params["hidden"], 3, -1)
        reset, keep = nn.sigmoid(given_r + kept_r), nn.sigmoid(given_z + kept_z)
        candidate = jnp.tanh(given_n + reset * (kept_n + params["candidate_bias"]))
        return (1.0 - keep) * candidate + keep * hidden

    def step(params, hidden: Array, x: Array) -> Array:
        return advance(params, hidden, x @ params["input"] + params["bias"])

    def unroll(params, hidden: Array, x: Array, first: Array) -> Array:
        def advance_unless_first(hidden, inputs):
            given, first = inputs
            hidden = advance(params, jnp.where(first[:, None], 0.0, hidden), given)
            return hidden, hidden

        given = x @ params["input"] + params["bias"]  # of all steps at once: only the rest has to wait its turn
        return jax.lax.scan(advance_unless_first, hidden, (given, first))[1]

    return Recurrent(init, step, unroll)


def over(function: Callable, axes: int) -> Callable:
    """`function(shared, batch)`, made for one leading axis, for `axes` leading axes of every array of `batch`."""

    def merged(shared, batch):
        lead = jax.tree.leaves(batch)[0].shape[:axes]
        rows = math.prod(lead)
        batch = jax.tree.map(lambda x: x.reshape(rows, *x.shape[axes:]), batch)
        if blocks := _blocks(rows):
            out = jax.lax.map(lambda block: function(shared, block), _split(batch, blocks))
            return jax.tree.map(lambda y: y.reshape(*lead, *y.shape[2:]), out)
        return jax.tree.map(lambda y: y.reshape(*lead, *y.shape[1:]), function(shared, batch))

    return merged


def mean_gradient(loss: Callable, params: PyTree, minibatch: PyTree) -> tuple[PyTree, PyTree]:
    """(gradient, metrics) of `loss(params, minibatch) -> (scalar, metrics)`, both of which are means over rows.

    `minibatch` has one leading axis.
    """
    gradient = jax.grad(loss, has_aux=True)
    blocks = _blocks(len(jax.tree.leaves(minibatch)[0]))
    if not blocks:
        return gradient(params, minibatch)
    split = _split(minibatch, blocks)
    first = gradient(params, jax.tree.map(lambda x: x[0], split))
    add = lambda total, block: (jax.tree.map(jnp.add, total, gradient(params, block)), None)
    total, _ = jax.lax.scan(add, first, jax.tree.map(lambda x: x[1:], split))
    return jax.tree.map(lambda x: x / blocks, total)


def _blocks(rows: int) -> int:
    """How many blocks to cut a batch into; 0 for one piece.

    Two cores that stream whole layers through the cache they share wait for each other (measured: `make bench`); an
    accelerator wants all rows at once.
    """
    return rows // BLOCK_ROWS if jax.default_backend() == "cpu" and rows > BLOCK_ROWS and rows % BLOCK_ROWS == 0 else 0


def _split(batch: PyTree, blocks: int) -> PyTree:
    return jax.tree.map(lambda x: x.reshape(blocks, -1, *x.shape[1:]), batch)
