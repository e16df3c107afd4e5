"""A gradient of the convolutional torso inside a loop, beside flax's own convolution alone, outside of one.

    python -m benchmarks.native_convolution       prints one JSON line, CPU seconds of one gradient
"""

import json
import time

import flax.linen as nn
import jax
import numpy as np

from jaxrl.networks import BLOCK_ROWS, Convolution, network

PAIRS = 5
GRADIENTS = 4  # in a loop
SIDES = {"minatar": (10, BLOCK_ROWS), "atari": (84, 32)}  # pixels a side, rows; 4 channels


class Native(nn.Module):
    """As `jaxrl.networks.Convolution`, in flax's own."""

    out: int
    size: int
    stride: int
    padding: str

    @nn.compact
    def __call__(self, x):
        return nn.Conv(self.out, (self.size, self.size), (self.stride, self.stride), self.padding, name="given")(x)


def loss(params, x, module):
    """Of the three convolutions alone, with `module` for a layer."""
    layers = ((8, 4, "VALID"), (4, 2, "VALID"), (3, 1, "VALID")) if x.shape[1] >= 36 else ((3, 1, "SAME"),) * 3
    for i, (width, layer) in enumerate(zip((32, 64, 64), layers, strict=True)):
        given = params[f"Conv_{i}"]
        x = nn.relu(module(width, *layer).apply({"params": given if module is Convolution else {"given": given}}, x))
    return (x**2).mean()


def seconds(compiled, *arguments) -> float:
    """CPU seconds of a call, all threads together: another process on the machine does not count."""
    clock = time.process_time()
    jax.block_until_ready(compiled(*arguments))
    return time.process_time() - clock


def measure(side: int, rows: int) -> dict:
    x = jax.random.normal(jax.random.key(0), (rows, side, side, 4))
    params = network("conv", (8,), 2).init(jax.random.key(1), x[:1])["params"]
    params = {name: layer for name, layer in params.items() if name.startswith("Conv_")}
    gradient = lambda params, x, module: jax.grad(loss)(params, x, module)

    def looped(params, x):
        step = lambda _, params: jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient(params, x, Convolution))
        return jax.lax.fori_loop(0, GRADIENTS, step, params)

    alone = jax.jit(lambda params, x: gradient(params, x, Native))
    inside = jax.jit(looped)
    for function in (alone, inside):
        jax.block_until_ready(function(params, x))
    pairs = np.array([(seconds(inside, params, x) / GRADIENTS, seconds(alone, params, x)) for _ in range(PAIRS)])
    inside_s, alone_s = np.median(pairs, 0)
    return {"inside": inside_s, "alone": alone_s, "ratio": float(np.median(pairs[:, 0] / pairs[:, 1]))}


if __name__ == "__main__":
    print(json.dumps({name: measure(*sizes) for name, sizes in SIDES.items()}))
