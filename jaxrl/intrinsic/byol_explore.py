"""BYOL-Explore: exploration by bootstrapped prediction (Guo et al. 2022, arXiv:2206.08332).

    b_t = h_c(b_{t-1}, f(o_t), a_{t-1})        closed loop, a GRU over the episode: zeros before its start
    b_{t,i} = h_o(b_{t,i-1}, a_{t+i-1})        open loop, a GRU on actions alone from b_{t,0} = b_t, i <= horizon
    L(t,i) = |u(g(b_{t,i})) - u(F(o_{t+i}))|^2      u(x) = x / |x|; no gradient through F
    l_t = sum of L(p,i) over p + i = t + 1     every prediction of this episode that lands on o_{t+1}
    bonus = max(l / sigma - mu, 0)             sigma: deviation of l; mu: mean of l / sigma; moving averages

f, g and both GRUs learn by the mean over t of the mean of L(t,i) over the i that end in the episode and the batch,
back through time to the batch's start; F <- target_decay F + (1 - target_decay) f.

Departures from the paper (it has no code): the model is the bonus's own, not the agent's representation; open loops
are carried across batches as their parameters made them, so that only an episode's first steps are paid for fewer;
minibatches are whole environments, and F moves once a batch; moving averages include the batch labelled, their start
corrected for; observations are whitened as in RND (`whiten`), lest their scale decide what is learned; smaller nets.

Kind: recurrent.
Memory: 2,320 bytes, b, an open loop per step of the horizon, the last action, an age.
Knows: the episode so far, through networks as of before the batch; the scale includes it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import spaces
from jaxrl.errors import UserError
from jaxrl.intrinsic import moving_average
from jaxrl.intrinsic.normalize import normalize_obs
from jaxrl.networks import gru, network, over
from jaxrl.types import Array, Box, Discrete, IntrinsicReward, Key, PyTree


class BYOLState(NamedTuple):
    online: PyTree  # {"encoder", "closed", "open", "predictor"}
    target: PyTree  # of an encoder
    adam: PyTree  # optax state


class BYOLMemory(NamedTuple):
    closed: Array  # [N, W] float32  b of the last observation
    opened: Array  # [N, K, W] float32  open loops from the last observation, the one before, ...
    action: Array  # [N, A] float32  the last action
    age: Array  # [N] int32  observations of this episode, at most K: so many open loops are its own


def byol_explore(
    lr=1e-4,  # Adam step size
    target_decay=0.99,  # of the target encoder, per batch; 1 freezes it
    momentum=0.99,  # of the moving averages of the error, per batch
    clip=5.0,  # whitened observations are clipped to this many standard deviations
    *,
    actions: Discrete | Box,
    horizon=8,  # steps predicted ahead; at most num_steps
    prioritize=True,  # pay only what lies above the average
    whiten=True,  # whiten observations
    dim=64,  # outputs of encoders and predictor
    width=64,  # units of both GRUs and of the predictor
    hidden=(64,),  # hidden widths of the encoders
    torso="mlp",  # mlp, or conv for [H, W, C] observations
    epochs=1,  # passes over a rollout
    minibatches=4,  # gradient steps per pass; must divide num_envs
) -> IntrinsicReward:
    """Error of all predictions that land on next_obs, ``[T, N]`` float32, scaled as above.

    Metrics: `byol_explore/loss`; `byol_explore/spread`, sqrt(dim) times the deviation of u(F)'s coordinates over the
    batch: about 1, and 0 once encoders have collapsed. UserError if `horizon` exceeds T or `minibatches` divides not N.
    """
    encoder, predictor = network(torso, hidden, dim, 1.0, "relu"), network("mlp", (width,), dim, 1.0, "relu")
    core, adam, encode = gru(width), optax.adam(lr), over(encoder.apply, 2)  # encode: [T, N, *O] -> [T, N, D]
    inputs = spaces.width(actions)

    def remember(online, closed, obs, before, first):  # b ``[T, N, W]``, from b before the batch
        seen = [encode(online["encoder"], obs), jnp.where(first[..., None], 0.0, before)]
        return core.unroll(online["closed"], closed, jnp.concatenate(seen, -1), first)

    def imagine(online, opened, action, aim):  # open loops ``[T, N, W]`` one action later, their errors ``[T, N]``
        opened = over(lambda params, x: core.step(params, *x), 2)(online["open"], (opened, action))
        guess = over(predictor.apply, 2)(online["predictor"], opened)
        return opened, 2.0 * optax.losses.cosine_distance(guess, aim, epsilon=1e-8)  # |u(guess) - u(aim)|^2

    def init(key: Key, example):
        keys, zeros = jax.random.split(key, 4), lambda *shape: jnp.zeros((len(example.first), *shape))
        online = {"encoder": encoder.init(keys[0], example.obs[:1]), "predictor": predictor.init(keys[1], zeros(width))}
        online["closed"], online["open"] = core.init(keys[2], zeros(dim + inputs)), core.init(keys[3], zeros(inputs))
        memory = BYOLMemory(zeros(width), zeros(horizon, width), zeros(inputs), zeros().astype(jnp.int32))
        return BYOLState(online, online["encoder"], adam.init(online)), memory

    def label(state: BYOLState, memory: BYOLMemory, batch):
        taken = spaces.code(actions, batch.action)
        before = jnp.concatenate([memory.action[None], taken[:-1]])
        closed = remember(state.online, memory.closed, batch.obs, before, batch.first)
        aims = encode(state.target, batch.next_obs)

        def step(carry, given):
            opened, age = carry
            first, closed, action, aim = given
            age = jnp.minimum(jnp.where(first, 0, age) + 1, horizon)
            opened = jnp.concatenate([closed[:, None], opened[:, :-1]], 1)
            action, aim = (jnp.repeat(x[:, None], horizon, 1) for x in (action, aim))
            opened, errors = imagine(state.online, opened, action, aim)
            return (opened, age), jnp.where(jnp.arange(horizon) < age[:, None], errors, 0.0).sum(-1)

        given = batch.first, closed, taken, aims
        (opened, age), landed = jax.lax.scan(step, (memory.opened, memory.age), given)
        return BYOLMemory(closed[-1], opened, taken[-1], age), landed, (taken, before, aims)

    def loss(online, data):
        closed, obs, before, action, aim, first = data  # [1, B, W], then [T, B, ...]
        closed = remember(online, closed[0], obs, before, first)
        follows = jnp.concatenate([~first[1:], jnp.zeros_like(first[:1])])

        def further(carry, _):
            opened, alive, *ahead = carry
            opened, error = imagine(online, opened, *ahead[:2])
            # What the roll brings round from the start meets only predictions that have ended.
            return (opened, alive & ahead[2], *(jnp.roll(x, -1, 0) for x in ahead)), (alive * error, alive)

        carry = closed, jnp.ones_like(first), action, aim, follows
        _, (errors, alive) = jax.lax.scan(further, carry, length=horizon)
        return (errors.sum(0) / alive.sum(0)).mean()

    def update(key: Key, state: BYOLState, memory: BYOLMemory, batch, trace):
        num_steps, num_envs = batch.first.shape
        if num_envs % minibatches:
            raise UserError(f"minibatches={minibatches} must divide num_envs={num_envs}: time is never dealt")
        if horizon > num_steps:
            raise UserError(f"horizon={horizon} must be at most num_steps={num_steps}, or its end is never learned")
        taken, before, aims = trace
        data = memory.closed[None], batch.obs, before, taken, aims, batch.first  # axis 1: environments

        def gradient_step(carry, dealt):
            value, grads = jax.value_and_grad(loss)(carry[0], jax.tree.map(lambda x: x[:, dealt], data))
            steps, adam_state = adam.update(grads, carry[1])
            return (optax.apply_updates(carry[0], steps), adam_state), value

        def epoch(carry, key):
            return jax.lax.scan(gradient_step, carry, jax.random.permutation(key, num_envs).reshape(minibatches, -1))

        (online, adam_state), values = jax.lax.scan(epoch, (state.online, state.adam), jax.random.split(key, epochs))
        target = optax.incremental_update(online["encoder"], state.target, 1.0 - target_decay)
        unit = aims / optax.safe_norm(aims, 1e-4, axis=-1, keepdims=True)
        metrics = {"byol_explore/loss": values.mean(), "byol_explore/spread": unit.std((0, 1)).mean() * dim**0.5}
        return BYOLState(online, target, adam_state), metrics

    reward = IntrinsicReward(init, label, update)
    reward = normalize_obs(reward, clip) if whiten else reward
    return moving_average.prioritize(reward, momentum, threshold=prioritize)
