"""What forward models are given, and what section 2.4 of RND makes of observations and bonuses, in NumPy."""

import numpy as np
from batches import ACTIONS


def one_hot(action):
    return np.eye(ACTIONS.n)[np.asarray(action)]


def whitened(batches, clip):
    """[(obs, next_obs)] float64 of each batch by the moments of next_obs in the batches before it."""
    out, seen = [], []
    for batch in batches:
        mean, std = (np.mean(seen, (0, 1)), np.std(seen, (0, 1))) if seen else (0.0, 1.0)
        pair = [np.asarray(x, np.float64) for x in (batch.obs, batch.next_obs)]
        out.append([np.clip((x - mean) / std, -clip, clip) for x in pair])
        seen.extend(pair[1])
    return out


def scaled(raws, discount):
    """Each batch's bonuses ``[T, N]`` over the deviation of their running sum, this batch's included."""
    running, sums, out = np.zeros(raws[0].shape[1]), [], []
    for raw in raws:
        for row in raw:
            running = discount * running + row
            sums.append(running)
        out.append(raw / np.std(sums))
    return out
