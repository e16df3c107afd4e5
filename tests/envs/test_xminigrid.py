import gymnasium
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401  registers MiniGrid's tasks
import numpy as np
import pytest
import xminigrid
from xminigrid.benchmarks import load_benchmark_from_path, save_bz2_pickle
from xminigrid.core.constants import TILES_REGISTRY, Colors, Tiles
from xminigrid.core.goals import AgentHoldGoal
from xminigrid.core.rules import EmptyRule

from jaxrl import envs
from jaxrl.envs.catalogue import row_of, rows
from jaxrl.envs.xminigrid import NAMES
from jaxrl.errors import UserError

FORWARD, RIGHT, PICK = 0, 1, 3


def played(task, actions, seed=0):
    def body(state, inputs):
        key, action = inputs
        obs, state, reward, terminated, truncated, info = task.env.step(key, state, action, None)
        return state, (obs, reward, terminated, truncated, info["final_observation"], task.state_id(state, None))

    @jax.jit
    def run(key, actions):
        obs, state = task.env.reset(key, None)
        return obs, jax.lax.scan(body, state, (jax.random.split(key, len(actions)), actions))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(seed), jnp.int32(actions)))


def test_the_table_is_the_registry():
    assert [name.removeprefix("xminigrid/") for name in NAMES] == list(xminigrid.registered_environments())
    assert [name for name, row in rows().items() if row.source == "xminigrid"] == list(NAMES)


def test_step_limits_are_minigrids():
    for name in ("DoorKey-8x8", "Empty-5x5", "FourRooms", "LockedRoom", "Unlock", "BlockedUnlockPickUp"):
        spec = gymnasium.make(f"MiniGrid-{name.replace('PickUp', 'Pickup')}-v0", disable_env_checker=True)
        assert rows()[f"xminigrid/MiniGrid-{name}"].step_limit == str(spec.unwrapped.max_steps), name


def test_success_terminates_and_the_limit_truncates_once():
    task = envs.make("xminigrid/MiniGrid-Empty-5x5", max_steps=9)
    assert (task.obs_shape, task.obs_dtype, task.num_states, task.solved) == ((7, 7, 2), np.uint8, 25, 0.8)
    way = [FORWARD] * 2 + [RIGHT] + [FORWARD] * 2  # to the goal in five steps; then turn until the limit, twice
    first, (obs, reward, terminated, truncated, final, cells) = played(task, way + [RIGHT] * 19)
    assert np.flatnonzero(terminated).tolist() == [4] and np.flatnonzero(truncated).tolist() == [13, 22]
    np.testing.assert_allclose(reward, np.eye(24)[4] * (1 - 0.9 * 5 / 9), rtol=1e-6)
    np.testing.assert_array_equal(cells[:6], [7, 8, 8, 13, 6, 6])  # row * 5 + column; the fifth is the next start
    for end in (4, 13, 22):
        np.testing.assert_array_equal(obs[end], first)
        assert (final[end] != first).any()


@pytest.fixture
def benchmark(tmp_path):
    """Two rulesets: hold the red ball; hold the blue key. Each has one object, the other one's."""
    ball, key = (TILES_REGISTRY[tile, colour] for tile, colour in ((Tiles.BALL, Colors.RED), (Tiles.KEY, Colors.BLUE)))
    content = {
        "goals": np.stack([AgentHoldGoal(tile).encode() for tile in (ball, key)]),
        "rules": np.stack([EmptyRule().encode()[None]] * 2),
        "init_tiles": np.stack([ball[None], key[None]]),
        "num_rules": np.zeros(2, np.int32),
    }
    save_bz2_pickle(content, str(tmp_path / "two"))
    return load_benchmark_from_path(str(tmp_path / "two"))


def test_a_ruleset_is_what_ends_the_episode(benchmark):
    for ruleset, tile in ((0, Tiles.BALL), (1, Tiles.KEY)):
        task = envs.make("xminigrid/XLand-MiniGrid-R1-9x9", benchmark=benchmark, ruleset=ruleset)
        first = jax.jit(lambda key, task=task: task.env.reset(key, None))(jax.random.key(3))[1]
        state = first.xminigrid
        assert (state.grid[..., 0] == tile).sum() == 1
    row, column = np.argwhere(np.asarray(state.grid[..., 0] == Tiles.KEY))[0]
    beside = jnp.array([row - 1, column]) if row > 1 else jnp.array([row + 1, column])
    agent = state.agent.replace(position=beside, direction=jnp.asarray(2 if row > 1 else 0))
    state = first._replace(xminigrid=state.replace(agent=agent))
    step = jax.jit(lambda state: task.env.step_env(jax.random.key(0), state, jnp.int32(PICK), None))
    _, _, reward, terminated, truncated, _ = step(state)
    assert (bool(terminated), bool(truncated)) == (True, False)
    np.testing.assert_allclose(reward, 1 - 0.9 / 243, rtol=1e-6)


def test_without_a_number_each_episode_draws_its_ruleset(benchmark):
    task = envs.make("xminigrid/XLand-MiniGrid-R1-9x9", benchmark=benchmark)
    resets = jax.jit(jax.vmap(lambda key: task.env.reset(key, None)[1]))
    states = resets(jax.random.split(jax.random.key(0), 64))
    balls = (states.xminigrid.grid[..., 0] == Tiles.BALL).any((1, 2)).sum()
    assert 16 < balls < 48


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"benchmark": "trivial-21"}, r"unknown benchmark .*'trivial-21': did you mean 'trivial-21k'"),
        ({"benchmark": "trivial-21k"}, r"benchmark 'trivial-21k' is not installed in .*to download it"),
        ({"ruleset": 3}, "ruleset = 3 of xminigrid/XLand-MiniGrid-R1-9x9 needs a benchmark"),
        ({"view_size": 4}, "view_size = 4 of .*: must be odd"),
        ({"view": 5}, "unknown argument of xminigrid/XLand-MiniGrid-R1-9x9 'view': did you mean 'view_size'"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(monkeypatch, tmp_path, kwargs, sentence):
    monkeypatch.setattr("jaxrl.envs.xminigrid.DATA_PATH", str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        envs.make("xminigrid/XLand-MiniGrid-R1-9x9", **kwargs)


def test_a_ruleset_beyond_the_benchmark(benchmark):
    with pytest.raises(UserError, match=r"ruleset = 2 of its benchmark: must be in \[0, 1\]"):
        envs.make("xminigrid/XLand-MiniGrid-R1-9x9", benchmark=benchmark, ruleset=2)


class Mark:
    def __reduce__(self):
        return open, ("ran", "w")


def test_no_file_that_an_argument_names_is_unpickled(tmp_path, monkeypatch):
    """An argument may come from a spec or from results that somebody else wrote."""
    monkeypatch.chdir(tmp_path)
    save_bz2_pickle(Mark(), str(tmp_path / "rules.bz2"))
    for path in ("rules.bz2", "./rules.bz2", str(tmp_path / "rules.bz2")):
        with pytest.raises(UserError, match="a benchmark file is a pickle, which runs what its author put in"):
            envs.make("xminigrid/XLand-MiniGrid-R1-9x9", benchmark=path)
    assert not (tmp_path / "ran").exists()


def test_contract_and_catalogue():
    task = envs.make("xminigrid/MiniGrid-DoorKey-5x5")
    assert row_of(task, "xminigrid") == rows()[task.name]
    report = envs.check_env(task, steps=600)
    assert report["limit_tested"] and report["reset_tested"] and report["random_starts"]
