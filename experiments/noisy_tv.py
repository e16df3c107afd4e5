"""Disagreement leaves the noisy television that prediction error watches, and explores instead.

Paper     Pathak, Gandhi and Gupta 2019 (arXiv:1906.04161): the toy on stochastic MNIST and the Unity maze with a TV.
Claim     The error of predicting noise is paid for ever, while the models of an ensemble come to agree on it. So an
          agent paid by errors stays with the television, one paid by disagreement explores.
Protocol  Toy: one observation leads to another, a second to one of eight at random; what each transition pays after
          500 updates, of what it paid at first. Halls: 56 cells in a row with four turns, 80 steps an episode, a fifth
          action that shows another picture of noise. PPO, the bonus alone: steps spent watching in the last fifth of
          training, cells ever entered. Prediction error is that of the random features that disagreement predicts.
Run       jaxrl reproduce noisy-tv
Departs   A corridor stands for the maze of 3-D pictures, and vectors for MNIST.
"""

import jax
import jax.numpy as jnp
import xarray as xr

from jaxrl.envs.wrappers.noisy_tv import Channels, NoisyTV
from jaxrl.intrinsic.disagreement import disagreement
from jaxrl.intrinsic.icm import icm
from jaxrl.reproduce import Difference
from jaxrl.types import Discrete, Transition

HALLS = """
#S                 #
################## #
#                  #
# ##################
#                 G#
"""


class Television(NoisyTV):
    """The reward, which the agent never sees, is the share of the step limit that was spent watching."""

    def __init__(self, env):
        super().__init__(env, Channels(0), when="action", size=8, levels=256)

    def step_env(self, key, state, action, params):
        obs, state, _, *rest = super().step_env(key, state, action, params)
        return obs, state, (action == 4) / self.env.max_steps, *rest


def toy(reward, key):
    """What a fixed and a noisy transition pay after learning, as shares ``[2]`` of what they paid before."""
    k_world, k_init, k_learn = jax.random.split(key, 3)
    pictures = jax.random.normal(k_world, (11, 6))  # two that are left, what follows the first, what may the second

    def moves(here, there):
        zeros = jnp.zeros((1, len(here)), jnp.int32)
        never = zeros > 0
        return Transition(pictures[here][None], zeros, 0.0 * zeros, pictures[there][None], never, never, ~never, ())

    def learn(state, key):
        k_noise, k_update = jax.random.split(key)
        here = jnp.arange(256) % 2
        batch = moves(here, jnp.where(here == 0, 2, jax.random.randint(k_noise, (256,), 3, 11)))
        return reward.update(k_update, state, (), batch, reward.label(state, (), batch)[2])[0], None

    asked = moves(jnp.array([0] + 8 * [1]), jnp.arange(2, 11))
    state, _ = reward.init(k_init, jax.tree.map(lambda x: x[0], asked))
    learned, _ = jax.lax.scan(learn, state, jax.random.split(k_learn, 500))
    before, after = (reward.label(one, (), asked)[1][0] for one in (state, learned))
    return jnp.stack([after[0] / before[0], after[1:].mean() / before[1:].mean()])


NOISE, WATCHED, EXPLORED, ERROR, ENSEMBLE = "toy", "watching", "exploring", "prediction error", "disagreement"
ARMS = {
    ERROR: "icm(features=random, lr=0.0003, whiten=True)",
    ENSEMBLE: "disagreement(lr=0.0003)",
    "icm": "icm(lr=0.0003)",
    "rnd": "rnd(lr=0.0003)",
}
DIFFERENCES = (
    Difference("noise goes on paying errors, not disagreement", NOISE, ERROR, ENSEMBLE, 0.1, {"transition": "noisy"}),
    Difference("prediction error watches longer than disagreement", WATCHED, ERROR, ENSEMBLE, 0.1),
    Difference("disagreement explores more than prediction error", EXPLORED, ENSEMBLE, ERROR, 0.1),
)
SCALES = {
    "smoke": {"seeds": 2, "steps": 2048, "arms": [ERROR, ENSEMBLE]},
    "cpu": {"seeds": 16, "steps": 204_800},
    "gpu": {"seeds": 32, "steps": 2_048_000},
}


def measure(lab):
    small = {"actions": Discrete(1), "scale": False, "dim": 8, "hidden": (16,)}
    toys = {ERROR: icm(1e-3, features="random", **small), ENSEMBLE: disagreement(1e-3, whiten=False, **small)}
    keys = jax.vmap(jax.random.key)(jnp.array(lab.seeds))
    remains = [jax.jit(jax.vmap(lambda key, r=reward: toy(r, key)))(keys).T for reward in toys.values()]
    coordinates = {"arm": list(toys), "transition": ["fixed", "noisy"], "seed": list(lab.seeds)}
    panels = {NOISE: xr.DataArray(remains, coordinates, list(coordinates))}
    fields = {"env": "tabular/FourRooms", "env_args": {"layout": HALLS, "horizon": 80}, "params.slip": 0.0}
    fields |= {"wrap": [Television], "streams": "only", "lr": 1e-3, "evals": 0, "steps": lab.scale["steps"]}
    panels[WATCHED] = lab.compare(ARMS, metric="return", last=0.2, **fields)
    panels[EXPLORED] = lab.compare(ARMS, metric="coverage", **fields)
    panels[NOISE].attrs |= {"title": "bonus after learning", "units": "share of the bonus at first"}
    panels[WATCHED].attrs |= {"title": "steps spent watching", "units": "share of the step limit"}
    panels[EXPLORED].attrs |= {"title": "cells ever entered", "units": "fraction"}
    return panels
