"""Adversarial Surprise: rewards, density and turns against plain NumPy; what the game finds and its halves do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import results
from jaxrl.envs import AutoReset
from jaxrl.envs.contract import task_of
from jaxrl.errors import UserError
from jaxrl.sweep import sweep
from jaxrl.sweep.policy import load_policy
from jaxrl.trainers.adversarial_surprise import adversarial_surprise
from jaxrl.trainers.rollout import collect, example_of, start
from jaxrl.types import Agent, Discrete

N, ROUNDS, L, CLASSES = 3, 4, 6, 5
STEPS = ROUNDS * L
DISCOUNT, QUIET = 0.9, 0.5


class Dial(AutoReset):
    """A hand from 0 to 3 that is turned, and a colour from 0 to 4 at random; pays what it shows, 10 * hand + colour."""

    actions, max_steps = Discrete(3), 2 * STEPS

    def __init__(self, ends: bool = False):
        self.ends = ends  # where the hand points to 3

    def reset_env(self, key, params):
        hand, colour = jax.random.randint(key, (2,), 0, jnp.array([3, 5]))
        return jnp.stack([hand, colour]), (hand, 0)

    def step_env(self, key, state, action, params):
        hand = jnp.clip(state[0] + action - 1, 0, 3)
        colour, time = jax.random.randint(key, (), 0, 5), state[1] + 1
        paid = 10.0 * hand + colour
        return jnp.stack([hand, colour]), (hand, time), paid, self.ends & (hand == 3), time >= self.max_steps, {}


def recorder():
    """Plays at random, half of the time the action that its state names; keeps the last rollout that it was given."""

    def init(key, example):
        pairs = N * ROUNDS // 2
        kept = {
            "obs": jnp.zeros((L, pairs, *example.obs.shape[1:])),
            "next_obs": jnp.zeros((L, pairs, *example.obs.shape[1:])),
            **{name: jnp.zeros((L, pairs)) for name in ("reward", "rewards", "by")},
            **{name: jnp.zeros((L, pairs), bool) for name in ("first", "terminated", "truncated")},
            "last_obs": jnp.zeros((pairs, *example.obs.shape[1:])),
        }
        return {"name": jax.random.uniform(key), "kept": kept}, ()

    def act(key, state, memory, obs, first):
        return memory, jax.random.randint(key, first.shape, 0, 3), {"by": jnp.full(first.shape, state["name"])}

    def update(key, state, rollout, rewards):
        kept = {name: getattr(rollout.batch, name) for name in state["kept"] if hasattr(rollout.batch, name)}
        kept |= {"rewards": rewards[..., 0], "by": rollout.batch.extras["by"], "last_obs": rollout.last_obs}
        return {**state, "kept": kept}, {"agent/paid": rewards.mean()}

    return Agent(init, act, update)


def trainer_of(no_reward_time=QUIET, *, env=None, agent=None, num_steps=STEPS, rounds=ROUNDS, **fields):
    return adversarial_surprise(
        no_reward_time, task=task_of(env or Dial()), agent=agent or recorder(), num_envs=N, num_steps=num_steps,
        discount=DISCOUNT, rounds=rounds, **{"classes": CLASSES, **fields},
    )  # fmt: skip


def iterate(trainer, iterations=2):
    """(each iteration's rollouts ``{name: [ROUNDS, L, N, ...]}`` in the order they were played, metrics)"""
    step = jax.jit(trainer.step)
    state, found, rows = jax.jit(trainer.init)(jax.random.key(0)), [], []
    names = np.asarray(state.agent["name"])
    for _ in range(iterations):
        state, row = step(state)
        kept = jax.device_get(state.agent["kept"])
        found.append({name: in_order(x) for name, x in kept.items() if name != "last_obs"} | {"names": names})
        rows.append(jax.device_get(row))
    assert step._cache_size() == 1
    return found, rows


def in_order(x):
    """``[2, L, ROUNDS / 2 * N, ...]`` -> ``[ROUNDS, L, N, ...]``, one turn at a time."""
    turns = [x[turn % 2][:, turn // 2 * N : (turn // 2 + 1) * N] for turn in range(ROUNDS)]
    return np.stack(turns)


def shown(reward):
    """What the dial showed, (hand, colour), from what it paid; after its end, which pays 0, what it showed there."""
    hand, colour = np.divmod(reward, 10)
    return np.stack([hand, colour], -1).astype(int)


def surprise(views, quiet, judged_turns):
    """log p of each view ``[STEPS]`` (0 where it is not judged), and theta before each step, of one meta-episode."""
    counts, seen = np.zeros((2, CLASSES)), 0
    log_p, thetas = np.zeros(STEPS), []
    for time, view in enumerate(views):
        theta = counts / seen if seen else np.full((2, CLASSES), 1 / CLASSES)
        thetas.append(theta)
        if time // L % 2 in judged_turns and time % L >= quiet * L:
            log_p[time] = sum(np.log(max(theta[j, view[j]], 1e-3)) for j in range(2))
            counts[[0, 1], view] += 1
            seen += 1
    return log_p, thetas


def expected_rewards(found, objective, quiet=QUIET):
    """Rewards ``[ROUNDS, L, N]`` of each iteration, in float64, from what the dial paid."""
    returns, out = [], []
    for kept in found:
        views = shown(kept["reward"].reshape(STEPS, N))
        turns = (1,) if objective == "game" else (0, 1)
        log_p = np.stack([surprise(views[:, n], quiet, turns)[0] for n in range(N)], -1)
        for n in range(N):
            running = 0.0
            for time in range(STEPS):
                if time // L % 2 in turns:
                    running = DISCOUNT * running + log_p[time, n]
                    returns.append(running)
        reward = (log_p / np.sqrt(np.var(returns) + 1e-8)).reshape(ROUNDS, L, N)
        if objective == "game":
            for turn in (0, 2):
                reward[turn, -1] = -reward[turn + 1].sum(0)
        out.append(-reward if objective == "explore" else reward)
    return out


@pytest.fixture(scope="module")
def game():
    return iterate(trainer_of())


def test_rewards_of_the_game(game):
    """Control: log p before the view is counted, in the last half of its turns; Explore: minus the sum, at its end."""
    found, _ = game
    for kept, expected in zip(found, expected_rewards(found, "game"), strict=True):
        np.testing.assert_allclose(kept["rewards"], expected, rtol=2e-4, atol=1e-5)
        assert (expected[1::2, : L // 2] == 0).all() and (expected[1::2, L // 2 :] < 0).all()
        assert (expected[0::2, :-1] == 0).all() and (expected[0::2, -1] > 0).all()


@pytest.mark.parametrize(("objective", "quiet"), [("control", 0.0), ("explore", 0.4)])
def test_rewards_of_the_halves(objective, quiet):
    """Steps 3, 4 and 5 of 6 come after 0.4 of a turn."""
    found, rows = iterate(trainer_of(quiet, objective=objective))
    for kept, expected, row in zip(found, expected_rewards(found, objective, quiet), rows, strict=True):
        np.testing.assert_allclose(kept["rewards"], expected, rtol=2e-4, atol=1e-5)
        judged = (expected != 0).any((0, 2))
        np.testing.assert_array_equal(judged, np.arange(L) >= (0 if quiet == 0 else 3))
        assert row["adversarial_surprise/surprise"] > 0


def test_the_players_see_the_world_the_density_and_the_clock(game):
    found, rows = game
    for kept, row in zip(found, rows, strict=True):
        seen, arrived = kept["obs"].reshape(STEPS, N, -1), kept["next_obs"].reshape(STEPS, N, -1)
        views = shown(kept["reward"].reshape(STEPS, N))
        total = []
        for n in range(N):
            log_p, thetas = surprise(views[:, n], QUIET, (1,))
            total.extend(log_p[[time // L % 2 == 1 and time % L >= L / 2 for time in range(STEPS)]])
            for time in range(STEPS):
                np.testing.assert_array_equal(arrived[time, n, :10], np.eye(CLASSES)[views[time, n]].reshape(-1))
                np.testing.assert_allclose(seen[time, n, 10:20], thetas[time].reshape(-1), rtol=1e-6)
                clock = [time // L % 2, time % L / L, time / STEPS]
                np.testing.assert_allclose(seen[time, n, 20:], clock, rtol=1e-6)
                if time + 1 < STEPS:
                    np.testing.assert_array_equal(seen[time + 1, n], arrived[time, n])
        np.testing.assert_allclose(row["adversarial_surprise/surprise"], -np.mean(total), rtol=1e-5)


def test_turns_are_played_by_their_player_and_are_its_episodes(game):
    found, rows = game
    for kept in found:
        assert kept["names"][0] != kept["names"][1]
        for turn in range(ROUNDS):
            np.testing.assert_array_equal(kept["by"][turn], kept["names"][turn % 2])
            np.testing.assert_array_equal(kept["first"][turn], np.arange(L)[:, None].repeat(N, 1) == 0)
            np.testing.assert_array_equal(kept["terminated"][turn], np.arange(L)[:, None].repeat(N, 1) == L - 1)
            assert not kept["truncated"][turn].any()
    for kept, row in zip(found, rows, strict=True):
        assert (row["length"], row["episodes"], row["finite"]) == (STEPS, N, 1)
        np.testing.assert_allclose(row["return"], kept["reward"].sum((0, 1)).mean(), rtol=1e-5)
        for i, who in enumerate(("explore", "control")):
            np.testing.assert_allclose(row[f"{who}/agent/paid"], kept["rewards"][i::2].mean(), rtol=1e-4)


def test_a_world_that_ends_stays_as_it_ended_and_pays_no_more():
    found, _ = iterate(trainer_of(env=Dial(ends=True)))
    ended = 0
    for kept in found:
        paid, views = kept["reward"].reshape(STEPS, N), kept["next_obs"].reshape(STEPS, N, -1)[..., :10]
        for n in range(N):
            (over,) = np.nonzero(paid[:, n] >= 30)
            if len(over):
                np.testing.assert_array_equal(paid[over[0] + 1 :, n], 0)
                np.testing.assert_array_equal(views[over[0] :, n], views[over[0], n][None].repeat(STEPS - over[0], 0))
                ended += over[0] < STEPS - 1
    assert ended >= 2


def test_evaluation_plays_the_game_each_player_in_its_turn():
    trainer = trainer_of()
    players, game = trainer.policy(recorder()), trainer.task

    def play(key):
        k_init, k_start, k_play = jax.random.split(key, 3)
        state, memory = players.init(k_init, example_of(game, N))
        *_, rollout, played = collect(k_play, game, players, state, memory, start(k_start, game, N), STEPS)
        return state, rollout, played

    state, rollout, played = jax.jit(play)(jax.random.key(0))
    turn = np.arange(STEPS) // L % 2
    np.testing.assert_array_equal(rollout.batch.extras["by"], np.asarray(state["name"])[turn][:, None].repeat(N, 1))
    assert played["episodes"] == N and rollout.batch.truncated[-1].all()


class Real(Dial):
    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return obs.astype(jnp.float32), state


class Bare:
    actions, max_steps = Discrete(3), 100

    def reset(self, key, params=None):
        return jnp.zeros(2, jnp.int32), 0

    def step(self, key, state, action, params=None):
        obs = jnp.zeros(2, jnp.int32)
        return obs, state, 0.0, False, False, {"final_observation": obs}


def with_memory():
    return recorder()._replace(init=lambda key, example: ((), example.reward))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rounds": 3}, "rounds = 3: must be even and divide num_steps = 24"),
        ({"rounds": 10}, "rounds = 10: must be even and divide num_steps = 24"),
        ({"num_steps": 96}, "num_steps = 96: a meta-episode must fit into an episode of environment 'Dial', at most"),
        ({"objective": "gane"}, "unknown adversarial_surprise.objective 'gane': did you mean 'game'"),
        ({"env": Real()}, "environment 'Real' has observations of float32"),
        ({"env": Bare()}, "environment 'Bare' cannot be played in turns"),
        ({"agent": with_memory()}, "its agent must keep no memory"),
    ],
)
def test_a_mistake_is_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        trainer_of(**fields).init(jax.random.key(0))


DARK, CELLS, SWITCH = 3, 20, 13


class Lamp(AutoReset):
    """Cells 0 to 19: three dark ones, where it starts, then tiles in four colours that change at every step.

    One cell is a switch: toggled there (action 3), the colours stay as they are until the episode ends, after 64 steps.
    What is seen is the cell and two on either side, in 7 classes: dark, wall, switch, and the colours. Turning it
    off pays 1, which no player of the game is told.
    """

    actions, max_steps, num_states = Discrete(4), 64, 2 * CELLS

    def state_id(self, state, params):
        return state[0] + CELLS * state[1]

    def seen(self, cell, colours):
        here = jnp.arange(CELLS)
        tiles = jnp.where(here < DARK, 0, jnp.where(here == SWITCH, 2, 3 + colours))
        return jax.lax.dynamic_slice(jnp.pad(tiles, 2, constant_values=1), (cell,), (5,))

    def reset_env(self, key, params):
        colours = jax.random.randint(key, (CELLS,), 0, 4)
        return self.seen(1, colours), (1, 0, colours, 0)

    def step_env(self, key, state, action, params):
        cell, off, colours, time = state
        toggled = (off == 0) & (cell == SWITCH) & (action == 3)
        off = off + toggled.astype(jnp.int32)
        cell = jnp.clip(cell + jnp.array([-1, 1, 0, 0])[action], 0, CELLS - 1)
        colours = jnp.where(off == 1, colours, jax.random.randint(key, (CELLS,), 0, 4))
        return self.seen(cell, colours), (cell, off, colours, time + 1), toggled, False, time + 1 >= 64, {}


def habits(directory, lanes):
    """Of 256 fresh episodes of each lane of one program: the shares ``[3, lanes]`` of episodes that end with the light
    off, of steps in the flicker, and of steps in the dark.
    """
    policies = [load_policy(directory, lane, greedy=False, objects={f"{__name__}:Lamp": Lamp}) for lane in lanes]
    task, agent = policies[0].task, policies[0].agent

    @jax.jit
    def play(state):
        worlds = start(jax.random.key(1), task, 256)
        return collect(jax.random.key(2), task, agent, state, (), worlds, 64)[3]["states"]

    states = np.stack([play(policy.state) for policy in policies], -1)  # [64, 256, lanes]
    off, cell = np.divmod(states, CELLS)
    return off[-1].mean(0), ((cell >= DARK) & (off == 0)).mean((0, 1)), (cell < DARK).mean((0, 1))


@pytest.mark.slow
def test_only_the_game_goes_into_the_flicker_and_turns_it_off(tmp_path):
    """Control alone (SMiRL) stays in the dark, Explore alone (entropy) in the flicker with the light on.

    Chosen on seeds 100 and 101; figures are those of the sampled policies at the end of training.
    """
    arms = ["game", "control", "explore"]
    sweep(
        tmp_path, env=Lamp, trainer="adversarial_surprise", grid={"adversarial_surprise.objective": arms}, seeds="0:8",
        steps=400_000, lr=1e-3, num_steps=64, evals=0, **{"adversarial_surprise.classes": 7},
    )  # fmt: skip
    lanes = results.lanes(tmp_path).groupby("adversarial_surprise.objective")["lane"]
    found = {arm: habits(tmp_path, of_arm) for arm, of_arm in lanes}
    off, flicker, dark = ({arm: shares[i] for arm, shares in found.items()} for i in range(3))
    assert (off["game"] > 0.8).sum() >= 6 and (flicker["game"] > 0.4).sum() >= 6, found
    assert off["game"].mean() > 3 * max(off["control"].mean(), off["explore"].mean()), found
    assert (dark["control"] > 0.8).sum() >= 6 and (flicker["explore"] > 0.6).sum() >= 6, found
