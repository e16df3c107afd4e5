"""The records everything in jaxrl is made of: data, environments' spaces, agents, intrinsic rewards, trainers.

Shape letters, one meaning each, everywhere:

    R  lanes, (hyperparameters, seed) pairs; only ever added by the sweep
    T  time    N  environments    S  reward streams    B  replayed batch    D  features
    *O observation    *A action

Batches are time-major, ``[T, N, ...]``. Two words carry the design:

**state**   what has been learned; one per lane, shared by all environments.
**memory**  what one environment's history left behind; leading axis N, reset where ``first``, before use.

A method is a factory that returns one of the records of functions below. Its positional parameters are numbers
that may be swept (they may be traced); everything that changes a shape or the control flow is keyword-only. A
factory is called inside the traced program, so it must be cheap and pure: no arrays, no randomness.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key, `jax.random.key`
PyTree = Any


class Transition(NamedTuple):
    """One step of N environments, or T of them stacked ``[T, N, ...]``."""

    obs: Array  # [..., *O]  o_t, in the dtype the environment gave
    action: Array  # [..., *A]  a_t
    reward: Array  # [...] float32  extrinsic r_{t+1}, never mixed with a bonus
    next_obs: Array  # [..., *O]  o_{t+1} as a_t produced it, before any auto-reset
    terminated: Array  # [...] bool  the MDP ended: do not bootstrap
    truncated: Array  # [...] bool  a limit cut the episode: bootstrap from next_obs
    first: Array  # [...] bool  obs opens an episode: reset memories before using obs
    extras: PyTree  # private to the agent that acted (log-probability, ...)


class Rollout(NamedTuple):
    """T steps of N environments and what the agent needs around them."""

    batch: Transition  # [T, N, ...]
    memory: PyTree  # [N, ...]  the agent's memory at t = 0
    last_obs: Array  # [N, *O]  what the agent sees next, after auto-reset
    last_first: Array  # [N] bool


class Streams(NamedTuple):
    """How S reward streams become one advantage; all fields are traced.

    Rewards handed to an agent are ``[T, N, S]`` and critics have S outputs. RND is S = 2, a summed bonus is S = 1.
    """

    coef: Array  # [S] float32  weight of each stream's advantage
    discount: Array  # [S] float32
    episodic: Array  # [S] bool  does the return stop where an episode ends?


class Discrete(NamedTuple):
    """Actions ``0 .. n-1``, int32 scalars."""

    n: int


class Box(NamedTuple):
    """Float32 actions of ``shape``, one axis; the bounds, both included, are of all coordinates or one for each."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    shape: tuple[int, ...]


class Agent(NamedTuple):
    init: Callable  # (key, example[N])                          -> (state, memory)
    act: Callable  # (key, state, memory, obs[N], first[N])      -> (memory, action[N], extras[N])
    update: Callable  # (key, state, rollout, rewards[T, N, S])  -> (state, metrics)
    observe: Callable = lambda memory, reward: memory  # (memory, reward[N]) -> memory; what an action earned


class IntrinsicReward(NamedTuple):
    """A bonus. ``label`` is a query: it reads state, advances memory, and cannot learn; ``update`` learns.

    ``trace`` is whatever ``label`` computed that ``update`` would otherwise compute again (raw bonuses for a
    normaliser, target features for a regression); the trainer carries it from one to the other and nobody else
    looks inside. Return ``()`` when there is nothing to reuse.
    """

    init: Callable  # (key, example[N])                              -> (state, memory)
    label: Callable  # (state, memory, batch[T, N])                  -> (memory, bonus[T, N], trace)
    update: Callable  # (key, state, memory, batch[T, N], trace)     -> (state, metrics); memory as before the batch


class Features(NamedTuple):
    """An embedding of observations, learned or not."""

    init: Callable  # (key, example[N])            -> state
    embed: Callable  # (state, obs[B, *O])         -> [B, D] float32, or whatever the rule on top takes
    update: Callable  # (key, state, batch[T, N])  -> (state, metrics)


class Episodic(NamedTuple):
    """A rule for ONE environment and ONE step, no batch axis; ``intrinsic.base.episodic`` lifts it to ``[T, N]``.

    The opening observation of an episode enters memory at ``init``/``reset``, unpaid, so coming back to it is not
    novel. ``reset`` should touch as little of a large memory as it can.
    """

    init: Callable  # (x0[D])            -> memory
    step: Callable  # (memory, x[D])     -> (memory, bonus)
    reset: Callable  # (memory, x0[D])   -> memory


class Trainer(NamedTuple):
    """``state.agent`` is what is stored at the end and played in evaluation: by `policy`, in `task`."""

    init: Callable  # (key)    -> state
    step: Callable  # (state)  -> (state, metrics)   scalars: already reduced over T and N
    policy: Callable = lambda agent: agent  # (Agent, greedy or not) -> the Agent that acts with `state.agent`
    task: Any = None  # a Task; None: the one that it was given
