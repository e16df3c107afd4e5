"""Gradient steps on random minibatches, dealt without sorting or gathering single rows (measured: `make bench`)."""

import math
from collections.abc import Callable
from typing import Any

import jax

from jaxrl.errors import UserError
from jaxrl.types import Array, Key, PyTree

SLICES_PER_MINIBATCH = 16  # ours: fewer slices would make minibatches of a few time steps


def passes(
    key: Key,
    step: Callable[[Any, PyTree], tuple[Any, PyTree]],
    carry: Any,
    data: PyTree,
    *,
    epochs: int,
    minibatches: int,
    proportion: float = 1.0,
) -> tuple[Any, PyTree]:
    """Scan `step(carry, minibatch) -> (carry, out)` over `epochs` passes through a batch ``[T, N, ...]``.

    Each pass deals the batch anew (see `shuffle`) into `minibatches` minibatches and shows a random `proportion` of
    the rows of each, rounded up to whole slices; `out` is stacked ``[epochs, minibatches, ...]``.
    """

    def one_pass(carry, key):
        order, deal = shuffle(key, data, minibatches)
        shown = order[:, : math.ceil(proportion * order.shape[1])]
        return jax.lax.scan(lambda carry, chosen: step(carry, deal(chosen)), carry, shown)

    return jax.lax.scan(one_pass, carry, jax.random.split(key, epochs))


def shuffle(key: Key, data: PyTree, minibatches: int) -> tuple[Array, Callable[[Array], PyTree]]:
    """Deal a batch ``[T, N, ...]`` into random minibatches.

    What is dealt are slices: all environments of one time step or, where T is short, a block of them.

    Returns:
        (order, deal): `deal(order[i])` is minibatch i, ``[T * N / minibatches, ...]``; together they hold every row
        exactly once. Scan over `order`, so that rows are copied once, when their minibatch is due.

    Raises:
        UserError: `minibatches` does not divide T * N.
    """
    num_steps, num_envs = jax.tree.leaves(data)[0].shape[:2]
    if (num_steps * num_envs) % minibatches:
        raise UserError(f"minibatches={minibatches} must divide num_steps * num_envs = {num_steps * num_envs}")
    wanted = SLICES_PER_MINIBATCH * minibatches
    fitting = [b for b in range(1, num_envs + 1) if num_envs % b == 0 and (num_steps * b) % minibatches == 0]
    blocks = next((b for b in fitting if num_steps * b >= wanted), fitting[-1])
    slices = jax.tree.map(lambda x: x.reshape(num_steps * blocks, num_envs // blocks, *x.shape[2:]), data)
    order = jax.random.permutation(key, num_steps * blocks).reshape(minibatches, -1)

    def deal(chosen: Array) -> PyTree:
        return jax.tree.map(lambda x: x[chosen].reshape(-1, *x.shape[2:]), slices)

    return order, deal
