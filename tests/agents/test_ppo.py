"""PPO against its paper in NumPy (float64): loss, metrics, gradient, step; then what it learns where V is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl import envs
from jaxrl.agents.ppo import explained_variance, ppo
from jaxrl.counters import none, number, plus
from jaxrl.intrinsic.base import stateless
from jaxrl.trainers.on_policy import all_finite, on_policy, split_streams
from jaxrl.trainers.rollout import example_of
from jaxrl.types import Agent, Box, Discrete, Rollout, Streams, Transition

T, N, OBS, HIDDEN = 6, 4, 3, (5,)
DISCRETE, CONTINUOUS = Discrete(3), Box(-0.5, 0.5, (2,))
NUMBERS = {"lr": 3e-3, "clip": 0.2, "gae_lambda": 0.9, "entropy": 0.03, "value_coef": 0.7, "max_grad_norm": 1e6}
CASES = pytest.mark.parametrize(
    ("actions", "coef"), [(DISCRETE, (1.0, 0.4)), (CONTINUOUS, (1.0,))], ids=["discrete-S2", "continuous-S1"]
)


def streams_of(coef):
    """Streams with discounts and episodic flags of their own."""
    return Streams(jnp.array(coef), jnp.array([0.99, 0.8][: len(coef)]), jnp.array([True, False][: len(coef)]))


def agent_of(actions, coef, numbers=NUMBERS, **static):
    """The agent with its functions compiled."""
    defaults = {"iterations": 10, "explore": True, "hidden": HIDDEN, "epochs": 1, "minibatches": 1}
    return Agent(*map(jax.jit, ppo(streams_of(coef), **numbers, actions=actions, **{**defaults, **static})))


def example(actions):
    action = jnp.zeros((N, *actions.shape)) if isinstance(actions, Box) else jnp.zeros(N, jnp.int32)
    obs, flags = jnp.zeros((N, OBS)), jnp.zeros(N, bool)
    return Transition(obs, action, jnp.zeros(N), obs, flags, flags, flags, ())


def case(actions, coef, seed=0, **static):
    """(agent, state, rollout, rewards): parameters that are not their initial ones, and data of an older policy."""
    rng = np.random.default_rng(seed)
    agent = agent_of(actions, coef, **static)
    state, _ = agent.init(jax.random.key(seed), example(actions))
    stir = lambda x: x + jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32)
    state = state._replace(params=jax.tree.map(stir, state.params))
    obs, next_obs = rng.normal(size=(2, T, N, OBS)).astype(np.float32)
    terminated, truncated = rng.random((2, T, N)) < 0.2
    next_obs[:-1] = np.where((terminated | truncated)[:-1, :, None], next_obs[:-1], obs[1:])
    if isinstance(actions, Box):
        sampled = rng.normal(size=(T, N, *actions.shape)).astype(np.float32)
        action, log_prob = 0.5 * np.clip(sampled, -1.0, 1.0), -2.0 + 0.5 * rng.normal(size=(T, N))
    else:
        action = sampled = rng.integers(0, actions.n, (T, N)).astype(np.int32)
        log_prob = -1.1 + 0.3 * rng.normal(size=(T, N))
    extras = {"sampled": jnp.asarray(sampled), "log_prob": jnp.asarray(log_prob, jnp.float32)}
    fields = (obs, action, np.zeros((T, N), np.float32), next_obs, terminated, truncated, np.zeros((T, N), bool))
    batch = Transition(*map(jnp.asarray, fields), extras)
    last_obs = jnp.asarray(np.where((terminated | truncated)[-1, :, None], rng.normal(size=(N, OBS)), next_obs[-1]))
    rollout = Rollout(batch, (), last_obs.astype(jnp.float32), jnp.asarray((terminated | truncated)[-1]))
    return agent, state, rollout, jnp.asarray(rng.normal(size=(T, N, len(coef))), jnp.float32)


def forward(tree, x):
    """The network in NumPy: tanh layers, linear output."""
    layers = [tree["params"][f"Dense_{i}"] for i in range(len(tree["params"]))]
    for layer in layers[:-1]:
        x = np.tanh(x @ layer["kernel"].T + layer["bias"])
    return x @ layers[-1]["kernel"].T + layers[-1]["bias"]


def reference_batch(params, rollout, rewards, streams, whiten=lambda obs: obs):
    """(obs, advantage [T, N] standardised, targets [T, N, S], values): arXiv:1506.02438 eq. 16, stream by stream."""
    batch = jax.tree.map(lambda x: np.asarray(x, np.float64), rollout.batch)
    values = forward(params["critic"], whiten(batch.obs))
    next_values = forward(params["critic"], whiten(batch.next_obs))
    last = forward(params["critic"], whiten(np.asarray(rollout.last_obs, np.float64)))
    after = np.concatenate([values[1:], last[None]])
    advantages = np.zeros_like(values)
    for n in range(N):
        for s in range(values.shape[-1]):
            discount, running = float(streams.discount[s]), 0.0
            for t in reversed(range(T)):
                over = batch.terminated[t, n] or batch.truncated[t, n]
                if streams.episodic[s]:
                    future = 0.0 if batch.terminated[t, n] else next_values[t, n, s]
                    running = 0.0 if over else running
                else:
                    future = after[t, n, s]
                delta = float(rewards[t, n, s]) + discount * future - values[t, n, s]
                running = delta + discount * NUMBERS["gae_lambda"] * running
                advantages[t, n, s] = running
    contracted = (advantages * np.asarray(streams.coef, np.float64)).sum(-1)
    advantage = (contracted - contracted.mean()) / contracted.std()
    return whiten(batch.obs), advantage, advantages + values, values


def reference_loss(params, obs, sampled, log_prob_old, advantage, targets, actions):
    """(total, metrics) of arXiv:1707.06347, eq. 7 and 9, over every row at once."""
    out, value = forward(params["actor"], obs), forward(params["critic"], obs)
    if isinstance(actions, Box):
        std = np.exp(params["log_std"])
        log_prob = (-((sampled - out) ** 2) / (2 * std**2) - np.log(std * np.sqrt(2 * np.pi))).sum(-1)
        entropy = np.full(log_prob.shape, (0.5 * np.log(2 * np.pi * np.e * std**2)).sum())
    else:
        p = np.exp(out) / np.exp(out).sum(-1, keepdims=True)
        log_prob = np.log(np.take_along_axis(p, sampled.astype(int)[..., None], -1)[..., 0])
        entropy = -(p * np.log(p)).sum(-1)
    ratio = np.exp(log_prob - log_prob_old)
    clipped = np.clip(ratio, 1 - NUMBERS["clip"], 1 + NUMBERS["clip"])
    metrics = {
        "ppo/policy_loss": -np.minimum(ratio * advantage, clipped * advantage).mean(),
        "ppo/value_loss": sum(0.5 * ((value - targets)[..., s] ** 2).mean() for s in range(targets.shape[-1])),
        "ppo/entropy": entropy.mean(),
        "ppo/approx_kl": (ratio - 1 - np.log(ratio)).mean(),
        "ppo/clip_fraction": (np.abs(ratio - 1) > NUMBERS["clip"]).mean(),
    }
    total = metrics["ppo/policy_loss"] + NUMBERS["value_coef"] * metrics["ppo/value_loss"]
    return total - NUMBERS["entropy"] * metrics["ppo/entropy"], metrics, ratio


def in_float64(tree):
    return jax.tree.map(lambda x: np.array(x, np.float64), tree)


def reference_of(actions, coef, state, rollout, rewards, whiten=lambda obs: obs):
    params = in_float64(state.params)
    obs, advantage, targets, values = reference_batch(params, rollout, rewards, streams_of(coef), whiten)
    extras = in_float64(rollout.batch.extras)
    data = (obs, extras["sampled"], extras["log_prob"], advantage, targets, actions)
    return params, data, values


@CASES
def test_loss_and_metrics_are_those_of_the_paper(actions, coef):
    agent, state, rollout, rewards = case(actions, coef, seed=1)
    _, found = agent.update(jax.random.key(0), state, rollout, rewards)
    params, data, values = reference_of(actions, coef, state, rollout, rewards)
    _, expected, ratio = reference_loss(params, *data)
    targets = data[4]
    error = (targets - values)[..., 0]
    expected["ppo/explained_variance"] = 1 - error.var() / targets[..., 0].var()
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=2e-6, err_msg=name)
    assert 0.1 < expected["ppo/clip_fraction"] < 0.9  # clipped rows and unclipped ones
    surrogate = rlax.clipped_surrogate_pg_loss(
        jnp.asarray(ratio.reshape(-1)), jnp.asarray(data[3].reshape(-1)), NUMBERS["clip"]
    )
    np.testing.assert_allclose(found["ppo/policy_loss"], surrogate, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("step", [0, 2, T - 1])
def test_a_single_truncated_step_bootstraps_from_the_observation_before_the_reset(step):
    """Rewards that make every TD error zero if, and only if, that one step's value is V(next_obs)."""
    agent, state, rollout, _ = case(DISCRETE, (1.0, 0.4))
    env, streams = 1, streams_of((1.0, 0.4))
    rng = np.random.default_rng(8)
    obs, last_obs, flags = np.asarray(rollout.batch.obs), rng.normal(size=(N, OBS)), np.zeros((T, N), bool)
    after = np.concatenate([obs[1:], last_obs[None]]).astype(np.float32)  # what the next step sees: here, the reset
    next_obs, truncated = after.copy(), flags.copy()
    next_obs[step, env], truncated[step, env] = rng.normal(size=OBS), True
    critic = in_float64(state.params["critic"])
    values, shown, reset = (forward(critic, x.astype(np.float64)) for x in (obs, next_obs, after))
    assert abs(shown - reset)[step, env].min() > 0.1  # the two observations are worth different things
    future = np.where(streams.episodic, shown, reset)  # the stream that is not episodic goes on through the reset
    rewards = jnp.asarray(values - np.asarray(streams.discount, np.float64) * future, jnp.float32)
    batch = rollout.batch._replace(next_obs=jnp.asarray(next_obs), terminated=jnp.asarray(flags))
    rollout = rollout._replace(
        batch=batch._replace(truncated=jnp.asarray(truncated)),
        last_obs=jnp.asarray(after[-1]),
        last_first=jnp.asarray(truncated[-1]),
    )
    _, found = agent.update(jax.random.key(0), state, rollout, rewards)
    np.testing.assert_allclose(found["ppo/value_loss"], 0, atol=1e-11)


def finite_differences(params, data, step=1e-5):
    """Central differences of the total reference loss for every number in `params`."""
    leaves, tree = jax.tree.flatten(params)
    gradients = []
    for leaf in leaves:
        gradient = np.zeros_like(leaf)
        for index in np.ndindex(leaf.shape):
            before = leaf[index]
            leaf[index] = before + step
            above = reference_loss(params, *data)[0]
            leaf[index] = before - step
            below = reference_loss(params, *data)[0]
            leaf[index] = before
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return tree.unflatten(gradients)


@CASES
@pytest.mark.parametrize("max_grad_norm", [1e6, 1e-4])
def test_a_gradient_step_is_adams_on_the_gradient_of_the_paper_clipped_by_its_global_norm(actions, coef, max_grad_norm):
    numbers = {**NUMBERS, "max_grad_norm": max_grad_norm}
    agent, state, rollout, rewards = case(actions, coef, numbers=numbers)
    after, _ = agent.update(jax.random.key(0), state, rollout, rewards)
    params, data, _ = reference_of(actions, coef, state, rollout, rewards)
    gradient = finite_differences(params, data)
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    assert norm > 1e-2
    clipped = jax.tree.map(lambda g: g * min(1.0, max_grad_norm / norm), gradient)
    scale = max(np.abs(g).max() for g in jax.tree.leaves(clipped))
    for g, mu, before, now in zip(
        *map(jax.tree.leaves, (clipped, after.adam[1].mu, state.params, after.params)), strict=True
    ):
        np.testing.assert_allclose(np.asarray(mu) / 0.1, g, atol=1e-3 * scale)  # Adam's first moment, b1 = 0.9
        # Adam's first step, bias corrected: m = g, v = g^2; where g is all rounding its sign decides, so leave that out
        sure = np.abs(g) > 1e-2 * scale
        step = NUMBERS["lr"] * g / (np.abs(g) + 1e-5)
        np.testing.assert_allclose((np.asarray(now) - np.asarray(before))[sure], -step[sure], rtol=0.02, atol=1e-6)


def test_coef_weighs_the_advantages_and_not_the_value_losses():
    with_bonus = case(DISCRETE, (1.0, 0.4))
    without = agent_of(DISCRETE, (1.0, 0.0))
    alone = agent_of(DISCRETE, (0.5, 0.2))  # the same mixture: standardising removes the common factor
    _, state, rollout, rewards = with_bonus
    rows = [agent.update(jax.random.key(0), state, rollout, rewards)[1] for agent in (with_bonus[0], without, alone)]
    policy = [float(row["ppo/policy_loss"]) for row in rows]
    assert abs(policy[0] - policy[1]) > 1e-3
    np.testing.assert_allclose(policy[0], policy[2], rtol=1e-4)
    np.testing.assert_allclose([row["ppo/value_loss"] for row in rows], float(rows[0]["ppo/value_loss"]), rtol=1e-6)
    # with coefficient 0 the bonus may be anything
    other = rewards.at[..., 1].add(3.0)
    np.testing.assert_allclose(
        without.update(jax.random.key(0), state, rollout, other)[1]["ppo/policy_loss"], policy[1], rtol=1e-5
    )


def test_actions_are_clipped_to_the_box_and_log_prob_is_of_the_unclipped_sample():
    agent = agent_of(CONTINUOUS, (1.0,))
    state, memory = agent.init(jax.random.key(0), example(CONTINUOUS))
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(64, OBS)), jnp.float32)
    _, action, extras = agent.act(jax.random.key(1), state, memory, obs, jnp.zeros(64, bool))
    sampled = np.asarray(extras["sampled"], np.float64)
    np.testing.assert_array_equal(action, 0.5 * np.clip(extras["sampled"], -1.0, 1.0))
    assert 0.2 < (np.abs(sampled) > 1.0).mean() < 0.9
    mean = forward(in_float64(state.params["actor"]), np.asarray(obs, np.float64))
    density = np.exp(-((sampled - mean) ** 2) / 2) / np.sqrt(2 * np.pi)  # log_std starts at 0
    np.testing.assert_allclose(extras["log_prob"], np.log(density).sum(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("actions", [DISCRETE, CONTINUOUS])
def test_greedy_is_the_mode_whatever_the_key(actions):
    greedy = agent_of(actions, (1.0,), explore=False)
    _, state, rollout, _ = case(actions, (1.0,))
    obs = rollout.batch.obs[0]
    found = [greedy.act(jax.random.key(seed), state, (), obs, jnp.zeros(N, bool))[1] for seed in (0, 1)]
    out = forward(in_float64(state.params["actor"]), np.asarray(obs, np.float64))
    if isinstance(actions, Box):
        np.testing.assert_allclose(found[0], 0.5 * np.clip(out, -1.0, 1.0), rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(found[0], out.argmax(-1))
    np.testing.assert_array_equal(found[0], found[1])


def test_an_exploring_agent_samples_from_its_policy():
    agent = agent_of(DISCRETE, (1.0,))
    _, state, rollout, _ = case(DISCRETE, (1.0,))
    draws = 4000
    obs = jnp.broadcast_to(rollout.batch.obs[0, 0], (draws, OBS))
    _, action, extras = agent.act(jax.random.key(0), state, (), obs, jnp.zeros(draws, bool))
    logits = forward(in_float64(state.params["actor"]), np.asarray(obs[0], np.float64))
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(np.bincount(action, minlength=3) / draws, p, atol=0.04)
    np.testing.assert_allclose(extras["log_prob"], np.log(p)[np.asarray(action)], rtol=1e-4, atol=1e-5)


def test_the_step_size_falls_linearly_to_one_minus_anneal():
    numbers = {**NUMBERS, "anneal": 0.75}
    agent, state, rollout, rewards = case(DISCRETE, (1.0,), numbers=numbers)

    def moved(updates):
        after, _ = agent.update(jax.random.key(0), state._replace(updates=jnp.int32(updates)), rollout, rewards)
        assert int(after.updates) == updates + 1
        return np.asarray(
            after.params["actor"]["params"]["Dense_0"]["bias"] - state.params["actor"]["params"]["Dense_0"]["bias"]
        )

    whole = moved(0)
    assert np.abs(whole).max() > 0.9 * NUMBERS["lr"]
    for updates, share in ((4, 1 - 0.3), (10, 1 - 0.75)):  # of 10 iterations
        np.testing.assert_allclose(moved(updates), share * whole, rtol=2e-3, atol=1e-7)


def test_observations_are_whitened_by_the_moments_before_the_batch_which_then_enters_them():
    actions, coef = DISCRETE, (1.0, 0.4)
    agent, state, rollout, rewards = case(actions, coef, normalize_obs=True)
    rng = np.random.default_rng(5)
    rows = rng.normal([1.0, -2.0, 0.5], [0.5, 2.0, 0.05], (40, OBS))
    moments = state.moments._replace(rows=plus(none(), 40), mean=jnp.array(rows.mean(0), jnp.float32),
                                     spread=jnp.array(rows.var(0), jnp.float32))  # fmt: skip
    state = state._replace(moments=moments)
    whiten = lambda obs: np.clip((obs - rows.mean(0)) / rows.std(0), -10, 10)
    after, found = agent.update(jax.random.key(0), state, rollout, rewards)
    params, data, _ = reference_of(actions, coef, state, rollout, rewards, whiten)
    assert np.abs(data[0]).max() == 10  # something was clipped
    _, expected, _ = reference_loss(params, *data)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-5, err_msg=name)
    everything = np.concatenate([rows, np.asarray(rollout.batch.obs).reshape(-1, OBS)])
    np.testing.assert_allclose(after.moments.mean, everything.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.moments.spread, everything.var(0), rtol=1e-4)
    # and acting uses the moments that the state holds
    obs = rollout.batch.obs[0]
    _, _, extras = agent.act(jax.random.key(0), state, (), obs, jnp.zeros(N, bool))
    logits = forward(params["actor"], whiten(np.asarray(obs, np.float64)))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_p, np.asarray(extras["sampled"])[:, None], -1)[:, 0]
    np.testing.assert_allclose(extras["log_prob"], chosen, rtol=1e-3, atol=1e-4)


def test_moments_stay_empty_without_normalize_obs():
    agent, state, rollout, rewards = case(DISCRETE, (1.0,))
    assert number(agent.update(jax.random.key(0), state, rollout, rewards)[0].moments.rows) == 0


def test_every_epoch_deals_new_minibatches_and_takes_every_row():
    """Adam counts the gradient steps; with a zero step size each minibatch is judged by the same parameters, so their
    mean is the loss of the whole batch."""
    agent, state, rollout, rewards = case(DISCRETE, (1.0,), numbers={**NUMBERS, "lr": 0.0}, epochs=3, minibatches=4)
    after, found = agent.update(jax.random.key(0), state, rollout, rewards)
    assert int(after.adam[1].count) == 12
    params, data, _ = reference_of(DISCRETE, (1.0,), state, rollout, rewards)
    _, expected, _ = reference_loss(params, *data)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=2e-6, err_msg=name)


def test_every_number_may_be_swept_in_one_program():
    """vmap over all of them equals one run each, through a single trace."""
    _, state, rollout, rewards = case(DISCRETE, (1.0, 0.4))
    names = ("lr", "clip", "gae_lambda", "entropy", "value_coef", "max_grad_norm", "anneal", "coef")
    rows = np.array([[1e-3, 0.1, 0.9, 0.0, 0.5, 0.5, 0.0, 0.0], [1e-2, 0.3, 0.5, 0.1, 1.0, 0.05, 0.9, 2.0]], np.float32)
    state = state._replace(updates=jnp.int32(5))
    traces = []

    def update(values):
        traces.append(1)
        values = dict(zip(names, values, strict=True))
        streams = streams_of((1.0, 0.0))._replace(coef=jnp.stack([1.0, values.pop("coef")]))
        agent = ppo(streams, **values, actions=DISCRETE, iterations=10, explore=True, hidden=HIDDEN, minibatches=2)
        after, metrics = agent.update(jax.random.key(0), state, rollout, rewards)
        return after.params, metrics

    one = jax.jit(update)
    singles = [one(row) for row in rows]
    assert len(traces) == 1
    together = jax.jit(jax.vmap(update))(rows)
    for i, single in enumerate(singles):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(single), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5)
    kernels = [single[0]["actor"]["params"]["Dense_0"]["kernel"] for single in singles]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


# What is learned where the values are known: the second stream is a bonus of 1 for ever, so V = 1 / (1 - discount).

DISCOUNT, BONUS_DISCOUNT = 0.7, 0.6
TIMES = np.arange(4)
VALUES = {
    "probe/constant": ([[1.0]], [1.0]),
    "probe/echo": ([[-1.0], [1.0]], [-1.0, 1.0]),
    "probe/delay": ([[0.0], [1.0]], [DISCOUNT, 1.0]),
    "probe/truncation": (np.eye(4), np.full(4, 1 / (1 - DISCOUNT))),
    "probe/termination": (np.eye(4), (1 - DISCOUNT ** (4 - TIMES)) / (1 - DISCOUNT)),
    "probe/action": ([[1.0]], [1.0]),
    "probe/action_box": ([[1.0]], [0.0]),
    "probe/chain": (np.eye(4)[:1], [1.0]),
}
BEST_ACTION = {"probe/action": 1, "probe/action_box": 0.5, "probe/chain": 3}


def trained(name, iterations=150):
    """(task, streams, agent state after training, last metrics)."""
    task = envs.make(name)
    streams, combine = split_streams(0.0, DISCOUNT, BONUS_DISCOUNT, False)
    agent = ppo(
        streams,
        lr=1e-2,
        anneal=1.0,
        entropy=0.0,
        actions=task.actions,
        iterations=iterations,
        explore=True,
        hidden=(16,),
    )
    bonus = stateless(lambda batch: jnp.ones_like(batch.reward))
    trainer = on_policy(task, agent, bonus, combine, num_envs=8, num_steps=16)

    def train(key):
        state, metrics = jax.lax.scan(lambda state, _: trainer.step(state), trainer.init(key), length=iterations)
        return state.agent, metrics

    state, metrics = jax.jit(train)(jax.random.key(0))
    return task, streams, state, metrics


@pytest.mark.parametrize("name", VALUES)
def test_the_critic_and_the_policy_reach_what_is_known_of_a_probe(name):
    task, streams, state, metrics = trained(name)
    assert np.all(np.asarray(metrics["finite"]) == 1)
    obs, expected = VALUES[name]
    found = forward(in_float64(state.params["critic"]), np.asarray(obs, np.float64))
    np.testing.assert_allclose(found[:, 1], 1 / (1 - BONUS_DISCOUNT), atol=0.1, err_msg="the bonus stream")
    if name != "probe/action_box":  # exploring noise costs something there, unless it has shrunk to nothing
        np.testing.assert_allclose(found[:, 0], expected, atol=0.1)
    if name in BEST_ACTION:
        greedy = ppo(streams, actions=task.actions, iterations=1, explore=False, hidden=(16,))
        _, action, _ = greedy.act(jax.random.key(0), state, (), jnp.asarray(obs, jnp.float32), jnp.ones(len(obs), bool))
        np.testing.assert_allclose(np.asarray(action).reshape(-1), BEST_ACTION[name], atol=0.1)


def test_an_example_of_a_task_initialises_the_agent_for_it():
    for name in ("probe/action", "probe/action_box"):
        task = envs.make(name)
        agent = ppo(streams_of((1.0, 1.0)), actions=task.actions, iterations=1, explore=True)
        state, memory = jax.jit(agent.init)(jax.random.key(0), example_of(task, 2))
        assert memory == () and ("log_std" in state.params) == isinstance(task.actions, Box)
        assert state.params["critic"]["params"]["Dense_2"]["kernel"].shape == (2, 64)
        actor = np.asarray(state.params["actor"]["params"]["Dense_2"]["kernel"])
        assert np.linalg.norm(actor, 2) < 0.011  # near-uniform policy to begin with


def test_explained_variance_of_targets_that_do_not_vary_is_undefined_and_no_divergence():
    values = jax.random.normal(jax.random.key(0), (8, 4, 1))
    for constant in (0.0, 1.0, 0.1, -3e5):
        found = explained_variance(values, jnp.full((8, 4, 1), constant))
        assert np.isnan(found) and all_finite({"ppo/explained_variance": found, "ppo/entropy": values}) == 1.0
    assert all_finite({"ppo/explained_variance": jnp.nan * values, "ppo/entropy": jnp.nan * values}) == 0.0
    np.testing.assert_allclose(explained_variance(values, values), 1.0)
    scaled = [float(explained_variance(scale * values, 2.0 * scale * values)) for scale in (1e-6, 1.0, 1e6)]
    np.testing.assert_allclose(scaled, 0.75, rtol=1e-4)
