"""BYOL-Explore against NumPy that unrolls each prediction from its episode's opening, and each of its switches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import ACTIONS, circling, example, fake_batch, world
from references import descends, gru, mlp
from worlds import Corridor

from jaxrl.errors import UserError
from jaxrl.intrinsic.byol_explore import byol_explore
from jaxrl.sweep import sweep
from jaxrl.types import Box

T, N, HORIZON, WIDTH = 8, 3, 3, 5
SMALL = {"horizon": HORIZON, "dim": 4, "width": WIDTH, "hidden": (8,), "minibatches": 1, "whiten": False}
FROZEN = {"lr": 0.0, "target_decay": 1.0, "momentum": 0.8}


def two_rollouts():
    return [fake_batch(jax.random.key(i), T, N, opens=i == 0) for i in range(2)]


@functools.cache
def programs(continuous=False, num_envs=N, **static):
    """(init, step), compiled once for all values of the swept numbers: `step` labels and learns."""
    actions = Box(-1.0, 1.0, (2,)) if continuous else ACTIONS
    make = lambda numbers: byol_explore(**numbers, actions=actions, **{**SMALL, **static})
    sample = example(num_envs)
    sample = sample._replace(action=jnp.zeros((num_envs, 2))) if continuous else sample

    @jax.jit
    def step(numbers, state, memory, batch):
        reward = make(numbers)
        after, bonus, trace = reward.label(state, memory, batch)
        state, metrics = reward.update(jax.random.key(1), state, memory, batch, trace)
        return state, after, bonus, metrics

    return jax.jit(lambda: make({}).init(jax.random.key(0), sample)), step


def stirred(params, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(x + 0.3 * rng.normal(size=x.shape), jnp.float32), params)


def started(numbers, **static):
    """(state, memory, step) of networks off their initial values: no bias is zero, the target is not the encoder."""
    init, step = programs(**static)
    state, memory = init()
    inner = state.inner._replace(online=stirred(state.inner.online), target=stirred(state.inner.target, 1))
    return state._replace(inner=inner), memory, functools.partial(step, numbers)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def error(online, target, opened, next_obs):
    """L of one prediction: squared distance on the unit sphere."""
    return ((unit(mlp(online["predictor"], opened)) - unit(mlp(target, next_obs))) ** 2).sum()


def landed(online, target, batches, inputs):
    """l ``[T, N]`` of consecutive batches, the first of which opens; `inputs`: action -> what a GRU sees of it."""
    episodes, out = {}, []
    for batch in batches:
        out.append(np.zeros(batch.first.shape))
        for (t, n), first in np.ndenumerate(np.asarray(batch.first)):
            if first:
                episodes[n] = [np.zeros(WIDTH)], [np.zeros_like(inputs(batch.action[t, n]))]
            closed, taken = episodes[n]  # b and the action before it, from the episode's opening on
            seen = np.concatenate([mlp(online["encoder"], batch.obs[t, n]), taken[-1]])
            closed.append(gru(online["closed"], closed[-1], seen))
            taken.append(inputs(batch.action[t, n]))
            for start in range(max(1, len(closed) - HORIZON), len(closed)):
                opened = closed[start]
                for action in taken[start:]:
                    opened = gru(online["open"], opened, action)
                out[-1][t, n] += error(online, target, opened, batch.next_obs[t, n])
    return out


def weighted(values, decay):
    """Mean of one value per batch, the weight of each `decay` times that of the next."""
    return np.average(values, weights=decay ** np.arange(len(values))[::-1])


def expected_bonuses(errors, decay, prioritize):
    means, variances, thresholds, out = [], [], [], []
    for raw in errors:
        means.append(raw.mean())
        variances.append(((raw - weighted(means, decay)) ** 2).mean())
        scaled = raw / np.sqrt(weighted(variances, decay))
        thresholds.append(scaled.mean())
        out.append(np.maximum(scaled - weighted(thresholds, decay), 0.0) if prioritize else scaled)
    return out


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete, prioritized", "continuous, scaled only"])
def test_bonus_is_the_error_of_every_prediction_that_lands(continuous):
    batches, inputs = two_rollouts(), lambda a: np.eye(ACTIONS.n)[int(a)]
    assert all(batch.first[1:].any() for batch in batches) and not batches[1].first[0].any()
    if continuous:
        draw = lambda batch: batch._replace(action=jnp.stack([jnp.sin(batch.reward), batch.reward], -1))
        batches, inputs = [draw(batch) for batch in batches], lambda a: np.asarray(a, np.float64)
    static = {"continuous": True, "prioritize": False} if continuous else {}
    state, memory, step = started(FROZEN, **static)
    errors = landed(state.inner.online, state.inner.target, batches, inputs)
    expected = expected_bonuses(errors, 0.8, not continuous)
    for i, batch in enumerate(batches):
        state, memory, bonus, metrics = step(state, memory, batch)
        np.testing.assert_allclose(bonus, expected[i], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(metrics["bonus_raw_mean"], errors[i].mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics["bonus_raw_max"], errors[i].max(), rtol=1e-4)
    assert continuous or 0.1 < np.mean(np.stack(expected) > 0) < 0.9  # the threshold does cut


def training_loss(online, target, memory, batch):
    """Mean over starts of the mean over the predictions of each that end inside its episode and the batch."""
    first, eye, rows = np.asarray(batch.first), np.eye(ACTIONS.n), []
    for n in range(N):
        closed, before, after = np.asarray(memory.closed[n], np.float64), np.asarray(memory.action[n]), []
        for t in range(T):
            if first[t, n]:
                closed, before = np.zeros(WIDTH), np.zeros(ACTIONS.n)
            closed = gru(online["closed"], closed, np.r_[mlp(online["encoder"], batch.obs[t, n]), before])
            before = eye[batch.action[t, n]]
            after.append(closed)
        for t in range(T):
            opened, errors = after[t], []
            for end in range(t, min(t + HORIZON, T)):
                if end > t and first[end, n]:
                    break
                opened = gru(online["open"], opened, eye[batch.action[end, n]])
                errors.append(error(online, target, opened, batch.next_obs[end, n]))
            rows.append(np.mean(errors))
    return np.mean(rows)


def test_one_update_is_one_adam_step_down_the_loss_and_moves_the_target():
    """From the memory at the batch's start, with the target held; then the target takes a share of the new encoder."""
    before, batch = jax.tree.map(np.asarray, two_rollouts())
    state, memory, step = started({"lr": 1e-3, "target_decay": 0.75, "momentum": 0.8})
    _, memory, *_ = step(state, memory, before)
    after, _, _, metrics = step(state, memory, batch)
    old, new = state.inner, after.inner
    loss = functools.partial(training_loss, target=old.target, memory=memory, batch=batch)
    np.testing.assert_allclose(metrics["byol_explore/loss"], loss(old.online), rtol=1e-4)
    assert descends(loss, old.online, new.online, 1e-3)
    mixed = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, old.target, new.online["encoder"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new.target, mixed)


def test_spread_tells_collapsed_targets():
    (batch, _) = two_rollouts()
    state, memory, step = started(FROZEN)
    spread = unit(mlp(state.inner.target, batch.next_obs)).std((0, 1)).mean() * 2.0  # sqrt(dim)
    np.testing.assert_allclose(step(state, memory, batch)[3]["byol_explore/spread"], spread, rtol=1e-4)
    same = batch._replace(next_obs=jnp.broadcast_to(batch.next_obs[0, 0], batch.next_obs.shape))
    assert step(state, memory, same)[3]["byol_explore/spread"] < 1e-5


def test_refuses_what_it_cannot_learn():
    sample, batch = example(N), fake_batch(jax.random.key(0), T, N)

    def updated(**changed):
        reward = byol_explore(actions=ACTIONS, **{**SMALL, **changed})
        state, memory = reward.init(jax.random.key(0), sample)
        return reward.update(jax.random.key(0), state, memory, batch, reward.label(state, memory, batch)[2])

    with pytest.raises(UserError, match="minibatches=2 must divide num_envs=3"):
        jax.eval_shape(lambda: updated(minibatches=2))
    with pytest.raises(UserError, match="horizon=9 must be at most num_steps=8"):
        jax.eval_shape(lambda: updated(horizon=9))
    with pytest.raises(UserError, match="torso 'conv' needs observations"):
        jax.eval_shape(lambda: updated(torso="conv"))


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e1, 1e2])
def test_an_arrival_that_the_model_did_not_expect_is_paid_more(magnitude):
    observations, rng = world(scale=magnitude), np.random.default_rng(0)
    sizes = {"dim": 16, "width": 16, "hidden": (32,), "minibatches": 2, "epochs": 2}
    init, step = programs(num_envs=8, prioritize=False, whiten=True, **sizes)
    numbers = {"lr": 1e-2, "target_decay": 0.99, "momentum": 0.99}
    state, memory = init()
    for _ in range(150):
        state, memory, _, metrics = step(numbers, state, memory, circling(rng, 16, 8, observations))
    assert optax.tree_utils.tree_get(state.inner.inner.adam, "count") == 150 * 2 * 2
    test = circling(rng, 16, 8, observations, surprise=True)
    bonus, surprising = np.asarray(step(numbers, state, memory, test)[2]), np.asarray(test.terminated)
    assert np.median(bonus[surprising]) > bonus[~surprising].max() > 0
    assert bonus[surprising].mean() > 20 * bonus[~surprising].mean()
    assert metrics["byol_explore/spread"] > 0.5  # the errors are small because they were learned, not by collapse


@pytest.mark.slow
def test_it_covers_the_corridor_and_no_bonus_does_not(tmp_path):
    """Every cell but the last, where no action is taken; numbers chosen on seeds 100 to 103."""
    bonuses = ["none", "byol_explore(lr=1e-2, horizon=4, dim=16, width=32, hidden=(32,))"]
    curves = sweep(tmp_path, env=Corridor, grid={"bonus": bonuses}, seeds="0:8", steps=102_400, lr=1e-3, coef=0.1)
    coverage = {str(bonus): curves["coverage"].isel(iteration=-1).sel(bonus=bonus) for bonus in curves["bonus"].values}
    assert coverage.pop("none").max() < 0.9
    (with_bonus,) = coverage.values()
    assert (with_bonus >= 35 / 36 - 1e-6).sum() >= 7, with_bonus.values
