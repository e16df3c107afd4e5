"""Each wrapper by hand on environments of a few lines, then what all of them share."""

import os
import subprocess
import sys
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs
from jaxrl.agents.random import random
from jaxrl.envs.contract import AutoReset, task_of
from jaxrl.envs.params import Around, param_names, replaced
from jaxrl.envs.wrappers import CATALOGUE, Wrapper, read, text_of, wrapped
from jaxrl.envs.wrappers.actions import StickyActions
from jaxrl.errors import UserError
from jaxrl.trainers.rollout import collect, start
from jaxrl.types import Box, Discrete

KEYS = jax.random.split(jax.random.key(0), 2000)


def around(*wrap, env="probe/chain", **kwargs):
    return wrapped(envs.make(env, **kwargs), wrap)


def play(task, actions, key=0):
    """What each step returned, as a list of (obs, reward, terminated, truncated, info), after the first obs."""
    step = jax.jit(lambda key, state, action: task.env.step(key, state, action, task.params))
    reset_key, *keys = jax.random.split(jax.random.key(key), len(actions) + 1)
    obs, state = task.env.reset(reset_key, task.params)
    seen = []
    for key, action in zip(keys, actions, strict=True):
        after, state, *rest = step(key, state, jnp.asarray(action))
        seen.append((np.asarray(after), *jax.device_get(rest)))
    return np.asarray(obs), seen


@flax.struct.dataclass
class World:
    scale: float = 1.0
    probability: float = 0.5  # a name that sticky_actions has too


class Track(AutoReset):
    """A row of cells; action 1 moves right and pays its cell's number times scale, 0 stays. The start is random."""

    default_params = World()
    actions = Discrete(2)
    max_steps = 6
    num_states = 64
    lazy_reset = True
    shape: tuple = (1,)

    def solved(self, params):
        return 10 * params.scale

    def state_id(self, state, params):
        return state["cell"]

    def render(self, state, params):
        return jnp.full((2, 2, 3), state["cell"], jnp.uint8)

    def obs(self, cell):
        return jnp.full(self.shape, cell, jnp.uint8)

    def reset_env(self, key, params):
        cell = jax.random.randint(key, (), 0, 50)
        return self.obs(cell), {"cell": cell, "time": jnp.int32(0)}

    def step_env(self, key, state, action, params):
        state = {"cell": state["cell"] + action, "time": state["time"] + 1}
        reward = params.scale * state["cell"] * action
        return self.obs(state["cell"]), state, reward, False, state["time"] >= self.max_steps, {"cell": state["cell"]}


class Sum(AutoReset):
    """Pays the sum of a Box action."""

    actions = Box(-1.0, 1.0, (2,))
    max_steps = 4

    def reset_env(self, key, params):
        return jnp.zeros(1), jnp.int32(0)

    def step_env(self, key, time, action, params):
        return jnp.zeros(1), time + 1, action.sum(), False, time + 1 >= 4, {}


class Bare:
    """reset and step only, and a tree for an observation."""

    actions, max_steps = Discrete(2), 3

    def reset(self, key, params=None):
        return {"a": jnp.zeros((2, 2)), "b": jnp.int32(1)}, jnp.int32(0)

    def step(self, key, state, action, params=None):
        over = state + 1 >= 3
        after = {"a": jnp.full((2, 2), state + 1.0), "b": jnp.int32(1)}
        first, _ = self.reset(key)
        obs = jax.tree.map(lambda a, b: jnp.where(over, a, b), first, after)
        return obs, jnp.where(over, 0, state + 1), jnp.float32(1), False, over, {"final_observation": after}


def pictures(shape):
    env = Track()
    env.shape = shape
    return task_of(env, World())


# --- sticky actions


@pytest.fixture(scope="module")
def sticky():
    task = around("sticky_actions")

    @jax.jit
    def positions(probability):
        """Where action 1, then 2, then 0 lead in 2,000 environments: [2000, 3]."""
        params = replaced(task.params, "probability", probability)

        def one(key):
            reset_key, *keys = jax.random.split(key, 4)
            _, state = task.env.reset(reset_key, params)
            visits = []
            for key, action in zip(keys, (1, 2, 0), strict=True):
                _, state, *_ = task.env.step(key, state, jnp.int32(action), params)
                visits.append(state.inner.position)
            return jnp.stack(visits)

        return jax.vmap(one)(KEYS)

    return positions


def test_sticky_actions_repeat_the_executed_action_as_often_as_they_should(sticky):
    visits = np.asarray(sticky(0.25))
    np.testing.assert_array_equal(visits[:, 0], 1)  # an episode's first action is never replaced
    stuck = visits[:, 1] == 1
    assert set(np.unique(visits[:, 1])) == {1, 2} and abs(stuck.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)
    again = visits[:, 2] != 0
    np.testing.assert_array_equal(visits[again, 2], visits[again, 1])  # what was executed, not what was chosen
    assert abs(again.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_sticky_probability_is_traced(sticky):
    np.testing.assert_array_equal(np.unique(sticky(0.0), axis=0), [[1, 2, 0]])
    np.testing.assert_array_equal(np.unique(sticky(1.0), axis=0), [[1, 1, 1]])
    assert sticky._cache_size() == 1


def test_sticky_actions_of_a_box_forget_at_a_new_episode():
    actions = [[0.5, 0.5], [-1.0, -1.0], [0.0, 1.0], [0.2, 0.0], [-0.5, 0.0], [1.0, 1.0]]
    _, seen = play(around("sticky_actions(probability=1)", env=Sum), actions)
    np.testing.assert_allclose([reward for _, reward, *_ in seen], [1, 1, 1, 1, -0.5, -0.5])


# --- observations


def test_frame_stack_shows_the_oldest_first_and_repeats_the_first_observation():
    one_hot = np.eye(4, dtype=np.float32)
    obs, seen = play(around("frame_stack(frames=3)"), [1, 2, 0, 3, 1])
    expected = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 0], [0, 0, 0], [0, 0, 1]]
    for found, positions in zip([obs, *(step[0] for step in seen)], expected, strict=True):
        np.testing.assert_array_equal(found.reshape(3, 4), one_hot[positions])
    final = seen[3][4]["final_observation"].reshape(3, 4)
    np.testing.assert_array_equal(final, one_hot[[2, 0, 3]])


@pytest.mark.parametrize(("shape", "stacked"), [((), (3,)), ((5,), (15,)), ((4, 5), (4, 5, 3)), ((4, 5, 2), (4, 5, 6))])
def test_frame_stack_stacks_on_the_last_axis(shape, stacked):
    task = wrapped(pictures(shape), ["frame_stack(frames=3)"])
    assert (task.obs_shape, task.obs_dtype) == (stacked, np.uint8)
    obs, seen = play(task, [1, 1])
    # Every value of a Track's observation is its cell, so along the last axis the cells follow each other.
    frames = np.repeat(obs.reshape(-1)[0] + np.arange(3), stacked[-1] // 3)
    np.testing.assert_array_equal(seen[-1][0], np.broadcast_to(frames, stacked))


def test_flattening_serves_environments_without_reset_env_and_pictures_when_asked():
    task = task_of(Bare(), None)
    assert task.obs_shape == (5,) and envs.check_env(task, steps=7)["truncated"] == 2
    carry = start(jax.random.key(0), task, 2)
    _, _, rollout, _ = collect(jax.random.key(1), task, random(actions=task.actions), (), (), carry, 4)
    np.testing.assert_array_equal(rollout.batch.next_obs[:, 0, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(rollout.batch.obs[:, 0, 0], [0, 1, 2, 0])
    assert pictures((4, 5, 2)).obs_shape == (4, 5, 2)
    flat = wrapped(pictures((4, 5, 2)), ["flatten_observation"])
    assert (flat.obs_shape, flat.obs_dtype) == ((40,), np.uint8)
    _, seen = play(flat, [1] * 6)
    assert seen[-1][4]["final_observation"].shape == (40,)


# --- noisy TV


def test_the_remote_control_changes_the_picture_and_nothing_else():
    task = around("noisy_tv(size=3)", max_steps=6)
    assert task.actions == Discrete(5) and task.obs_shape == (7,)
    obs, seen = play(task, [1, 4, 4, 2, 4, 4])
    pictures = [obs[4:], *(step[4]["final_observation"][4:] for step in seen)]
    changed = [not np.array_equal(a, b) for a, b in zip(pictures, pictures[1:], strict=False)]
    assert changed == [False, True, True, False, True, True]
    positions = [step[4]["final_observation"][:4].argmax() for step in seen]
    assert positions == [1, 1, 1, 2, 2, 2]  # the world stands still
    assert [bool(step[3]) for step in seen] == [False] * 5 + [True]  # and its clock does not
    assert not any(step[1] or step[2] for step in seen)
    assert all((picture >= 0).all() and (picture < 1).all() for picture in pictures)


def test_the_true_state_stands_still_too():
    task = around("noisy_tv")
    _, state = task.env.reset(jax.random.key(0), task.params)
    for action, position in ((2, 2), (4, 2), (4, 2), (1, 1)):
        _, state, *_ = task.env.step(jax.random.key(1), state, jnp.int32(action), task.params)
        assert task.state_id(state, task.params) == position


def test_standing_still_pays_and_reports_nothing():
    _, seen = play(around("noisy_tv", env=Track), [1, 2, 1])
    cells = [int(step[4]["cell"]) for step in seen]
    assert cells[0] > 0 and cells[1:] == [0, cells[0] + 1]
    assert [float(step[1]) for step in seen] == [cells[0], 0, cells[0] + 1]


def test_a_television_that_is_always_on_and_its_channels():
    few, endless = around("noisy_tv(when='always', channels=2, size=2)"), around("noisy_tv(when=always, size=2)")
    assert few.actions == Discrete(4)
    screens = {name: {tuple(step[0][4:]) for step in play(task, [0] * 30)[1]} for name, task in
               (("few", few), ("endless", endless))}  # fmt: skip
    assert len(screens["few"]) == 2 and len(screens["endless"]) == 30


def test_the_picture_covers_one_corner_in_the_levels_asked_for():
    task = wrapped(pictures((6, 5, 2)), ["noisy_tv(when=always, size=3, levels=7)"])
    obs, seen = play(task, [0] * 4)
    patches = np.stack([step[0][:3, :3] for step in seen])
    assert patches.dtype == np.uint8 and set(np.unique(patches)) == set(range(7))
    outside = np.ones((6, 5), bool)
    outside[:3, :3] = False
    assert all((step[0][outside] == obs[-1, -1, 0]).all() for step in seen)


# --- rewards


def test_reward_free_keeps_the_original_in_info():
    task = around("reward_free", env=Track)
    _, seen = play(task, [1, 0, 1])
    assert [float(step[1]) for step in seen] == [0, 0, 0]
    cells = [int(step[4]["cell"]) for step in seen]
    assert [float(step[4]["original_reward"]) for step in seen] == [cells[0], 0, cells[2]]
    assert task.solved is None


def test_sparse_reward_pays_above_the_threshold_only():
    _, plain = play(around(env=Sum), actions := [[0.2, 0], [0.6, 0], [0.5, 0], [-1, 0], [1, 1], [1, 1], [0, 0], [0, 0]])
    np.testing.assert_allclose([step[1] for step in plain], [0.2, 0.6, 0.5, -1, 2, 2, 0, 0], rtol=1e-6)
    _, seen = play(around("sparse_reward(threshold=0.5)", env=Sum), actions)
    np.testing.assert_allclose([step[1] for step in seen], [0, 0.6, 0, 0, 2, 2, 0, 0], rtol=1e-6)
    _, seen = play(around("sparse_reward(threshold=0.5, at_end=True)", env=Sum), actions)
    np.testing.assert_allclose([step[1] for step in seen], [0, 0, 0, 0, 0, 0, 0, 4], rtol=1e-6)
    np.testing.assert_allclose([step[4]["original_reward"] for step in seen], [step[1] for step in plain])


@pytest.mark.parametrize(
    ("period", "paid"), [(1, [1, 2, 3, 4, 5, 6]), (4, [0, 0, 0, 10, 0, 11]), (0, [0, 0, 0, 0, 0, 21])]
)
def test_delayed_reward_pays_the_sum_every_period_and_at_the_end(period, paid):
    class Growing(Track):
        def reset_env(self, key, params):
            return self.obs(0), {"cell": jnp.int32(0), "time": jnp.int32(0)}

    task = around(f"delayed_reward(period={period})", env=Growing)
    _, seen = play(task, [1] * 12)
    assert [float(step[1]) for step in seen] == paid * 2
    assert task.solved == 10


def test_the_innermost_reward_is_the_original():
    _, seen = play(around("delayed_reward(period=2)", "reward_free", env=Track), [1, 1])
    assert float(seen[0][4]["original_reward"]) == seen[0][4]["cell"]


# --- contexts


@pytest.fixture(scope="module")
def drawn():
    task = around("context_seeding", env=Track)

    @jax.jit
    def draw(contexts, context_seed):
        """(context, start cell) of 2,000 episodes."""
        params = replaced(replaced(task.params, "contexts", contexts), "context_seed", context_seed)
        _, state = jax.vmap(lambda key: task.env.reset(key, params))(KEYS)
        return state.own, state.inner["cell"]

    return draw


def test_equal_contexts_are_the_same_world(drawn):
    contexts, cells = map(np.asarray, drawn(5, 0))
    counts = np.bincount(contexts)
    assert len(counts) == 5 and (abs(counts - 400) < 5 * np.sqrt(2000 * 0.2 * 0.8)).all()
    worlds = {context: set(cells[contexts == context]) for context in range(5)}
    assert all(len(world) == 1 for world in worlds.values()) and len(set.union(*worlds.values())) > 1
    more, more_cells = map(np.asarray, drawn(8, 0))
    assert {c: set(more_cells[more == c]) for c in range(5)} == worlds  # a larger set contains the smaller
    other, other_cells = map(np.asarray, drawn(5, 1))
    assert {c: set(other_cells[other == c]) for c in range(5)} != worlds


def test_without_a_bound_every_episode_is_a_context_of_its_own(drawn):
    contexts, cells = map(np.asarray, drawn(0, 0))
    assert len(np.unique(contexts)) == 2000 and contexts.dtype == np.int32 and contexts.min() >= 0
    assert len(np.unique(cells)) == 50
    assert len(np.unique(drawn(1, 0)[1])) == 1
    assert drawn._cache_size() == 1


def test_the_context_of_the_episode_is_in_info():
    task = around("context_seeding(contexts=3)", env=Track)
    _, seen = play(task, [0] * 24)
    contexts = np.array([step[4]["context"] for step in seen]).reshape(4, 6)
    cells = np.array([step[4]["cell"] for step in seen]).reshape(4, 6)
    assert (contexts == contexts[:, :1]).all() and len(np.unique(contexts)) > 1
    assert all(len(np.unique(cells[contexts == context])) == 1 for context in np.unique(contexts))


# --- what all of them share

ALL = ("sticky_actions", "frame_stack(frames=2)", "noisy_tv", "context_seeding(contexts=4)", "delayed_reward")


def test_whatever_a_wrapper_does_not_change_is_the_environments():
    plain, task = around(env=Track, scale=2.0), around(*ALL, env=Track, scale=2.0)
    assert (task.max_steps, task.num_states, task.solved, task.env.lazy_reset) == (6, 64, 20.0, True)
    assert task.name == plain.name == "Track"
    _, state = task.env.reset(jax.random.key(1), task.params)
    _, state, *_ = task.env.step(jax.random.key(2), state, jnp.int32(1), task.params)
    core = state
    while isinstance(core, Around):
        core = core.inner
    assert core["time"] == 1 and task.state_id(state, task.params) == core["cell"] > 0
    np.testing.assert_array_equal(task.env.render(state, task.params), np.full((2, 2, 3), core["cell"]))
    assert not hasattr(around("frame_stack", env=Sum).env, "render")


REST = ("sparse_reward", "noisy_tv(when=always)", "flatten_observation", "reward_free", "augment_obs")


@pytest.mark.parametrize("wrap", [ALL, REST])
def test_every_wrapper_keeps_the_contract(wrap):
    assert {text.partition("(")[0] for text in (*ALL, *REST)} == set(CATALOGUE)
    report = envs.check_env(around(*wrap, env=Track), steps=20)
    assert report["limit_tested"] and report["truncated"] == 3 and report["terminated"] == 0


def test_params_go_by_flat_names_and_the_outermost_is_meant():
    task = around("sticky_actions(probability=0.1)", "context_seeding(contexts=4)", env=Track, probability=0.7)
    assert param_names(task.params) == ["contexts", "context_seed", "probability", "scale"]
    assert (task.params.contexts, task.params.probability, task.params.scale) == (4, 0.1, 1.0)
    changed = replaced(replaced(task.params, "probability", 0.2), "scale", 3.0)
    sticky = changed.inner
    assert (sticky.own.probability, sticky.inner) == (0.2, World(scale=3.0, probability=0.7))
    with pytest.raises(AttributeError, match="have a field 'speed'"):
        _ = task.params.speed
    assert envs.make(lambda: StickyActions(Track(), task.params.inner.own), scale=4.0).params.scale == 4.0


def doubled(env, factor=2.0, *, times=1):
    class Doubled(Wrapper):
        remembers = False

        def step_env(self, key, state, action, params):
            obs, state, reward, *rest = self.env.step_env(key, state, action, params)
            return obs, state, reward * factor**times, *rest

    return Doubled(env)


def test_a_users_own_wrapper_from_python_and_by_reference(tmp_path, monkeypatch):
    _, plain = play(around(env=Track), [1])
    _, seen = play(around(doubled, env=Track), [1])
    assert seen[0][1] == 2 * plain[0][1]
    reference = f"{__name__}:doubled"
    task = wrapped(envs.make(Track), [f"{reference}(factor=3, times=2)"], {reference: doubled})
    assert play(task, [1])[1][0][1] == 9 * plain[0][1]
    (tmp_path / "own_wrappers.py").write_text("from jaxrl.envs.wrappers.rewards import reward_free as nothing\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert play(around("own_wrappers:nothing", env=Track), [1])[1][0][1] == 0


def nothing(scale=1.0): ...


def test_order_is_innermost_first():
    first = around("sparse_reward(threshold=1000)", "delayed_reward(period=0)", env=Track)
    second = around("delayed_reward(period=0)", "sparse_reward(threshold=100)", env=Track)
    assert sum(step[1] for step in play(first, [1] * 6)[1]) == 0
    assert play(second, [1] * 6)[1][-1][1] > 100


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sticky_action", "unknown wrapper 'sticky_action': did you mean 'sticky_actions'"),
        ("frame_stack(frame=2)", "unknown frame_stack parameter 'frame': did you mean 'frames'"),
        ("frame_stack(frames=0)", r"frame_stack.frames = 0: must be in \[1, 64\]"),
        ("sticky_actions(probability=1.5)", r"sticky_actions.probability = 1.5: must be in \[0, 1\]"),
        ("context_seeding(contexts=2.5)", "context_seeding.contexts = 2.5: must be a whole number"),
        ("noisy_tv(when=never)", "unknown noisy_tv.when 'never': allowed: action, always"),
        ("noisy_tv(when='on the hour')", "refused"),
        ("sticky_actions(0.1)", "takes keywords only"),
        ("sticky_actions + noisy_tv", "must be one call"),
        ("0.5", "must be one call"),
        ("__import__('os')", "unknown wrapper '__import__'"),
        ("sticky_actions(", "wrapper 'sticky_actions.', column"),
        ("absent_module:thing", "no Python source for module 'absent_module'"),
    ],
)
def test_a_mistake_is_a_sentence(text, sentence):
    with pytest.raises(UserError, match=sentence):
        read(text)


def test_what_only_the_environment_can_tell_is_a_sentence_too():
    with pytest.raises(UserError, match="'Bare' cannot be wrapped, because it has reset and step only"):
        around("sticky_actions", env=Bare)
    with pytest.raises(UserError, match="noisy_tv.when=action. needs discrete actions"):
        around("noisy_tv", env=Sum)
    with pytest.raises(UserError, match=r"noisy_tv\(size=4\) does not fit observations of the shape \(3, 3\)"):
        wrapped(pictures((3, 3)), ["noisy_tv"])
    with pytest.raises(UserError, match="wrapper '<lambda>' made a Track"):
        around(lambda env: Track(), env=Track)
    with pytest.raises(UserError, match="wrapper 'Wrong' cannot be put around environment 'Track'"):
        around(type("Wrong", (Wrapper,), {"__init__": lambda self: None}), env=Track)
    with pytest.raises(UserError, match="must take one argument without a default, the environment"):
        read("parts:nothing", {"parts:nothing": nothing})


def test_texts_have_one_spelling():
    assert text_of(read(" noisy_tv( size = 2 , when='always')")) == "noisy_tv(size=2, when=always)"
    for name, reference in CATALOGUE.items():
        assert text_of(read(reference)) == name


def test_reading_needs_no_jax():
    program = (
        "import sys, time; start = time.monotonic()\n"
        "from jaxrl.envs.wrappers import read\n"
        "read('noisy_tv(when=always)')\n"
        "assert 'jax' not in sys.modules, 'jax was imported'\n"
        "assert time.monotonic() - start < 1.0, time.monotonic() - start"
    )
    path = os.pathsep.join([str(Path(jaxrl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": path})
