"""The bandit against a NumPy one, its payoffs against lambda-returns by hand, who learns, and who is credited."""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import example, fake_batch, world
from references import mlp, roll
from worlds import LIMIT, Corridor

import jaxrl.errors
from jaxrl.errors import UserError
from jaxrl.intrinsic.airs import airs, choose, start
from jaxrl.intrinsic.expression import build, parse
from jaxrl.sweep import sweep
from jaxrl.types import IntrinsicReward

T, N = 8, 3
SMALL = {"hidden": (8,), "minibatches": 2}


def learner(size):
    """Pays `size` + how often it learned; its memory is how many steps its environment has taken."""

    def label(state, memory, batch):
        return memory + len(batch.reward), jnp.full(batch.reward.shape, size + state), ()

    def update(key, state, memory, batch, trace):
        return state + 1, {"age": memory.mean()}

    return IntrinsicReward(lambda key, example: (jnp.float32(0), jnp.zeros(example.reward.shape)), label, update)


def ucb(outcomes, arms, exploration, window):
    """The arms chosen for consecutive rollouts, and the one after the last; rollout u earns outcomes[u][arm before it].

    What a rollout earns is credited to the arm that paid for the rollout before: its policy learned from that one.
    """
    chosen, earned = [0], [[] for _ in range(arms)]
    for u, outcome in enumerate(outcomes):
        if u > 0:
            earned[chosen[u - 1]].append(float(outcome[chosen[u - 1]]))
        untried = [k for k in range(arms) if k not in chosen]
        recent = [payoffs[-window:] for payoffs in earned]
        together = [payoff for payoffs in recent for payoff in payoffs] or [0.0]
        spread = np.sqrt(np.var(together) + 1e-8)
        bounds = [
            (np.mean(payoffs) - np.mean(together)) / spread * bool(payoffs)
            + exploration * np.sqrt(np.log(len(chosen)) / max(chosen.count(k), 1))
            for k, payoffs in enumerate([payoffs or [np.mean(together)] for payoffs in recent])
        ]
        chosen.append(untried[0] if untried else int(np.argmax(bounds)))
    return chosen


def play(outcomes, exploration, window):
    """The arms that the compiled bandit chooses; `outcomes` as above."""
    arms = outcomes.shape[1]

    def step(bandit, outcome):
        after = choose(bandit, outcome[jnp.minimum(bandit.before, arms - 1)], exploration)
        return after, bandit.arm

    bandit, chosen = jax.lax.scan(step, start(arms, window), jnp.asarray(outcomes, jnp.float32))
    return [*np.asarray(chosen).tolist(), int(bandit.arm)]


@pytest.mark.parametrize(("exploration", "window"), [(0.0, 10), (1.0, 10), (1.0, 3), (0.3, 100)])
def test_arms_are_chosen_by_ucb_over_a_window_of_payoffs(exploration, window):
    outcomes = np.random.default_rng(0).normal([0.0, 0.3, 0.2], 0.5, size=(80, 3)).astype(np.float32)
    expected = ucb(outcomes, 3, exploration, window)
    assert expected[:3] == [0, 1, 2] and (exploration < 1.0 or len(set(expected[30:])) == 3)
    assert play(outcomes, exploration, window) == expected


def drifting(window, rounds=600):
    """Share of what the best arm pays: 4 arms, one best in the first half, another in the second."""
    means = np.repeat([[0.2, 1.0, 0.4, 0.0], [0.2, 0.0, 0.4, 1.0]], rounds // 2, 0)
    noise = 0.2 * np.random.default_rng(1).normal(size=means.shape)
    chosen = np.array(play(means + noise, 1.0, window)[:-1])
    paid = means[np.arange(rounds), chosen]
    return paid.mean(), paid[rounds // 2 :].mean()


def test_a_window_follows_what_is_best_now():
    windowed, after_the_change = drifting(10)
    assert windowed > 0.7 and after_the_change > 0.6
    assert drifting(600)[1] < after_the_change - 0.1  # a mean over everything does not let go of the past


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_units_of_the_reward_do_not_matter_and_no_reward_means_taking_turns(magnitude):
    outcomes = np.random.default_rng(0).normal([0.0, 0.3, 0.2], 0.5, size=(60, 3))
    assert play(magnitude * outcomes + 3 * magnitude, 1.0, 10) == play(outcomes, 1.0, 10)
    silent = play(0.0 * outcomes, 1.0, 10)
    assert [silent.count(arm) for arm in range(3)] == [21, 20, 20]


def lambda_returns(batch, critic, discount, gae_lambda):
    """[T, N] by the definition: G_t = r_t + discount * ((1 - lambda) V(next_obs) + lambda G_{t+1}) in an episode."""
    reward, value = np.asarray(batch.reward, np.float64), mlp(critic, batch.next_obs)[..., 0]
    out = np.zeros_like(reward)
    for n in range(N):
        for t in reversed(range(T)):
            ahead = value[t, n]
            if batch.terminated[t, n]:
                ahead = 0.0
            elif not batch.truncated[t, n] and t < T - 1:
                ahead = (1 - gae_lambda) * value[t, n] + gae_lambda * out[t + 1, n]
            out[t, n] = reward[t, n] + discount * ahead
    return out


def test_payoff_is_the_mean_lambda_return_of_the_tasks_reward_alone():
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(3)]
    assert all(batch.terminated.any() and batch.truncated.any() for batch in batches)
    reward = airs(learner(1e3), learner(1e6), discount=0.9, gae_lambda=0.8, lr=1e-2, **SMALL)
    _, states, metrics = roll(reward, batches, example(N))
    for batch, state, measured in zip(batches, states, metrics, strict=False):
        expected = lambda_returns(batch, state.critic, 0.9, 0.8)
        np.testing.assert_allclose(measured["airs/payoff"], expected.mean(), rtol=1e-3, atol=1e-5)
    assert (mlp(states[0].critic, batches[0].obs) == 0).all() and (mlp(states[1].critic, batches[0].obs) != 0).all()
    first_loss = (lambda_returns(batches[0], states[0].critic, 0.9, 0.8) ** 2).mean()
    np.testing.assert_allclose(metrics[0]["airs/critic_loss"], first_loss, rtol=0.2)  # one small step between halves


def test_each_payoff_is_credited_to_the_part_whose_bonus_the_policy_learned_from():
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(4)]
    _, states, metrics = roll(airs(learner(1.0), learner(2.0), window=3, **SMALL), batches, example(N))
    payoffs = [float(measured["airs/payoff"]) for measured in metrics]
    arms = [int(measured["airs/arm"]) for measured in metrics]
    assert arms[:2] == [0, 1] and len(set(payoffs)) == 4
    credited = [[], []]
    for arm, payoff in zip(arms, payoffs[1:], strict=False):  # the first rollout's is nobody's
        credited[arm].append(payoff)
    bandit = states[-1].bandit
    assert bandit.judged.tolist() == [len(c) for c in credited]
    for row, expected in zip(np.asarray(bandit.payoffs), credited, strict=True):
        np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-6)


@pytest.mark.parametrize("all_learn", [False, True])
def test_one_part_pays_and_only_that_one_learns_unless_all_do(all_learn):
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(6)]
    reward = airs(*(learner(1000.0 * k) for k in (1, 2, 3)), all_learn=all_learn, **SMALL)
    bonuses, states, metrics = roll(reward, batches, example(N))
    learned = np.zeros(3)
    for i, (bonus, measured) in enumerate(zip(bonuses, metrics, strict=True)):
        arm = int(measured["airs/arm"])
        np.testing.assert_allclose(bonus, 1000.0 * (arm + 1) + learned[arm])
        learned += 1 if all_learn else np.arange(3) == arm
        assert [float(part) for part in states[i + 1].parts] == learned.tolist()
        assert [float(measured[f"{k}/age"]) for k in range(3)] == [T * i] * 3  # every memory goes on
    assert states[-1].bandit.chosen.sum() == 7


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_the_part_after_which_the_task_pays_is_chosen_most(magnitude):
    """Whatever the scale of observations, which only the critic sees."""
    observations = world(scale=magnitude)
    batches = jax.tree.map(
        lambda *x: jnp.stack(x), *(fake_batch(jax.random.key(i), T, N, observations, opens=i == 0) for i in range(8))
    )
    reward = airs(learner(1.0), learner(2.0), learner(3.0), **SMALL)

    def rollout(carry, i):
        state, memory = carry
        helped = state.bandit.before == 1
        batch = jax.tree.map(lambda x: x[i % 8], batches)
        batch = batch._replace(reward=0.1 * batch.reward + helped)
        after, _, trace = reward.label(state, memory, batch)
        state, metrics = reward.update(jax.random.key(i), state, memory, batch, trace)
        return (state, after), metrics["airs/arm"]

    start = reward.init(jax.random.key(0), example(N, observations))
    arms = np.asarray(jax.jit(lambda start: jax.lax.scan(rollout, start, jnp.arange(100))[1])(start))
    assert (arms == 1).mean() > 0.6 and {0.0, 1.0, 2.0} == set(arms)


def test_one_arm_is_refused_where_it_is_built_and_where_it_is_read():
    with pytest.raises(UserError, match="needs at least 2, not 1"):
        airs(learner(1.0))
    with pytest.raises(UserError, match="'airs' combines bonuses: write at least 2 between its parentheses, not 1"):
        parse("0.5 * airs(rnd)")
    with pytest.raises(UserError, match="at least 2 between its parentheses, not 0"):
        parse("airs")
    assert len(parse("airs(rnd, none)").children) == 2
    with pytest.raises(UserError, match="not 1"):
        build(parse("airs(rnd, none)")._replace(children=(parse("none"),)), {})


def test_the_command_line_refuses_one_arm_at_once_and_without_jax():
    code = (
        "import sys\n"
        "from jaxrl.cli import main\n"
        "assert main(['train', '--bonus', 'airs(rnd)']) == 2\n"
        "print(sorted({'jax', 'gymnax', 'brax'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(jaxrl.errors.__file__).parents[1])}
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert time.perf_counter() - begun < 5  # about half a second alone
    assert done.stdout.strip() == "[]" and "write at least 2 between its parentheses, not 1" in done.stderr


class Stay(Corridor):
    """The same corridor, where each step at its start pays 1 / 44 and the end pays nothing and ends nothing."""

    solved = 0.9

    def step_env(self, key, state, action, params):
        obs, (cell, time), _, _, _, info = super().step_env(key, state, action, params)
        return obs, (cell, time), (cell == 0) / LIMIT, False, time >= LIMIT, info


@pytest.mark.slow
def test_airs_solves_where_a_bonus_is_needed_and_where_it_is_in_the_way(tmp_path):
    """No single part wins both. Chosen on seeds 100 to 102, with the settings of tests/test_learning.py.

    Taking turns (exploration=1000) solved Stay there as well: that the bandit turns to `none` where that pays is a
    claim of its own.
    """
    airs = "airs(none, count, episodic_count)"
    common = {"seeds": "0:8", "steps": 204_800, "lr": 1e-3, "num_steps": 64, "evals": 1}
    needed = sweep(tmp_path / "needed", env=Corridor, grid={"bonus": ["none", airs]}, **common)
    in_the_way = sweep(tmp_path / "in_the_way", env=Stay, grid={"bonus": ["episodic_count", airs]}, **common)
    solved = lambda curves, bonus: int(curves["solved"].isel(iteration=-1).sel(bonus=bonus).sum())
    assert solved(needed, "none") == 0 and solved(in_the_way, "episodic_count") == 0
    assert solved(needed, airs) >= 6 and solved(in_the_way, airs) >= 6
    late = in_the_way["airs/arm"].sel(bonus=airs).isel(iteration=slice(-20, None))
    assert float((late == 0).mean()) > 0.5
