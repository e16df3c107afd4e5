"""Exact planning against hand-computed chains, NumPy in float64 and a linear solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import tabular
from jaxrl.envs.tabular import planning
from jaxrl.envs.tabular.planning import TabularMDP
from jaxrl.errors import UserError

HORIZON = 7


def table(P, R, mu):
    return TabularMDP(*(jnp.asarray(x, jnp.float32) for x in (P, R, mu)))


def in_double(mdp):
    return (np.asarray(x, np.float64) for x in mdp)


@pytest.fixture(scope="module")
def random_mdps():
    """Five MDPs of 6 states and 3 actions with rewards of both signs, stacked."""
    generator = np.random.default_rng(0)
    P = generator.dirichlet(0.3 * np.ones(6), (5, 6, 3))
    return table(P, generator.normal(size=(5, 6, 3)), generator.dirichlet(np.ones(6), 5))


@pytest.fixture(scope="module")
def policies():
    return jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(3), (5, HORIZON, 6)), jnp.float32)


def lane(mdps, i):
    return TabularMDP(*(x[i] for x in mdps))


def test_two_states_by_hand():
    """RiverSwim of two states, two steps: stroke right and be there with 0.6, then 1; else turn back for 0.005."""
    task = tabular.make("tabular/RiverSwim", length=2, horizon=2)
    mdp = task.env.mdp(task.params)
    V, Q = planning.optimal(mdp, 2)
    np.testing.assert_allclose(V, [[0.6 * 1 + 0.4 * 0.005, 1 + 0.6 * 1 + 0.4 * 0.005], [0.005, 1], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(Q[0, 0], [0.005 + 0.005, 0.602], rtol=1e-5)
    V_left, _ = planning.evaluate(mdp, jnp.array([[1.0, 0.0], [1.0, 0.0]]), 2)
    np.testing.assert_allclose(V_left[0], [0.01, 0.005], rtol=1e-5)
    # For ever, at discount 1/2: W = 1 + (0.6 W + 0.4 V) / 2 and V = (0.6 W + 0.4 V) / 2, so V = 3/5 and W = 8/5.
    V, _ = planning.optimal_discounted(mdp, 0.5)
    np.testing.assert_allclose(V, [0.6, 1.6], rtol=1e-5)


def test_double_chain_has_the_known_optimum():
    task = tabular.make("tabular/DoubleChain")
    mdp = task.env.mdp(task.params)
    assert planning.at_start(mdp, planning.optimal(mdp, 20)[0]) == pytest.approx(3.154, abs=5e-4)


def test_finite_horizon_equals_numpy(random_mdps, policies):
    optimal = jax.jit(jax.vmap(lambda mdp: planning.optimal(mdp, HORIZON)))(random_mdps)
    evaluated = jax.jit(jax.vmap(lambda mdp, policy: planning.evaluate(mdp, policy, HORIZON)))(random_mdps, policies)
    for i in range(5):
        P, R, _ = in_double(lane(random_mdps, i))
        best, value = np.zeros(6), np.zeros(6)
        for h in reversed(range(HORIZON)):
            Q_best, Q = R + P @ best, R + P @ value
            best, value = Q_best.max(-1), (np.asarray(policies[i, h]) * Q).sum(-1)
            for ours, theirs in ((optimal[1], Q_best), (evaluated[1], Q)):
                np.testing.assert_allclose(ours[i, h], theirs, rtol=1e-4, atol=1e-5)
            for ours, theirs in ((optimal[0], best), (evaluated[0], value)):
                np.testing.assert_allclose(ours[i, h], theirs, rtol=1e-4, atol=1e-5)
    assert (np.asarray(optimal[0])[:, HORIZON] == 0).all()


def test_discounted_equals_a_linear_solve(random_mdps, policies):
    discount = 0.95
    best, Q = jax.jit(jax.vmap(planning.optimal_discounted, (0, None)))(random_mdps, discount)
    value, _ = jax.jit(jax.vmap(planning.evaluate_discounted, (0, 0, None)))(random_mdps, policies[:, 0], discount)
    for i in range(5):
        P, R, _ = in_double(lane(random_mdps, i))

        def solve(policy, P=P, R=R):
            chain = np.einsum("sa,sat->st", policy, P)
            return np.linalg.solve(np.eye(6) - discount * chain, (policy * R).sum(-1))

        np.testing.assert_allclose(value[i], solve(np.asarray(policies[i, 0], float)), rtol=1e-4, atol=1e-4)
        policy = np.eye(3)[np.zeros(6, int)]
        for _ in range(20):  # policy iteration
            policy = np.eye(3)[(R + discount * P @ solve(policy)).argmax(-1)]
        np.testing.assert_allclose(best[i], solve(policy), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(Q[i], R + discount * P @ solve(policy), rtol=1e-4, atol=1e-4)


def test_occupancy(random_mdps, policies):
    occupied = jax.jit(jax.vmap(lambda mdp, policy: planning.occupancy(mdp, policy, HORIZON)))(random_mdps, policies)
    np.testing.assert_allclose(np.sum(occupied, (1, 2, 3)), HORIZON, rtol=1e-5)
    for i in range(5):
        P, R, mu = in_double(lane(random_mdps, i))
        state = mu
        for h in range(HORIZON):
            pairs = state[:, None] * np.asarray(policies[i, h])
            np.testing.assert_allclose(occupied[i, h], pairs, atol=1e-5)
            state = np.einsum("sa,sat->t", pairs, P)
        mdp = lane(random_mdps, i)
        value = planning.at_start(mdp, planning.evaluate(mdp, policies[i], HORIZON)[0])
        np.testing.assert_allclose((np.asarray(occupied[i]).sum(0) * R).sum(), value, rtol=1e-4)


def test_gain():
    task = tabular.make("tabular/RiverSwim")
    # In the long run swimming right, each state is visited 7 times (at the ends 12 and 7/8) as often as the one before.
    visits = np.cumprod([1, 12, 7, 7, 7, 7 / 8])
    gain = jax.jit(planning.optimal_gain)(task.env.mdp(task.params))
    assert gain == pytest.approx(visits[5] / visits.sum(), abs=2e-6)
    assert gain == pytest.approx(7203 / 16805, abs=2e-6)
    # Two states in turn, of which one pays: a period of two.
    assert planning.optimal_gain(table([[[0, 1]], [[1, 0]]], [[1], [0]], [1, 0])) == pytest.approx(0.5, abs=1e-6)


def test_regret(random_mdps):
    mdp = lane(random_mdps, 0)
    V, Q = planning.optimal(mdp, HORIZON)
    best = planning.greedy(Q)
    np.testing.assert_allclose(planning.regret(mdp, jnp.stack([best] * 4), HORIZON), 0, atol=1e-4)
    stationary = jnp.stack([planning.uniform(mdp)] * 3)
    gap = V[0] @ mdp.mu - planning.evaluate(mdp, stationary[0], HORIZON)[0][0] @ mdp.mu
    assert gap > 0.1
    np.testing.assert_allclose(planning.regret(mdp, stationary, HORIZON), gap * np.arange(1, 4), rtol=1e-4)
    returns = jnp.array([1.0, -2.0])
    optimum = float(V[0] @ mdp.mu)
    regret = planning.return_regret(mdp, returns, HORIZON)
    np.testing.assert_allclose(regret, [optimum - 1, 2 * optimum + 1], rtol=1e-4)


def test_the_best_policy_reaches_the_threshold_that_a_random_one_misses():
    task = tabular.make("tabular/Garnet", num_states=8, num_actions=2, reward_density=0.5)

    @jax.jit
    def values(params):
        mdp = task.env.mdp(params)
        Q = planning.optimal(mdp, task.max_steps)[1]
        of = lambda policy: planning.at_start(mdp, planning.evaluate(mdp, policy, task.max_steps)[0])
        return of(planning.greedy(Q)), of(planning.uniform(mdp))

    best, random = values(task.params)
    assert task.solved == pytest.approx(float(0.1 * random + 0.9 * best), rel=1e-5)
    assert random < task.solved < best


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"R": np.zeros((3, 2))}, r"an MDP needs P \[S, A, S\]"),
        ({"mu": np.zeros(2)}, "mu of an MDP must hold probabilities"),
        ({"P": np.array([[[1.5, -0.5]] * 2] * 2)}, "the smallest entry is -0.5"),
    ],
)
def test_tables_that_are_none(change, sentence):
    good = {"P": np.full((2, 2, 2), 0.5), "R": np.zeros((2, 2)), "mu": np.array([1.0, 0.0])}
    planning.check(TabularMDP(**good))
    with pytest.raises(UserError, match=sentence):
        tabular.Table(TabularMDP(**{**good, **change}), horizon=3)


def test_a_policy_of_the_wrong_shape(random_mdps):
    with pytest.raises(UserError, match=r"a policy must be \(6, 3\) \[S, A\] or \(7, 6, 3\)"):
        planning.evaluate(lane(random_mdps, 0), jnp.ones((6, 2)), HORIZON)
