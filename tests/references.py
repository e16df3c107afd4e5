"""Plain NumPy, float64, one environment and one step at a time: what tests compare the compiled code with."""

import jax
import numpy as np

ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0.0), "tanh": np.tanh}


def mlp(params, x, activation="relu"):
    """Dense layers in order, no activation after the last one. x: any leading axes, then the observation's one."""
    layers = params["params"]
    for i in range(len(layers)):
        layer = layers[f"Dense_{i}"]
        kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))  # [out, in], [out]
        x = np.asarray(x, np.float64) @ kernel.T + bias
        x = ACTIVATIONS[activation](x) if i < len(layers) - 1 else x
    return x


def layer_norm(x):
    """Zero mean and unit variance over features, no gain (Ba et al. 2016; epsilon of flax, 1e-6)."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def gru(params, hidden, x):
    """One step of a gated recurrent unit ``[W]``, gate by gate; the reset gate acts after the product."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    given = np.split(np.asarray(x, np.float64) @ params["input"] + params["bias"], 3)
    kept = np.split(hidden @ params["hidden"], 3)
    sigmoid = lambda z: 1.0 / (1.0 + np.exp(-z))
    reset, keep = sigmoid(given[0] + kept[0]), sigmoid(given[1] + kept[1])
    return (1.0 - keep) * np.tanh(given[2] + reset * (kept[2] + params["candidate_bias"])) + keep * hidden


def episodic(batches, score):
    """Bonuses ``[T, N]`` of consecutive batches, where score(past, x) pays the arrival at x.

    `past` lists what the environment saw in the episode so far, its opening observation first.
    """
    pasts, out = {}, []
    for batch in batches:
        bonus = np.zeros(batch.first.shape)
        for (t, n), first in np.ndenumerate(np.asarray(batch.first)):
            if first:
                pasts[n] = [np.asarray(batch.obs[t, n])]
            x = np.asarray(batch.next_obs[t, n])
            bonus[t, n] = score(pasts[n], x)
            pasts[n].append(x)
        out.append(bonus)
    return out


def elliptical(past, x, ridge, embed=lambda x: np.asarray(x, np.float64)):
    """x^T C^-1 x, C = ridge I + the outer products of `past`, by direct inversion."""
    x = embed(x)
    covariance = ridge * np.eye(len(x)) + sum(np.outer(embed(y), embed(y)) for y in past)
    return x @ np.linalg.inv(covariance) @ x


def descends(loss, before, after, lr, coordinates=80):
    """Whether `after` is Adam's first step from `before` down `loss`, params -> float in float64.

    That step moves each parameter by lr against its slope, which is measured here by central differences.
    """
    rng, leaves = np.random.default_rng(0), jax.tree.leaves(before)
    moved = jax.tree.leaves(jax.tree.map(lambda new, old: np.asarray(new, np.float64) - np.asarray(old), after, before))
    steps, slopes = [], []
    for leaf in rng.integers(len(leaves), size=coordinates):
        place = tuple(rng.integers(leaves[leaf].shape))

        def at(shift, leaf=leaf, place=place):
            shifted = [np.array(x, np.float64) for x in leaves]
            shifted[leaf][place] += shift
            return loss(jax.tree.unflatten(jax.tree.structure(before), shifted))

        slopes.append((at(1e-5) - at(-1e-5)) / 2e-5)
        steps.append(moved[leaf][place])
    slopes, steps = np.array(slopes), np.array(steps)
    steep = np.abs(slopes) > 1e-3
    assert steep.sum() > coordinates / 4
    return np.allclose(steps[steep], -lr * np.sign(slopes[steep]), rtol=0.05)


def roll(reward, batches, example, *, seed=0, learn=True):
    """Label each batch in turn and learn from it: bonuses, the state before each batch and at the end, metrics."""
    k_init, *keys = jax.random.split(jax.random.key(seed), 1 + len(batches))
    state, memory = jax.jit(reward.init)(k_init, example)

    @jax.jit
    def step(key, state, memory, batch):
        after, bonus, trace = reward.label(state, memory, batch)
        learned, metrics = reward.update(key, state, memory, batch, trace) if learn else (state, {})
        return learned, after, bonus, metrics

    bonuses, states, measured = [], [state], []
    for key, batch in zip(keys, batches, strict=True):
        state, memory, bonus, metrics = step(key, state, memory, batch)
        bonuses.append(np.asarray(bonus))
        states.append(state)
        measured.append(metrics)
    return bonuses, states, measured
