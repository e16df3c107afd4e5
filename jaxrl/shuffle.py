"""Deal a batch into random minibatches without sorting or gathering row by row (measured: see `make bench`)."""

import jax

from jaxrl.types import Key, PyTree

SLICES_PER_MINIBATCH = 16  # ours: fewer slices would make minibatches of a few time steps


def shuffle(key: Key, data: PyTree, minibatches: int) -> PyTree:
    """Deal a batch ``[T, N, ...]`` into random minibatches ``[minibatches, T * N / minibatches, ...]``.

    What is dealt are slices: all environments of one time step or, where T is short, a block of them. Every row is
    dealt exactly once. Raises ValueError if `minibatches` does not divide T * N.
    """
    num_steps, num_envs = jax.tree.leaves(data)[0].shape[:2]
    if (num_steps * num_envs) % minibatches:
        raise ValueError(f"minibatches={minibatches} must divide num_steps * num_envs = {num_steps * num_envs}")
    wanted = SLICES_PER_MINIBATCH * minibatches
    fitting = [b for b in range(1, num_envs + 1) if num_envs % b == 0 and (num_steps * b) % minibatches == 0]
    blocks = next((b for b in fitting if num_steps * b >= wanted), fitting[-1])
    order = jax.random.permutation(key, num_steps * blocks)

    def deal(x):
        slices = x.reshape(num_steps * blocks, num_envs // blocks, *x.shape[2:])
        return slices[order].reshape(minibatches, -1, *x.shape[2:])

    return jax.tree.map(deal, data)
