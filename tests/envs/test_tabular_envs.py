"""Tabular environments: what a step does against the tables, the tables against the papers' numbers, bad input."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.envs import tabular
from jaxrl.envs.check import check_env
from jaxrl.envs.contract import task_of
from jaxrl.envs.tabular import planning
from jaxrl.envs.tabular.garnet import distinct
from jaxrl.envs.tabular.lock import CombinationLock
from jaxrl.envs.tabular.mdp import Tabular, TabularState, draw
from jaxrl.errors import UserError

SMALL = {
    "tabular/RiverSwim": {"length": 4, "horizon": 6},
    "tabular/DoubleChain": {"length": 5, "horizon": 6, "left_reward": 0.3, "fail": 0.2},
    "tabular/CombinationLock": {"length": 3, "num_actions": 3, "swap": 0.3, "step_reward": 0.02},
    "tabular/Garnet": {"num_states": 6, "num_actions": 2, "reward_density": 0.7, "mdp_seed": 3},
    "tabular/FourRooms": {"layout": "S #\n#  \n##G", "horizon": 8},
}


@pytest.fixture(scope="module")
def tasks():
    return {name: tabular.make(name, **kwargs) for name, kwargs in SMALL.items()}


@pytest.fixture(scope="module")
def tables(tasks):
    return {name: jax.tree.map(np.asarray, jax.jit(task.env.mdp)(task.params)) for name, task in tasks.items()}


def test_every_name_has_a_small_task():
    assert set(SMALL) == set(tabular.NAMES)


@pytest.mark.parametrize("name", tabular.NAMES)
def test_contract(tasks, name):
    seen = check_env(tasks[name], steps=120)
    assert seen["limit_tested"] and seen["both"] == 0
    ends = "terminated" if name == "tabular/CombinationLock" else "truncated"
    assert seen[ends] > 0
    assert (seen["terminated"] > 0) == (tasks[name].env.num_terminal > 0)


@pytest.mark.parametrize("name", tabular.NAMES)
def test_steps_follow_the_table(tasks, tables, name):
    """Chi-square of next states and a t-test of rewards for each (s, a), with Bonferroni's correction."""
    task, mdp, draws = tasks[name], tables[name], 3000
    pairs = np.array(list(itertools.product(range(task.num_states), range(task.actions.n))))

    def one(key, position, action):
        state = TabularState(position, jnp.int32(0))
        _, state, reward, terminated, _, _ = task.env.step_env(key, state, action, task.params)
        return state.position, reward, terminated

    keys = jax.random.split(jax.random.key(1), (len(pairs), draws))
    over_draws = jax.vmap(one, (0, None, None))
    states, rewards, terminated = map(np.asarray, jax.jit(jax.vmap(over_draws))(keys, *jnp.asarray(pairs).T))
    np.testing.assert_array_equal(terminated, states >= task.num_states)
    p_values = []
    for (s, a), after, reward in zip(pairs, states, rewards, strict=True):
        observed, expected = np.bincount(after, minlength=len(mdp.mu)), draws * mdp.P[s, a].astype(float)
        possible = expected > 0
        assert observed[~possible].sum() == 0
        if possible.sum() > 1:
            p_values.append(stats.chisquare(observed[possible], expected[possible] * draws / expected.sum()).pvalue)
        spread = reward.std(ddof=1) / np.sqrt(draws)
        if spread > 1e-6:
            p_values.append(2 * stats.norm.sf(abs(reward.mean() - mdp.R[s, a]) / spread))
        else:
            np.testing.assert_allclose(reward.mean(), mdp.R[s, a], rtol=1e-4, atol=1e-6)
    assert len(p_values) > 3
    assert min(p_values) > 0.01 / len(p_values)


@pytest.mark.parametrize("name", tabular.NAMES)
def test_tables_are_probabilities_and_ids_are_exact(tasks, tables, name):
    task, mdp = tasks[name], tables[name]
    planning.check(mdp)
    # A table of zeros and ones would be one too; what can be reached from the start must be the states that are named.
    reached = mdp.mu > 0
    for _ in range(len(mdp.mu)):
        reached = reached | (reached @ mdp.P.sum(1) > 0)
    assert reached.all() and reached.size == task.env.size == task.num_states + task.env.num_terminal
    for end in range(task.num_states, task.env.size):
        np.testing.assert_allclose(mdp.P[end, :, end], 1, rtol=1e-6)
        assert (mdp.R[end] == 0).all()


def test_river_swim_has_the_published_numbers():
    task = tabular.make("tabular/RiverSwim")
    mdp = jax.jit(task.env.mdp)(task.params)
    right = [
        [0.4, 0.6, 0, 0, 0, 0],
        [0.05, 0.6, 0.35, 0, 0, 0],
        [0, 0.05, 0.6, 0.35, 0, 0],
        [0, 0, 0.05, 0.6, 0.35, 0],
        [0, 0, 0, 0.05, 0.6, 0.35],
        [0, 0, 0, 0, 0.4, 0.6],
    ]
    np.testing.assert_allclose(mdp.P[:, 1], right, atol=1e-6)
    np.testing.assert_array_equal(mdp.P[:, 0].argmax(-1), [0, 0, 1, 2, 3, 4])
    reward = np.zeros((6, 2))
    reward[0, 0], reward[5, 1] = 0.005, 1
    np.testing.assert_allclose(mdp.R, reward)
    np.testing.assert_array_equal(mdp.mu, [1, 0, 0, 0, 0, 0])
    assert task.max_steps == 20 and task.solved > 20 * 0.005 * 5


@pytest.mark.parametrize(("length", "start"), [(4, 1), (5, 2)])
def test_double_chain(length, start):
    task = tabular.make("tabular/DoubleChain", length=length, fail=0.1, left_reward=0.5)
    mdp = jax.jit(task.env.mdp)(task.params)
    assert np.flatnonzero(mdp.mu).tolist() == [start]
    for s, a in itertools.product(range(length), range(2)):
        expected, reward = np.zeros(length), 0.0
        for probability, move in ((0.9, 2 * a - 1), (0.1, 1 - 2 * a)):
            after = min(max(s + move, 0), length - 1)
            expected[after] += probability
            reward += probability * (after == s) * (1.0 if s else 0.5)
        np.testing.assert_allclose(mdp.P[s, a], expected, atol=1e-6)
        np.testing.assert_allclose(mdp.R[s, a], reward, atol=1e-6)


def test_combination_lock_has_one_good_action_in_each_live_state(tasks, tables):
    mdp = tables["tabular/CombinationLock"]
    ids = lambda h: (0, 1, None) if h == 0 else (3 * h - 1, 3 * h, 3 * h + 1) if h < 3 else (8, 8, 8)
    for h, z in itertools.product(range(3), range(2)):
        here, after = ids(h)[z], ids(h + 1)
        last = h == 2
        pays = mdp.R[here] == (1.0 if last else np.float32(0.02))
        assert pays.sum() == 1
        good, bad = int(pays.argmax()), [a for a in range(3) if not pays[a]]
        np.testing.assert_allclose(mdp.R[here, bad], 0.1 * 0.5)
        expected = np.zeros(9)
        expected[after[z]] += 0.7
        expected[after[1 - z]] += 0.3
        np.testing.assert_allclose(mdp.P[here, good], expected, atol=1e-6)
        assert (mdp.P[here, bad, after[2]] == 1).all()
    for h in (1, 2):
        dead = ids(h)[2]
        assert (mdp.P[dead, :, ids(h + 1)[2]] == 1).all() and (mdp.R[dead] == 0).all()
    np.testing.assert_array_equal(mdp.mu[:2], 0.5)


def test_code_words_differ_between_seeds_and_are_fair():
    env = CombinationLock(capacity=20, num_actions=4)
    good = jax.jit(
        jax.vmap(lambda seed: env.mdp(env.default_params.replace(mdp_seed=seed, step_reward=1.0, decoy=0.0)).R)
    )(jnp.arange(50))
    live = np.asarray(good)[:, :-1][:, [s for s in range(59) if s < 2 or s % 3 != 1]]
    words = live.argmax(-1)
    assert (live.sum(-1) == 1).all() and len({tuple(word) for word in words}) == 50
    assert stats.chisquare(np.bincount(words.ravel(), minlength=4)).pvalue > 0.01
    assert abs((words[:, ::2] == words[:, 1::2]).mean() - 1 / 4) < 0.05  # of the two chains at the same time


def test_closed_form_of_a_lock_is_what_its_table_gives(tasks):
    env = tasks["tabular/CombinationLock"].env
    params = env.default_params.replace(
        length=jnp.array([3, 2, 3, 3, 1]),
        step_reward=jnp.array([0.0, 0.1, -0.7, 0.2, 0.0]),
        decoy=jnp.array([0.1, 0.1, 0.1, 3.0, 0.4]),
        **{name: jnp.full(5, getattr(env.default_params, name)) for name in ("mdp_seed", "swap", "noise")},
        decoy_chance=jnp.full(5, 0.5),
    )
    both = jax.jit(jax.vmap(lambda params: (env.random_and_best(params), Tabular.random_and_best(env, params))))
    closed, by_table = both(params)
    np.testing.assert_allclose(closed, by_table, atol=1e-5)
    # By hand: a code word of three letters out of three; a mistake is certain otherwise, and pays 0.05 on average.
    np.testing.assert_allclose([x[0] for x in closed], [1 / 27 + 26 / 27 * 0.05, 1], rtol=1e-5)
    # At a cost of 0.7 for each step it is best to leave at once.
    np.testing.assert_allclose(closed[1][2], 0.05, rtol=1e-5)


@pytest.mark.parametrize("observation", ["index", "hadamard", "bernoulli"])
def test_rich_observations(observation):
    env = CombinationLock(capacity=5, num_actions=2, observation=observation)
    params = env.default_params.replace(noise=0.05)
    if observation == "hadamard":
        check_env(task_of(env, params), steps=40)
    keys = jax.random.split(jax.random.key(0), 400)
    states = jnp.arange(15)
    every = jax.jit(jax.vmap(jax.vmap(env.observe, (0, None, None)), (None, 0, None)))
    obs = np.asarray(every(keys, states, params))  # [15, 400, ...]
    if observation == "index":
        assert obs.dtype == np.int32 and (obs == np.arange(15)[:, None]).all()
        return
    latent = np.zeros((15, 9))  # one-hot of 3 chains and 6 times
    for s, (h, z) in enumerate([(0, 0), (0, 1), *itertools.product(range(1, 5), range(3))]):
        latent[s, z] = latent[s, 3 + h] = 1
    latent[14, 3 + 5] = 1
    if observation == "bernoulli":
        assert (obs[:, :, :9] == latent[:, None]).all() and obs.shape == (15, 400, 14)
        assert abs(obs[:, :, 9:].mean() - 0.5) < 0.02 and set(np.unique(obs)) == {0.0, 1.0}
    else:
        # Sylvester's matrix is its own inverse but for its size.
        rows = np.array([[(-1.0) ** bin(i & j).count("1") for j in range(16)] for i in range(16)])
        noise = obs @ rows / 16 - np.pad(latent, ((0, 0), (0, 7)))[:, None]
        assert abs(noise.mean()) < 0.001 and abs(noise.std() - 0.05) < 0.001


def test_garnet_rows():
    env = tabular.make("tabular/Garnet", num_states=7, num_actions=3, branching=3).env
    at = jax.jit(jax.vmap(lambda seed: env.mdp(env.default_params.replace(mdp_seed=seed, reward_density=0.25))))
    P, R, mu = map(np.asarray, at(jnp.arange(1000)))
    np.testing.assert_allclose(P.sum(-1), 1, atol=1e-6)
    assert ((P > 0).sum(-1) == 3).mean() > 0.999  # a cut may fall on another
    # Each state follows alike: 3 of 7 for each of 21,000 pairs.
    follows = (P > 0).sum((0, 1, 2))
    assert abs(follows / 21_000 - 3 / 7).max() < 4 * np.sqrt(3 / 7 * 4 / 7 / 21_000)
    # Spacings of two uniform cuts are Beta(1, 2).
    spacings = P[P > 0]
    assert stats.kstest(np.random.default_rng(0).choice(spacings, 2000), stats.beta(1, 2).cdf).pvalue > 0.01
    assert abs((R > 0).mean() - 0.25) < 0.01 and stats.kstest(R[R > 0][:2000], "uniform").pvalue > 0.01
    one = jax.jit(lambda seed: env.mdp(env.default_params.replace(mdp_seed=seed, reward_density=0.25)))
    for seed in (0, 500, 999):
        for table, alone in zip((P, R, mu), one(seed), strict=True):
            np.testing.assert_allclose(table[seed], alone, rtol=1e-6)
    assert len({row.tobytes() for row in P.reshape(-1, 7)}) == 21_000  # no two pairs of any two MDPs alike


def test_distinct_draws_every_subset_alike():
    chosen = np.asarray(jax.vmap(lambda u: distinct(u, 5))(jax.random.uniform(jax.random.key(0), (6000, 3))))
    subsets = np.sort(chosen, -1)
    assert (np.diff(subsets, axis=-1) > 0).all() and subsets.min() == 0 and subsets.max() == 4
    _, counts = np.unique(subsets, axis=0, return_counts=True)
    assert len(counts) == 10 and stats.chisquare(counts).pvalue > 0.01


def test_draw_never_takes_what_is_impossible():
    probability = jnp.array([0.0, 0.3, 0.0, 0.69, 0.0])  # of a sum that rounding has left below 1, exaggerated
    drawn = np.asarray(jax.vmap(draw, (0, None))(jax.random.split(jax.random.key(0), 20_000), probability))
    assert set(np.unique(drawn)) == {1, 3} and abs((drawn == 1).mean() - 0.3) < 0.015


def test_four_rooms():
    task = tabular.make("tabular/FourRooms")
    tables = jax.jit(task.env.mdp)
    mdp, cells = jax.tree.map(np.asarray, tables(task.params)), task.env.picture()
    assert task.env.size == 104 and task.num_states == 103 and cells.shape == (13, 13)
    goal, hallway = cells[11, 11], cells[6, 2]
    assert goal == 103 and np.flatnonzero(mdp.mu).tolist() == [cells[1, 1]]
    up, right, down, left = range(4)
    np.testing.assert_allclose(mdp.P[hallway, up, cells[5, 2]], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(mdp.P[hallway, up, hallway], 2 / 9, rtol=1e-6)  # walls left and right
    np.testing.assert_allclose(mdp.P[hallway, up, cells[7, 2]], 1 / 9, rtol=1e-6)
    np.testing.assert_allclose(mdp.P[cells[10, 11], down, goal], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(mdp.R[cells[10, 11]], [1 / 9, 1 / 9, 2 / 3, 1 / 9], rtol=1e-6)
    np.testing.assert_allclose(mdp.P[cells[1, 1], left, cells[1, 1]], 2 / 3 + 1 / 9, rtol=1e-6)
    sure = tables(task.params.replace(slip=0.0))
    steps = np.asarray(planning.optimal(sure, 30)[0])[:, cells[1, 1]]
    assert steps[30 - 20] == 1 and steps[30 - 19] == 0  # twenty moves, and no fewer


@pytest.mark.parametrize("name", ["tabular/RiverSwim", "tabular/DoubleChain", "tabular/CombinationLock"])
def test_lengths_as_lanes_are_the_tasks_of_those_lengths(name):
    largest = tabular.make(name, length=5)
    horizon = 8

    def values(env, params):
        mdp = env.mdp(params)
        best, _ = planning.optimal(mdp, horizon)
        random, _ = planning.evaluate(mdp, planning.uniform(mdp), horizon)
        return planning.at_start(mdp, best), planning.at_start(mdp, random)

    of_length = lambda length: values(largest.env, largest.params.replace(length=length))
    lanes = jax.jit(jax.vmap(of_length))(jnp.arange(3, 6))
    for length in (3, 4):
        own = type(largest.env)(capacity=length)
        assert own.size < largest.env.size and own.default_params.length == length
        alone = jax.jit(lambda params, own=own: values(own, params))(own.default_params)
        np.testing.assert_allclose([lane[length - 3] for lane in lanes], alone, rtol=1e-5)


def test_a_traced_number_makes_a_traced_threshold(tasks):
    def solved(fail):
        return tabular.make("tabular/DoubleChain", capacity=5, horizon=6, fail=fail, left_reward=0.3).solved

    values = np.asarray(jax.jit(jax.vmap(solved))(jnp.array([0.2, 0.5])))
    assert values[0] == pytest.approx(tasks["tabular/DoubleChain"].solved, rel=1e-5) and values[1] < values[0]


@pytest.mark.parametrize("name", tabular.NAMES)
def test_render(tasks, name):
    task = tasks[name]
    draw_state = jax.jit(lambda position: task.env.render(TabularState(position, jnp.int32(0)), task.params))
    pictures = np.stack([draw_state(jnp.int32(s)) for s in range(task.num_states)])
    cells = task.env.picture()
    assert pictures.dtype == np.uint8 and pictures.shape == (task.num_states, *(16 * n for n in cells.shape), 3)
    red = (pictures[:, 8::16, 8::16] == (210, 60, 50)).all(-1)  # the middle of each cell
    for s in range(task.num_states):
        np.testing.assert_array_equal(red[s], cells == s)


def test_a_table_of_ones_own():
    """A random MDP with a terminal state; two lanes with other rewards."""
    generator = np.random.default_rng(0)
    mdp = planning.TabularMDP(
        jnp.asarray(generator.dirichlet(np.ones(4), (4, 2)), jnp.float32),
        jnp.asarray(generator.uniform(size=(4, 2)), jnp.float32),
        jnp.array([0.5, 0.5, 0, 0]),
    )
    task = task_of(env := tabular.Table(mdp, horizon=5, num_terminal=1), mdp)
    seen = check_env(task, steps=60)
    assert seen["terminated"] and seen["truncated"] and seen["random_starts"]
    assert task.num_states == 3 and (np.asarray(jax.jit(env.mdp)(mdp).P)[3, :, 3] == 1).all()
    lanes = jax.tree.map(lambda x: jnp.stack([x, x]), mdp)._replace(R=jnp.stack([mdp.R, mdp.R + 1]))
    state = TabularState(jnp.int32(2), jnp.int32(0))
    step = jax.jit(jax.vmap(env.step_env, (None, None, None, 0)))
    _, after, reward, *_ = step(jax.random.key(0), state, jnp.int32(1), lanes)
    np.testing.assert_allclose(reward, [mdp.R[2, 1], mdp.R[2, 1] + 1], rtol=1e-6)
    assert after.position[0] == after.position[1]


@pytest.mark.parametrize(
    ("name", "kwargs", "sentence"),
    [
        ("RiverSwim", {"length": 1}, "length, .* must be a whole number, at least 2, not 1"),
        ("RiverSwim", {"length": 9, "capacity": 6}, r"length of RiverSwim must be a whole number in \[2, 6\]"),
        ("RiverSwim", {"length": 2.5, "capacity": 6}, "must be a whole number"),
        ("RiverSwim", {"advance": 0.97}, r"advance of RiverSwim must be a number in \[0, 0.95\], not 0.97"),
        ("RiverSwim", {"horizon": 0}, "horizon must be a whole number, at least 1, not 0"),
        ("RiverSwim", {"observation": "onehot"}, "did you mean 'one_hot'"),
        ("DoubleChain", {"fail": 1.5}, r"fail of DoubleChain must be a number in \[0, 1\], not 1.5"),
        ("DoubleChain", {"fial": 0.5}, "did you mean 'fail'"),
        ("CombinationLock", {"num_actions": 1}, "num_actions must be a whole number, at least 2"),
        ("CombinationLock", {"swap": float("nan")}, r"swap .* must be a number in \[0, 1\], not nan"),
        ("CombinationLock", {"noise": -1}, "noise .* must be a number in"),
        ("Garnet", {"branching": 51}, "branching must be at most num_states=50, not 51"),
        ("Garnet", {"mdp_seed": -1}, "mdp_seed .* must be a whole number"),
        ("Garnet", {"reward_density": "high"}, "reward_density"),
        ("FourRooms", {"slip": -0.1}, "slip .* must be a number"),
        ("FourRooms", {"layout": "S  "}, "layout has no goal"),
        ("FourRooms", {"layout": "  G"}, "layout has no start"),
        ("FourRooms", {"layout": "S G\n  "}, "lines of equal length"),
        ("FourRooms", {"layout": "S xG"}, "character 'x'"),
    ],
)
def test_bad_input(name, kwargs, sentence):
    with pytest.raises(UserError, match=sentence):
        tabular.make(f"tabular/{name}", **kwargs)


def test_a_traced_length_needs_a_capacity():
    with pytest.raises(UserError, match="needs a capacity"):
        jax.jit(lambda length: tabular.make("tabular/RiverSwim", length=length).solved)(4)
