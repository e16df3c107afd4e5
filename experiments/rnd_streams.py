"""A bonus explores further where its return does not end with the episode, and RND tells how often a class was seen.

Paper     Burda, Edwards, Storkey and Klimov 2018 (arXiv:1810.12894): streams of returns, novelty on MNIST.
Claim     Dying ends the return of an episodic bonus, and so forbids what is dangerous and new; with a critic of its own
          the bonus's return goes on, and finds what one mixed, episodic reward does not. The error on unseen examples
          of a class falls with the number of them that were learned from.
Protocol  A ledge of 24 cells: at each one action goes on, one back, two fall, which ends the episode; reward 1 at the
          end. PPO and RND: two critics and the bonus non-episodic, or episodic, or one critic of the sum, the
          coefficient chosen; and no reward: cells ever entered. Novelty: 5,000 squares and N crosses, 16 x 16 pixels,
          20 epochs; the error on other crosses, of that before learning.
Run       jaxrl reproduce rnd-streams
Departs   A ledge stands for Montezuma's Revenge, sprites for MNIST.
"""

import jax
import jax.numpy as jnp
import xarray as xr

from jaxrl.envs.tabular.mdp import Outcomes, Tabular
from jaxrl.intrinsic.rnd import rnd
from jaxrl.reproduce import Difference
from jaxrl.types import Transition

LENGTH, SIDE, SQUARES = 24, 16, 5000


class Ledge(Tabular):
    num_terminal = 2  # the end of the ledge, the fall

    def starts(self, params):
        return jnp.ones(1), jnp.zeros(1, jnp.int32)

    def outcomes(self, state, action, params):
        role = (action + state * (state + 1) // 2) % 4  # on, back, and twice the fall
        there = jnp.select([role == 0, role == 1], [state + 1, jnp.maximum(state - 1, 0)], LENGTH + 1)
        return Outcomes(jnp.ones(1), there[None], (there == LENGTH)[None])


def sprite(key, cross):
    """The outline of a square or a cross, of any size and place, grainy: ``[SIDE, SIDE]`` float32."""
    k_place, k_grain = jax.random.split(key)
    half, y, x = jax.random.randint(k_place, (3,), jnp.array([2, 5, 5]), jnp.array([6, SIDE - 5, SIDE - 5]))
    down, right = jnp.abs(jnp.arange(SIDE) - y)[:, None], jnp.abs(jnp.arange(SIDE) - x)
    far, grain = jnp.maximum(down, right), jax.random.uniform(k_grain, (SIDE, SIDE), minval=0.5)
    return grain * jnp.where(cross, (far <= half) & (down * right == 0), far == half)


def novelty(seed, seen):
    """Error on unseen crosses after learning SQUARES squares and `seen` crosses, of that before."""
    k_learned, k_held, k_init, k_update = jax.random.split(jax.random.key(seed), 4)

    def batch(key, cross, skipped):
        images = jax.vmap(sprite)(jax.random.split(key, len(cross)), cross).reshape(*skipped.shape, SIDE, SIDE)
        return Transition(images, 0 * skipped, 0.0 * skipped, images, skipped, skipped, ~skipped, ())

    rows = jnp.arange(2 * SQUARES)  # with terminal=False nothing is learned from what ends an episode: the rest
    learned = batch(k_learned, rows >= SQUARES, (rows >= SQUARES + seen).reshape(-1, 50))
    held = batch(k_held, jnp.ones(500, bool), jnp.zeros((1, 500), bool))
    reward = rnd(1e-3, whiten=False, scale=False, terminal=False, epochs=20, minibatches=200)
    state, _ = reward.init(k_init, jax.tree.map(lambda x: x[0], learned))
    after, _ = reward.update(k_update, state, (), learned, reward.label(state, (), learned)[2])
    return reward.label(after, (), held)[1].mean() / reward.label(state, (), held)[1].mean()


SUCCESS, EXPLORED, NOVELTY = "with a reward", "without", "novelty"
ARMS = {
    "two critics, non-episodic": {"bonus": "rnd(lr=0.001)", "bonus_episodic": False},
    "two critics, episodic": {"bonus": "rnd(lr=0.001)", "bonus_episodic": True},
    "one critic, sum": {"bonus": "rnd(lr=0.001)", "streams": "sum"},
}
FREE, BOUND, MIXED = ARMS
DIFFERENCES = (
    Difference("the non-episodic bonus beats one mixed reward", SUCCESS, FREE, MIXED, 0.1),
    Difference("the non-episodic bonus beats the episodic one", SUCCESS, FREE, BOUND, 0.1),
    Difference("without reward it explores more", EXPLORED, FREE, BOUND, 0.1),
    Difference("10 crosses leave three times the error of 5,000", NOVELTY, "10", "5000, times 3", 0.02),
    Difference("100 leave more than 1,000", NOVELTY, "100", "1000", 0.02),
)
SCALES = {
    "smoke": {"seeds": 2, "arms": [FREE, MIXED], "steps": 2048, "coefs": [1], "seen": [10, 5000]},
    "cpu": {"seeds": 16, "pilot": 8, "steps": 204_800, "coefs": [0.1, 1], "seen": [10, 100, 1000, 5000]},
    "gpu": {"seeds": 64, "pilot": 16, "steps": 819_200, "coefs": [0.01, 0.1, 1], "seen": [10, 100, 1000, 5000]},
}


def measure(lab):
    ledge = {"num_states": LENGTH, "num_actions": 4, "horizon": 100}
    common = {"env": Ledge, "env_args": ledge, "lr": 1e-3, "steps": lab.scale["steps"]}
    panels = {SUCCESS: lab.compare(ARMS, metric="eval_return", choose={"coef": lab.scale["coefs"]}, **common)}
    panels[SUCCESS].attrs |= {"title": "the greedy policy arrives", "units": "fraction of seeds"}
    if "arms" not in lab.scale:  # at smoke scale two programs are enough
        alone = {arm: {**ARMS[arm], "streams": "only"} for arm in (FREE, BOUND)}
        panels[EXPLORED] = lab.compare(alone, metric="coverage", **common)
        panels[EXPLORED].attrs |= {"title": "cells ever entered", "units": "fraction"}
    curve = jax.jit(jax.vmap(novelty, (0, None)))
    errors = [curve(jnp.array(lab.seeds), seen) for seen in lab.scale["seen"]]
    arms = [*map(str, lab.scale["seen"]), "5000, times 3"]
    panels[NOVELTY] = xr.DataArray([*errors, 3 * errors[-1]], [("arm", arms), ("seed", list(lab.seeds))])
    panels[NOVELTY].attrs |= {"title": "error on crosses not seen", "units": "share of the error before learning"}
    return panels
