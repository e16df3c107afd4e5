"""A straightforward PPO in JAX, to measure jaxrl against: one function trains, vmap runs the lanes, on one device.

The same algorithm, networks, initialiser and float32 as `jaxrl.agents.ppo` with one stream; written the usual way:
value and log-probability computed while acting, `jax.random.permutation` over all rows for every epoch, no logging.

    python -m benchmarks.reference_ppo --lanes 16 --iterations 5      prints one JSON line
"""

import argparse
import json
import time

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.networks import orthogonal

ENVS, STEPS, EPOCHS, MINIBATCHES = 64, 128, 4, 4
LR, CLIP, DISCOUNT, LAMBDA, ENTROPY, VALUE, MAX_NORM = 2.5e-4, 0.2, 0.99, 0.95, 0.01, 0.5, 0.5


class MLP(nn.Module):
    """Two tanh layers of 64 and a linear one, ``[..., in] -> [..., out]``."""

    out: int
    scale: float

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.tanh(nn.Dense(64, kernel_init=orthogonal(2**0.5))(x))
        return nn.Dense(self.out, kernel_init=orthogonal(self.scale))(x)


def make_train(lr: float = LR):
    """(init, train): `train(state, n)` makes n iterations and returns (state, mean finished return ``[n]``)."""
    env, params = gymnax.make("CartPole-v1")
    actor, critic = MLP(2, 0.01), MLP(1, 1.0)
    apply_critic = lambda p, x: jnp.asarray(critic.apply(p, x))[:, 0]
    adam = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(lr, eps=1e-5))

    def init(key):
        key, k_env, k_actor, k_critic = jax.random.split(key, 4)
        obs, env_state = jax.vmap(env.reset, (0, None))(jax.random.split(k_env, ENVS), params)
        networks = {"actor": actor.init(k_actor, obs), "critic": critic.init(k_critic, obs)}
        return key, networks, adam.init(networks), env_state, obs, jnp.zeros(ENVS)

    def loss(networks, batch):
        obs, action, log_prob_old, advantage, target = batch
        log_p = jax.nn.log_softmax(actor.apply(networks["actor"], obs))
        log_prob = jnp.take_along_axis(log_p, action[:, None], 1)[:, 0]
        ratio = jnp.exp(log_prob - log_prob_old)
        policy_loss = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
        value_loss = 0.5 * ((apply_critic(networks["critic"], obs) - target) ** 2).mean()
        entropy = -(jnp.exp(log_p) * log_p).sum(-1).mean()
        return policy_loss + VALUE * value_loss - ENTROPY * entropy

    def iteration(state, _):
        key, networks, opt_state, env_state, obs, returns = state
        key, k_rollout, k_epochs = jax.random.split(key, 3)

        def env_step(carry, key):
            env_state, obs, returns = carry
            k_act, k_env = jax.random.split(key)
            log_p = jax.nn.log_softmax(actor.apply(networks["actor"], obs))
            action = jax.random.categorical(k_act, log_p)
            log_prob = jnp.take_along_axis(log_p, action[:, None], 1)[:, 0]
            value = apply_critic(networks["critic"], obs)
            new_obs, env_state, reward, terminated, truncated, info = jax.vmap(env.step, (0, 0, 0, None))(
                jax.random.split(k_env, ENVS), env_state, action, params
            )
            next_value = apply_critic(networks["critic"], info["final_observation"]) * ~terminated
            done = terminated | truncated
            returns = returns + reward
            row = (obs, action, log_prob, value, next_value, reward, done, returns)
            return (env_state, new_obs, jnp.where(done, 0.0, returns)), row

        carry, rows = jax.lax.scan(env_step, (env_state, obs, returns), jax.random.split(k_rollout, STEPS))
        obs_t, action, log_prob, value, next_value, reward, done, episode_return = rows

        def gae(advantage, row):
            value, next_value, reward, done = row
            advantage = reward + DISCOUNT * next_value - value + DISCOUNT * LAMBDA * ~done * advantage
            return advantage, advantage

        _, advantage = jax.lax.scan(gae, jnp.zeros(ENVS), (value, next_value, reward, done), reverse=True)
        target = advantage + value
        normalized = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        batch = jax.tree.map(
            lambda x: x.reshape(ENVS * STEPS, *x.shape[2:]), (obs_t, action, log_prob, normalized, target)
        )

        def epoch(carry, key):
            order = jax.random.permutation(key, ENVS * STEPS)
            shuffled = jax.tree.map(lambda x: x[order].reshape(MINIBATCHES, -1, *x.shape[1:]), batch)

            def gradient_step(carry, minibatch):
                networks, opt_state = carry
                grads = jax.grad(loss)(networks, minibatch)
                updates, opt_state = adam.update(grads, opt_state, networks)
                return (optax.apply_updates(networks, updates), opt_state), None

            return jax.lax.scan(gradient_step, carry, shuffled)

        (networks, opt_state), _ = jax.lax.scan(epoch, (networks, opt_state), jax.random.split(k_epochs, EPOCHS))
        finished = jnp.where(done.sum() > 0, (episode_return * done).sum() / jnp.maximum(done.sum(), 1), jnp.nan)
        return (key, networks, opt_state, *carry), finished

    def train(state, n):
        return jax.lax.scan(iteration, state, None, n)

    return init, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=5, help="per timed call")
    parser.add_argument("--calls", type=int, default=1, help="timed calls after one that is not")
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--curves", action="store_true", help="print the curves of all calls")
    arguments = parser.parse_args()
    init, train = make_train(arguments.lr)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(1), seed))(jnp.arange(arguments.lanes))
    state = jax.jit(jax.vmap(init))(keys)
    clock = time.perf_counter()
    compiled = jax.jit(lambda s: jax.vmap(lambda one: train(one, arguments.iterations))(s)).lower(state).compile()
    compile_s = time.perf_counter() - clock
    seconds, curves = [], []
    for _ in range(arguments.calls + 1 - arguments.curves):
        clock = time.perf_counter()
        state, returns = jax.block_until_ready(compiled(state))
        seconds.append(time.perf_counter() - clock)
        curves.append(np.asarray(returns))
    timed = seconds if arguments.curves else seconds[1:]
    steps = arguments.lanes * arguments.iterations * ENVS * STEPS
    answer = {"steps_per_s": steps / float(np.median(timed)), "compile_s": compile_s}
    if arguments.curves:
        answer["curves"] = np.concatenate(curves, 1).tolist()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
