"""Leaves and lifts from which bonuses are built."""

import jax
import jax.numpy as jnp

from jaxrl.keys import key_of
from jaxrl.networks import over
from jaxrl.types import Array, Episodic, Features, IntrinsicReward, PyTree, Transition

OPENINGS_AT_ONCE = 4  # ours: of each environment; more of them take another turn


def stateless(bonus) -> IntrinsicReward:
    """A bonus computed from the batch alone, `bonus`: batch -> ``[T, N]`` float32. Learns and remembers nothing."""

    def init(key, example):
        return (), ()

    def label(state, memory, batch):
        return (), bonus(batch), ()

    def update(key, state, memory, batch, trace):
        return (), {}

    return IntrinsicReward(init, label, update)


def episodic(features: Features, rule: Episodic) -> IntrinsicReward:
    """Lift `rule`, written for one environment and one step, over ``[T, N]`` on top of `features`.

    Memory starts afresh where `first`, before the transition is scored, from the features of the opening observation;
    the bonus scores next_obs. All of next_obs is embedded in one batched call, of obs what opens an episode; only the
    rule's recursion is scanned. It may start anywhere in an episode: labelling T steps or twice T/2 gives the same
    bonuses.
    """

    def init(key, example):
        state = features.init(key, example)
        return state, jax.vmap(rule.init)(features.embed(state, example.obs))

    def label(state, memory, batch):
        opening, arrived = openings(features, state, batch), over(features.embed, 2)(state, batch.next_obs)

        def one_env(memory, first, x0, x):
            fresh = rule.reset(memory, x0)
            # Fields that reset leaves alone are the same array in both branches, so a large buffer is never copied.
            memory = jax.tree.map(lambda new, old: old if new is old else jnp.where(first, new, old), fresh, memory)
            return rule.step(memory, x)

        def step(memory, inputs):
            return jax.vmap(one_env)(memory, *inputs)

        memory, bonus = jax.lax.scan(step, memory, (batch.first, opening, arrived))
        return memory, bonus, ()

    def update(key, state, memory, batch, trace):
        return features.update(key, state, batch)

    return IntrinsicReward(init, label, update)


def openings(features: Features, state: PyTree, batch: Transition) -> Array:
    """Features ``[T, N, ...]`` of the observation that opened the episode of each step, where the batch has it.

    Steps of an episode that was running when the batch began get numbers of no meaning. Few observations open an
    episode, and only those are embedded: about half the work of embedding obs and next_obs.
    """
    steps, envs = batch.first.shape
    number = batch.first.cumsum(0)  # [T, N]  openings so far

    def embed_some(carry):
        done, found = carry
        wanted = done + jnp.arange(OPENINGS_AT_ONCE)[:, None]
        when = (number[:, None] <= wanted).sum(0)  # [OPENINGS_AT_ONCE, N]; any step where there are not so many
        obs = batch.obs[when, jnp.arange(envs)]
        found = jax.lax.dynamic_update_slice_in_dim(found, over(features.embed, 2)(state, obs), done, 0)
        return done + OPENINGS_AT_ONCE, found

    one = jax.eval_shape(features.embed, state, batch.obs[0])
    # As many more rows as one turn can write beyond the last opening.
    found = jnp.zeros((steps + OPENINGS_AT_ONCE, *one.shape), one.dtype)
    _, found = jax.lax.while_loop(lambda carry: carry[0] < number[-1].max(), embed_some, (jnp.int32(0), found))
    return found[number - 1, jnp.arange(envs)]


def require_memoryless(reward: IntrinsicReward, example) -> IntrinsicReward:
    """`reward` itself if its bonus depends on no environment's past, so that replayed transitions may be relabelled.

    Raises:
        ValueError: its memory is not empty for `example`, a Transition ``[N, ...]``.
    """
    memory = jax.eval_shape(reward.init, key_of(0), example)[1]
    held = jax.tree_util.tree_leaves_with_path(memory)
    if held:
        what = ", ".join(f"{jax.tree_util.keystr(path) or 'memory'} {leaf.shape}" for path, leaf in held[:3])
        raise ValueError(
            f"this bonus keeps a memory of each environment's past ({what}), so replayed transitions cannot be "
            "relabelled with it; use a bonus without memory, or label transitions when they are collected"
        )
    return reward
