"""SelMo's phases and its library of snapshots, seen by an agent that counts; and what snapshots are good for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import Corridor

from jaxrl.envs import AutoReset
from jaxrl.envs.contract import task_of
from jaxrl.errors import UserError
from jaxrl.intrinsic.base import stateless
from jaxrl.sweep import sweep
from jaxrl.trainers.rollout import example_of
from jaxrl.trainers.selmo import selmo
from jaxrl.types import Agent, Discrete

N, T = 6, 4
FIRST, INTERVAL, K, ITERATIONS = 50, 10, 3, 28
LAST = INTERVAL * (K - 1)  # updates of the explorer
BONUS = stateless(lambda batch: -1.0 - batch.action.astype(jnp.float32))


class Echo(AutoReset):
    """Pays the action; episodes of three steps, which do not end where rollouts of four do."""

    actions, max_steps = Discrete(100), 3

    def reset_env(self, key, params):
        return jnp.zeros(2), 0

    def step_env(self, key, time, action, params):
        return jnp.full(2, time + 1.0), time + 1, action, False, time + 1 >= 3, {}


def counter():
    """Its state is `FIRST` and how often it has learned, its action that number; it keeps what it learned from."""

    def init(key, example):
        zeros = jnp.zeros((T, N))
        return {"count": jnp.int32(FIRST), "action": zeros, "rewards": zeros, "first": zeros > 0}, ()

    def act(key, state, memory, obs, first):
        return memory, jnp.full(first.shape, state["count"]), {"by": jnp.full(first.shape, state["count"])}

    def update(key, state, rollout, rewards):
        assert rewards.shape == (T, N, 1)
        batch = rollout.batch
        learned = {"action": batch.action * 1.0, "rewards": rewards[..., 0], "first": batch.first}
        return {"count": state["count"] + 1, **learned}, {"agent/count": state["count"].astype(jnp.float32)}

    return Agent(init, act, update)


def trainer_of(mixture=0.5, *, agent=None, **fields):
    fields = {"snapshots": K, "curious": LAST / ITERATIONS, "iterations": ITERATIONS, **fields}
    return selmo(
        mixture, task=task_of(Echo()), agent=agent or counter(), reward=BONUS,
        num_envs=N, num_steps=T, warmup=0, reward_discount=None, **fields,
    )  # fmt: skip


def iterate(trainer, iterations=ITERATIONS):
    """(state after each iteration, metrics of each)"""
    step = jax.jit(trainer.step)
    state, states, rows = jax.jit(trainer.init)(jax.random.key(0)), [], []
    for _ in range(iterations):
        state, row = step(state)
        states.append(jax.device_get(state.agent))
        rows.append(jax.device_get(row))
    assert step._cache_size() == 1
    return states, rows


@pytest.fixture(scope="module")
def run():
    return iterate(trainer_of())


def test_the_explorer_learns_from_the_bonus_alone_and_plays_alone(run):
    states, rows = run
    for i, (state, row) in enumerate(zip(states[: LAST - 1], rows, strict=False)):
        np.testing.assert_array_equal(state.learner["action"], FIRST + i)
        np.testing.assert_array_equal(state.learner["rewards"], -1.0 - (FIRST + i))
        assert row["selmo/exploring"] == 1 and row["agent/count"] == FIRST + i


def test_snapshots_are_kept_at_fixed_intervals_the_untrained_and_the_last_policy_among_them(run):
    states, _ = run
    for updates in (INTERVAL - 1, INTERVAL, 2 * INTERVAL - 1, 2 * INTERVAL, ITERATIONS):
        taken = [FIRST + k * INTERVAL * (k * INTERVAL <= updates) for k in range(K)]
        np.testing.assert_array_equal(states[updates - 1].snapshots["count"], taken)
    np.testing.assert_array_equal(states[-1].snapshots["rewards"][2], states[LAST - 2].learner["rewards"] - 1)


def test_the_learner_starts_from_the_untrained_policy_and_learns_from_the_extrinsic_reward_alone(run):
    states, rows = run
    np.testing.assert_array_equal(states[LAST - 1].learner["count"], FIRST)
    for i, (state, row) in enumerate(zip(states[LAST:], rows[LAST:], strict=True)):
        np.testing.assert_array_equal(state.learner["rewards"], state.learner["action"])
        assert row["selmo/exploring"] == 0 and row["agent/count"] == FIRST + i


def played(states, since):
    """Actions and first, ``[steps, N]``, of the iterations after `since` updates."""
    return (np.concatenate([state.learner[name] for state in states[since:]]) for name in ("action", "first"))


def test_snapshots_play_whole_episodes_of_the_task(run):
    states, _ = run
    actions, first = played(states, LAST)
    for n in range(N):
        for episode in np.split(np.arange(len(actions)), np.flatnonzero(first[:, n]))[1:]:
            who = set(actions[episode, n])
            by_learner = all(FIRST <= action < FIRST + ITERATIONS - LAST for action in who)
            assert by_learner or who <= {FIRST + INTERVAL} or who <= {FIRST + 2 * INTERVAL}, who


@pytest.mark.parametrize("mixture", [0.3, 1.0])
def test_the_mixture_is_the_share_of_episodes_that_a_snapshot_plays(mixture):
    """The untrained snapshot is drawn by nobody, the others equally often."""
    iterations, last = 40, 9
    states, _ = iterate(trainer_of(mixture, curious=0.25, snapshots=4, iterations=iterations), iterations)
    actions, first = played(states, last)
    library = states[-1].snapshots["count"][1:]
    learner = FIRST + np.repeat(np.arange(iterations - last), T)[:, None]
    opened = first & ~np.isin(learner, library)  # where the two can be told apart
    by_learner = (actions == learner)[opened]
    drawn = actions[opened & (actions != learner)]
    assert abs(by_learner.mean() - (1 - mixture)) <= (0.1 if mixture == 0.3 else 0.0)
    assert set(drawn) <= set(library)
    assert min((drawn == count).mean() for count in library) > 0.2


def test_without_restart_the_learner_goes_on_from_the_explorers_last_policy():
    states, _ = iterate(trainer_of(restart=False, mixture=0.0))
    np.testing.assert_array_equal([state.learner["count"] for state in states], FIRST + 1 + np.arange(ITERATIONS))
    np.testing.assert_array_equal(states[-1].learner["rewards"], FIRST + ITERATIONS - 1)


def test_all_curious_explores_to_the_end():
    states, rows = iterate(trainer_of(curious=1.0, mixture=1.0))
    assert all(row["selmo/exploring"] == 1 for row in rows)
    np.testing.assert_array_equal(states[-1].learner["count"], FIRST + ITERATIONS)
    np.testing.assert_array_equal(states[-1].snapshots["count"], [FIRST, FIRST + 14, FIRST + 28])


def test_evaluation_plays_the_learner(run):
    states, _ = run
    policy = trainer_of(1.0).policy(counter())
    state, player = policy.init(jax.random.key(0), example_of(task_of(Echo()), N))
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, states[-1])
    after, action, _ = policy.act(jax.random.key(1), states[-1], player + 2, jnp.zeros((N, 2)), jnp.ones(N, bool))
    np.testing.assert_array_equal(action, FIRST + ITERATIONS - LAST)
    np.testing.assert_array_equal(after, 2)


def with_memory():
    return counter()._replace(init=lambda key, example: ((), example.reward))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"snapshots": 1}, "selmo.snapshots = 1: must be at least 2"),
        ({"snapshots": 22}, "selmo.snapshots = 22: must be at most 21, because only 20 of the run's 28 iterations"),
        ({"agent": with_memory()}, "its agent must keep no memory"),
    ],
)
def test_a_mistake_is_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        trainer_of(**fields).init(jax.random.key(0))


EXPLORING = 407  # iterations of 440; the other 33 learn the task


@pytest.mark.slow
def test_curiosity_loses_what_it_could_do_and_snapshots_learn_what_ppo_does_not(tmp_path):
    """A corridor whose end pays: explored for 407 iterations without that reward, learned in the 33 that are left.

    PPO from scratch has six times as many steps for the task. Chosen on seeds 100 to 103; solved is the greedy policy's
    return at the end. Not shown, and so not asserted: that snapshots beat going on from the explorer's last policy
    (`mixture=0, restart=False`). On the seeds below that solved 6 where snapshots solved 7: the explorer reaches the
    end in 1 % of its last episodes, where it was up to 10 %, and that is enough to begin with.
    """
    common = {"env": Corridor, "seeds": "0:8", "num_steps": 64, "lr": 1e-3, "evals": 1}
    explorer = {"trainer": "selmo", "bonus": "forward_error(width=64, lr=1e-3)", "steps": 440 * 1024}
    skills = {"selmo.snapshots": 12, "selmo.curious": 0.93, "selmo.mixture": 0.5}
    library = sweep(tmp_path / "library", **common, **explorer, **skills)
    scratch = sweep(tmp_path / "scratch", **common, steps=200 * 1024)
    assert library["solved"].isel(iteration=-1).sum() >= 6 and scratch["solved"].isel(iteration=-1).sum() == 0

    reached = np.asarray(library["return"])[:, :EXPLORING].reshape(8, 11, -1)  # between two snapshots each
    reached = np.nanmean(reached, -1)
    assert (reached.max(1) > 0.05).sum() >= 7 and (reached[:, -1] < reached.max(1) / 3).sum() >= 7, reached
