# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Anatomy of a bonus: write one, test its contract, calibrate it
#
# A bonus is three pure functions. `init` makes its *state*, what was learned, shared by all environments, and its
# *memory*, what one environment's history left behind. `label` pays: it reads the state, advances the memory, and
# cannot learn. `update` learns from what was labelled. So every transition is judged before it is learned from.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pandas as pd

from jaxrl import calibrate, envs
from jaxrl.agents.random import random
from jaxrl.intrinsic.combine import product
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.trainers.rollout import collect, example_of, start
from jaxrl.types import IntrinsicReward

matplotlib.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## Write one
#
# Exact counts say nothing where no state is ever met twice. A pseudo-count asks a density model instead (Bellemare et
# al. 2016, arXiv:1606.01868): if $\rho$ is the probability of an observation and $\rho'$ what it would be after the
# observation was seen once more, then
#
# $$\hat n = \frac{\rho\,(1 - \rho')}{\rho' - \rho}.$$
#
# The density here is the simplest for features that are on or off: a product of coins, one per feature. A feature that
# was on $m$ times in $t$ is on again with probability $(m + p) / (t + 2p)$.
#
# Parameters by position are numbers, and may be swept in one program; keyword-only ones would be code.


# %%
def pseudo_count(prior=0.5) -> IntrinsicReward:
    """1 / sqrt(pseudo-count + 1) of next_obs, whose features are on (above 0) or off; `prior` is p."""

    def init(key, example):  # example: one Transition [N, ...] of zeros
        ones = jnp.zeros(example.obs[0].size)
        return (ones, jnp.float32(0)), ()  # state: how often each feature was on, in how many observations; no memory

    def label(state, memory, batch):  # batch: Transition [T, N, ...]
        ones, total = state
        on = (batch.next_obs > 0).reshape(*batch.reward.shape, -1)
        seen = jnp.where(on, ones, total - ones)  # how often each feature was as it is here
        log_rho = jnp.log((seen + prior) / (total + 2 * prior)).sum(-1)
        log_again = jnp.log((seen + 1 + prior) / (total + 1 + 2 * prior)).sum(-1)
        pseudo = (1 - jnp.exp(log_again)) / jnp.expm1(log_again - log_rho)
        return memory, 1 / jnp.sqrt(pseudo + 1), on  # the last: whatever update would compute again

    def update(key, state, memory, batch, on):  # after labelling, always
        ones, total = state
        total = total + batch.reward.size
        return (ones + on.sum((0, 1)), total), {"pseudo_count/observations": total}

    return IntrinsicReward(init, label, update)


# %% [markdown]
# It keeps no memory. A rule that does is easiest written for one environment and one step, and lifted with
# `intrinsic.base.episodic`; here we take one that exists: `episodic_count(first_visit=True)` pays 1 for a state that is
# new in the episode and 0 for others. Their product pays for what is new in life, once an episode.


# %%
def once_an_episode():
    return product(pseudo_count(), episodic_count(first_visit=True, buckets=1024))


# %% [markdown]
# ## Test its contract
#
# What a bonus promises can be tested without an agent that learns. We need transitions: three environments, random
# actions. DeepSea-5 ends every five steps, so a rollout of 22 steps holds the end of many episodes.

# %%
N, T = 3, 22  # steps: half of them ends inside of an episode
task = envs.make("DeepSea-bsuite", size=5)


def rollout(key, steps):
    """A Transition [T, N, ...] of random play; it opens with an episode."""
    carry = start(key, task, N)
    *_, played, _ = collect(key, task, random(actions=task.actions), (), (), carry, steps)
    return played.batch


example = example_of(task, N)
histories = [jax.jit(rollout, static_argnums=1)(jax.random.key(i), T) for i in range(3)]
batch = histories[0]
print("steps at which environment 0 ends an episode:", np.flatnonzero(batch.terminated[:, 0] | batch.truncated[:, 0]))

# %% [markdown]
# Each check is a function of the bonus, `label` applied to what two rollouts have taught it, and says whether a promise
# is kept.


# %%
def taught(reward):
    """(state, memory) after two rollouts."""
    state, memory = reward.init(jax.random.key(0), example)
    for i, history in enumerate(histories[1:]):
        after, _, trace = reward.label(state, memory, history)
        state, _ = reward.update(jax.random.key(i), state, memory, history, trace)
        memory = after
    return state, memory


def same(a, b):
    return all(np.allclose(x, y, rtol=1e-4, atol=1e-6) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def label_learns_nothing(reward, state, memory):
    return same(reward.label(state, memory, batch), reward.label(state, memory, batch))


def what_is_carried_keeps_its_shapes(reward, state, memory):
    after, bonus, trace = reward.label(state, memory, batch)
    learned, _ = reward.update(jax.random.key(0), state, memory, batch, trace)
    kinds = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
    return kinds((learned, after)) == kinds((state, memory)) and bonus.shape == (T, N)


def permuting_environments_permutes_the_bonus(reward, state, memory):
    order = np.array([2, 0, 1])
    there = jax.tree.map(lambda x: x[order], memory), jax.tree.map(lambda x: x[:, order], batch)
    return same(reward.label(state, *there)[1], reward.label(state, memory, batch)[1][:, order])


def two_halves_are_the_whole(reward, state, memory):
    halves = [jax.tree.map(lambda x, half=half: x[half], batch) for half in (slice(T // 2), slice(T // 2, None))]
    memory_between, early, _ = reward.label(state, memory, halves[0])
    late = reward.label(state, memory_between, halves[1])[1]
    return same(jnp.concatenate([early, late]), reward.label(state, memory, batch)[1])


def a_reset_forgets(reward, state, memory):
    elsewhere = [reward.label(state, memory, history)[0] for history in histories[1:]]
    return same(*(reward.label(state, past, batch)[1] for past in elsewhere))  # the batch opens with an episode


def an_end_is_paid_for_what_the_action_reached(reward, state, memory):
    end = tuple(np.argwhere(np.asarray(batch.terminated | batch.truncated))[0])
    paid = lambda batch: reward.label(state, memory, batch)[1][end]
    fresh = batch.obs.at[end[0] + 1, end[1]].set(1)  # the observation that the next episode opens with
    reached = batch.next_obs.at[end].set(1)
    return same(paid(batch._replace(obs=fresh)), paid(batch)) and not same(
        paid(batch._replace(next_obs=reached)), paid(batch)
    )


def it_is_finite_and_pays_less_once_it_has_learned(reward, state, memory):
    fresh = reward.init(jax.random.key(0), example)
    before, after = (reward.label(*known, batch)[1] for known in (fresh, (state, memory)))
    return bool(jnp.isfinite(before).all() and jnp.isfinite(after).all() and after.mean() < before.mean())


checks = [label_learns_nothing, what_is_carried_keeps_its_shapes, permuting_environments_permutes_the_bonus,
          two_halves_are_the_whole, a_reset_forgets, an_end_is_paid_for_what_the_action_reached,
          it_is_finite_and_pays_less_once_it_has_learned]  # fmt: skip

# %% [markdown]
# A check that nothing fails shows nothing. So beside the two bonuses stands one with a classic mistake: it pays for the
# observation that comes next in the batch, which after the end of an episode is the one of the reset.


# %%
def paid_for_the_reset():
    right = pseudo_count()

    def label(state, memory, batch):
        following = jnp.concatenate([batch.obs[1:], batch.next_obs[-1:]])
        return right.label(state, memory, batch._replace(next_obs=following))

    return right._replace(label=label)


def verdicts(make):
    reward = IntrinsicReward(*map(jax.jit, make()))
    state, memory = taught(reward)
    return ["kept" if check(reward, state, memory) else "BROKEN" for check in checks]


rows = [check.__name__.replace("_", " ") for check in checks]
contract = pd.DataFrame({make.__name__: verdicts(make) for make in (pseudo_count, once_an_episode, paid_for_the_reset)})
contract.set_axis(rows)

# %% [markdown]
# Not every bonus keeps all of these: one that compares observations within a rollout cannot be cut in halves, and one
# that is scaled by a running return does not forget. `tests/test_contract.py` holds every bonus of jaxrl to them, with
# its exceptions declared.
#
# ## Calibrate it
#
# What does it pay for the n-th visit? `calibrate` lets bonuses see the same scripted walks over a grid, shown as a
# one-hot row and column and then as a picture, and compares what they pay with $1/\sqrt n$. The walk is a short one
# here; the one of `jaxrl calibrate` is long.

# %%
small = calibrate.Protocol(side=9, limit=60, rollouts=100, picture_rollouts=10)
own = {f"{__name__}:pseudo_count": pseudo_count}
done = [calibrate.calibrate(bonus, range(4), small, own) for bonus in ("count", "pseudo_count", "rnd(dim=16)")]
calibrate.table(done)[["bonus", "spearman", "spearman_low", "spearman_high", "slope", "noise_pay"]].round(2)

# %%
calibrate.figure(done)

# %%
score = {one.bonus: one.scores["spearman"].mean() for one in done}
print(
    f"Thirty lines make a bonus that keeps its contract and ranks states as exact counts do: a Spearman correlation of "
    f"{score['pseudo_count']:.2f}, where random network distillation has {score['rnd(dim=16)']:.2f}."
)
