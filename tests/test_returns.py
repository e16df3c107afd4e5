"""Advantages against the forward definition of GAE: a sum over the steps ahead, one environment and stream a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl import envs
from jaxrl.agents.random import random
from jaxrl.returns import gae
from jaxrl.trainers.rollout import collect, start
from jaxrl.types import Streams


def reference(rewards, values, next_values, last_value, terminated, truncated, discount, episodic, gae_lambda):
    """A_t = sum_k (discount * lambda)^k delta_{t+k} (arXiv:1506.02438, eq. 16) for one environment and one stream."""
    steps = len(rewards)
    after_reset = np.append(values[1:], last_value)  # the value of what the agent sees next
    advantages = np.zeros(steps)
    for t in range(steps):
        weight = 1.0
        for k in range(t, steps):
            ended = terminated[k] or truncated[k]
            if not episodic:
                future = after_reset[k]
            elif terminated[k]:
                future = 0.0
            else:
                future = next_values[k]
            advantages[t] += weight * (rewards[k] + discount * future - values[k])
            if ended and episodic:
                break
            weight *= discount * gae_lambda
    return advantages


def random_inputs(seed, steps=12, num_envs=5, streams=3):
    """Values that agree with each other: V(next_obs) is V of the next observation wherever no episode ends."""
    rng = np.random.default_rng(seed)
    terminated = rng.random((steps, num_envs)) < 0.2
    truncated = rng.random((steps, num_envs)) < 0.2
    terminated[:, 0] = truncated[:, 0] = False  # one environment without any end,
    terminated[-1, 1], truncated[-1, 1] = True, False  # each kind of end on the last step,
    terminated[-1, 2], truncated[-1, 2] = False, True
    terminated[-1, 3] = truncated[-1, 3] = True  # and both at once
    terminated[4, 4] = truncated[4, 4] = True
    done = (terminated | truncated)[..., None]
    rewards, values, other = rng.normal(size=(3, steps, num_envs, streams))
    last_value = rng.normal(size=(num_envs, streams))
    next_values = np.where(done, other, np.concatenate([values[1:], last_value[None]]))
    return rewards, values, next_values, last_value, terminated, truncated


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_gae_is_the_sum_over_the_steps_ahead_in_every_environment_and_stream(gae_lambda):
    discount, episodic = np.array([0.99, 0.9, 0.5]), np.array([True, False, True])
    inputs = random_inputs(0)
    found = gae(*map(jnp.asarray, inputs), Streams(jnp.ones(3), jnp.array(discount), jnp.array(episodic)), gae_lambda)
    rewards, values, next_values, last_value, terminated, truncated = inputs
    for n in range(rewards.shape[1]):
        for s in range(rewards.shape[2]):
            one = (rewards[:, n, s], values[:, n, s], next_values[:, n, s], last_value[n, s])
            expected = reference(*one, terminated[:, n], truncated[:, n], discount[s], episodic[s], gae_lambda)
            np.testing.assert_allclose(found[:, n, s], expected, atol=1e-5, err_msg=f"environment {n}, stream {s}")


def test_a_termination_hides_the_value_of_what_follows_and_a_truncation_does_not():
    one = lambda x: jnp.full((1, 1, 1), x)
    flag = lambda x: jnp.full((1, 1), x)

    def advantage(terminated, truncated, episodic):
        streams = Streams(jnp.ones(1), jnp.full(1, 0.5), jnp.array([episodic]))
        arguments = (one(1.0), one(10.0), one(4.0), jnp.full((1, 1), 8.0), flag(terminated), flag(truncated))
        return float(gae(*arguments, streams, 0.95)[0, 0, 0])

    assert advantage(False, True, episodic=True) == 1 + 0.5 * 4 - 10
    assert advantage(True, False, episodic=True) == 1 - 10
    assert advantage(True, True, episodic=True) == 1 - 10
    assert advantage(True, False, episodic=False) == 1 + 0.5 * 8 - 10
    assert advantage(False, True, episodic=False) == 1 + 0.5 * 8 - 10


def test_episodic_gae_is_that_of_rlax_piece_by_piece():
    """rlax knows no truncation, so it is given the pieces between truncations, each closed by V(final observation)."""
    rewards, values, next_values, last_value, terminated, truncated = random_inputs(1, steps=20, streams=1)
    streams = Streams(jnp.ones(1), jnp.full(1, 0.97), jnp.array([True]))
    found = gae(*map(jnp.asarray, (rewards, values, next_values, last_value, terminated, truncated)), streams, 0.9)
    for n in range(rewards.shape[1]):
        ends = [t + 1 for t in range(20) if truncated[t, n] or t == 19]
        for begin, end in zip([0, *ends], ends, strict=False):
            piece = slice(begin, end)
            bootstrap = np.append(values[piece, n, 0], next_values[end - 1, n, 0])
            discounts = 0.97 * ~terminated[piece, n]
            expected = rlax.truncated_generalized_advantage_estimation(
                jnp.asarray(rewards[piece, n, 0]), jnp.asarray(discounts), 0.9, jnp.asarray(bootstrap)
            )
            np.testing.assert_allclose(found[piece, n, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("probe/truncation", lambda discount, left: 1 / (1 - discount)),
        ("probe/termination", lambda discount, left: (1 - discount**left) / (1 - discount)),
    ],
)
def test_lambda_returns_lead_from_zero_to_the_values_of_the_probe(probe, expected):
    """Tabular value iteration; the second stream is non-episodic, for which both worlds go on for ever."""
    task, discount, length = envs.make(probe), 0.8, 4
    k_start, k_collect = jax.random.split(jax.random.key(0))
    actor = random(actions=task.actions)
    _, _, rollout, _ = collect(k_collect, task, actor, (), (), start(k_start, task, 2), 2 * length + 1)
    batch = rollout.batch
    streams = Streams(jnp.ones(2), jnp.full(2, discount), jnp.array([True, False]))
    rewards = jnp.stack([batch.reward] * 2, -1)

    def sweep(_, table):  # [length, S]
        values = batch.obs @ table
        advantages = gae(
            rewards,
            values,
            batch.next_obs @ table,
            rollout.last_obs @ table,
            batch.terminated,
            batch.truncated,
            streams,
            0.5,
        )
        total = jnp.einsum("tno,tns->os", batch.obs, advantages + values)
        return total / batch.obs.sum((0, 1))[:, None]

    table = np.asarray(jax.lax.fori_loop(0, 200, sweep, jnp.zeros((length, 2))))
    np.testing.assert_allclose(table[:, 0], [expected(discount, length - t) for t in range(length)], rtol=1e-4)
    np.testing.assert_allclose(table[:, 1], 1 / (1 - discount), rtol=1e-4)
