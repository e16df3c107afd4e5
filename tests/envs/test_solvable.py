"""The search for a way, on maps that can be read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.contract import AutoReset
from jaxrl.envs.solvable import FREE, Layout, reachable, unsolvable
from jaxrl.errors import UserError
from jaxrl.types import Discrete


def world(*rows):
    """A layout of a map: # wall, S start, G goal, a b keys, A B the doors that they open, D a door without a lock."""
    cells = np.array([list(row) for row in rows])
    numbers = lambda letters: sum(np.where(cells == one, i - FREE, 0) for i, one in enumerate(letters)) + FREE
    return Layout(cells != "#", numbers("AB"), numbers("ab"), cells == "S", cells == "G")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (["S.G"], True),
        (["S#G"], False),
        (["SDG"], True),
        (["SAG"], False),  # no key at all
        (["aSAG"], True),
        (["SAaG"], False),  # the key lies behind its own door
        (["bSAG"], False),  # another door's key
        (["aSAbBG"], True),
        (["aSBbAG"], False),
        (["S#.", "##.", "..G"], False),  # no way around a corner of walls
        (["S..", "##.", "G.."], True),
        (["S#", "#G"], False),  # nobody walks diagonally
    ],
)
def test_a_goal_is_reached_where_there_is_a_way(rows, found):
    assert reachable(world(*rows)) is found


def test_an_environment_without_ways_has_its_sentence():
    with pytest.raises(UserError, match=r"'CartPole-v1' has no ways\(state, params\)"):
        unsolvable(envs.make("CartPole-v1"))


class Walled(AutoReset):
    """A corridor of three cells; in half of the worlds the one in the middle is a wall."""

    actions, max_steps = Discrete(2), 4

    def reset_env(self, key, params):
        wall = jax.random.bernoulli(key)
        return jnp.zeros(1), (wall, 0)

    def step_env(self, key, state, action, params):
        return jnp.zeros(1), (state[0], state[1] + 1), 0.0, False, state[1] + 1 >= 4, {}

    def ways(self, state, params):
        one = lambda i: jnp.arange(3)[None] == i
        none = jnp.full((1, 3), FREE)
        return Layout(~(one(1) & state[0]), none, none, one(0), one(2))


class Open(Walled):
    def ways(self, state, params):
        return super().ways(state, params)._replace(free=jnp.ones((1, 3), bool))


def test_the_contract_refuses_worlds_without_a_way():
    assert 20 < len(unsolvable(envs.make(Walled))) < 44
    with pytest.raises(
        UserError, match=r"'Walled' breaks the contract: the goal cannot be reached in \d\d of 64 worlds"
    ):
        envs.check_env(Walled, steps=10)
    assert envs.check_env(Open, steps=10)["limit_tested"]
