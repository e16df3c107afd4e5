"""Scripted walks over a grid and the exact counts of what they visit, in NumPy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrl.types import Discrete

ACTIONS = Discrete(4)  # up, right, down, left
MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
STICKY = 0.5  # chance to repeat the last action
NOISE = 0.3  # chance that a random action takes the place of the chosen one, where the grid is a picture


class Protocol(NamedTuple):
    """The size of the walk; everything else is a constant of this module."""

    side: int = 21  # cells of an edge
    limit: int = 150  # steps of an episode
    num_envs: int = 4
    num_steps: int = 32  # of a rollout
    rollouts: int = 312  # about 40,000 transitions
    picture_rollouts: int = 78
    torso: str = "mlp"  # of every network that looks at the picture

    @property
    def television(self) -> int:
        """The cell that shows noise: on the diagonal, a quarter of the way."""
        return (self.side // 4) * (self.side + 1)


FULL = Protocol()


class Walk(NamedTuple):
    """Where one seed went; every field ``[rollouts, T, N]``, or with seeds in front."""

    cell: Any  # int32  before the step
    action: Any  # int32  as chosen, before any noise
    next_cell: Any  # int32
    first: Any  # bool
    last: Any  # bool  the episode is cut after the step


def walks(seeds: Sequence[int], protocol: Protocol, rollouts: int, noise: float) -> Walk:
    """A walk for every seed, fields ``[seeds, rollouts, T, N]``; with probability `noise` a random action is taken."""
    steps = rollouts * protocol.num_steps
    shape = steps, protocol.num_envs
    rngs = [np.random.default_rng(seed) for seed in seeds]
    fresh, forced = (np.stack([rng.integers(ACTIONS.n, size=shape) for rng in rngs], 1) for _ in range(2))
    repeats, slips = (np.stack([rng.random(shape) < p for rng in rngs], 1) for p in (STICKY, noise))
    place = np.zeros((len(rngs), protocol.num_envs, 2), int)
    age = np.broadcast_to(np.arange(protocol.num_envs) * protocol.limit // protocol.num_envs, place.shape[:2])
    action, trail = fresh[0], []
    for t in range(steps):
        first = (age == 0) | (t == 0)
        place = np.where(first[..., None], 0, place)
        action = np.where(repeats[t] & ~first, action, fresh[t])
        after = np.clip(place + MOVES[np.where(slips[t], forced[t], action)], 0, protocol.side - 1)
        age = (age + 1) % protocol.limit
        trail.append((place @ (protocol.side, 1), action, after @ (protocol.side, 1), first, age == 0))
        place = after
    fields = (np.stack(field, 1) for field in zip(*trail, strict=True))  # [seeds, steps, N]
    packed = (x.reshape(len(rngs), rollouts, protocol.num_steps, -1) for x in fields)
    return Walk(*(x.astype(np.int32) if x.dtype != bool else x for x in packed))


def visits(walk: Walk) -> dict[str, np.ndarray]:
    """The exact n of every transition of one seed's walk, by the names of COUNTS, int ``[rollouts, T, N]``."""
    rollouts, _, num_envs = walk.cell.shape
    rollout = np.broadcast_to(np.arange(rollouts)[:, None, None], walk.cell.shape)
    arrivals = np.zeros((rollouts, walk.next_cell.max() + 1), int)
    np.add.at(arrivals, (rollout, walk.next_cell), 1)
    before = arrivals.cumsum(0) - arrivals
    episode = walk.first.reshape(-1, num_envs).cumsum(0).reshape(walk.cell.shape)
    place = (episode * num_envs + np.arange(num_envs)) * arrivals.shape[1] + walk.next_cell
    earlier = pd.Series(place.ravel()).groupby(place.ravel()).cumcount().to_numpy().reshape(place.shape)
    opening = 0  # the cell in which every episode starts
    n = {
        "lifelong": 1 + before[rollout, walk.next_cell],
        "episode": 1 + earlier + (walk.next_cell == opening),
        "batch": arrivals[rollout, walk.next_cell],
    }
    return {**n, "lifelong x episode": n["lifelong"] * n["episode"]}
