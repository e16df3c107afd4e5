"""No sprite pack may be downloaded by a test: the error paths, and the adapter's own arithmetic on a made-up game."""

import sys
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.jaxtari import tree_sha256
from jaxrl.errors import UserError
from jaxrl.types import Discrete


class Game(NamedTuple):
    """A game of `frame` frames so far; pays 1 a frame and is over after 10."""

    env_state: jax.Array


class Wrapper:
    """What the adapter uses of jaxtari's AtariWrapper."""

    def __init__(self, game, **options):
        self.options = options

    def reset(self, key):
        return {"frame": jnp.int32(0)}, Game(jnp.int32(0))

    def step(self, game, action):
        frame = game.env_state + 1
        return {"frame": frame}, Game(frame), 1.0, frame >= 10, False, {}

    def render(self, frame):
        """Even frames show the left half only, odd ones the right half only: a flicker."""
        left = jnp.where(jnp.arange(160) < 80, 1 - frame % 2, frame % 2)
        return jnp.broadcast_to((frame * 10 * left)[None, :, None], (210, 160, 3)).astype(jnp.uint8)


@pytest.fixture
def jaxtari(monkeypatch, tmp_path):
    """A module of the name, with assets unless `installed` is set to False."""
    fake, paths, wrappers = (types.ModuleType(name) for name in ("jaxtari", "jaxtari.paths", "jaxtari.wrappers"))
    fake.installed, fake.paths, fake.wrappers = True, paths, wrappers
    game = types.SimpleNamespace(action_space=lambda: Discrete(6))
    fake.make = lambda name, mods=None: game
    paths.ownership_or_alt_markers_present = lambda: fake.installed
    paths.get_base_sprite_dir = lambda: str(tmp_path)
    wrappers.AtariWrapper = Wrapper
    for module in (fake, paths, wrappers):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("JAXTARI_SKIP_SPRITE_UPDATE", "1")
    return fake


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxtari", None)
    with pytest.raises(UserError, match=r"needs the package 'jaxtari'.*: pip install 'jaxrl\[atari\]'") as error:
        envs.make("jaxtari/pong")
    assert "\n" not in str(error.value)


def test_without_assets_one_line_says_what_to_run(jaxtari):
    jaxtari.installed = False
    with pytest.raises(UserError, match=r"sprite pack, which is not installed.*jaxtari\.install_sprites") as error:
        envs.make("jaxtari/montezumarevenge")
    assert "\n" not in str(error.value)


def test_an_unknown_view_is_refused(jaxtari):
    with pytest.raises(UserError, match="unknown view of jaxtari/pong 'pixel': did you mean 'pixels'"):
        envs.make("jaxtari/pong", view="pixel")


def test_four_frames_a_step_and_the_end_is_neither_passed_nor_paid(jaxtari):
    task = envs.make("jaxtari/pong", max_steps=5)
    assert (task.obs_shape, task.obs_dtype, task.max_steps, task.actions.n) == ((84, 84, 4), np.uint8, 5, 6)
    assert task.env.env.options["episodic_life"] is False and task.env.env.options["sticky_actions"] == 0.25
    _, state = task.env.reset(jax.random.key(0), None)
    step = jax.jit(lambda state: task.env.step_env(jax.random.key(0), state, jnp.int32(0), None))
    seen = []
    for _ in range(3):
        obs, state, reward, terminated, truncated, _ = step(state)
        seen.append((float(reward), bool(terminated), bool(truncated)))
    assert seen == [(4, False, False), (4, False, False), (2, True, False)]
    assert int(state.jaxtari.env_state) == 10
    # The last two frames of each step, one half each, in one picture; older pictures before it.
    assert obs[0, [0, 83]].tolist() == [[0, 40, 80, 100], [0, 30, 70, 0]]


def test_the_limit_truncates(jaxtari):
    report = envs.check_env(envs.make("jaxtari/pong", max_steps=2, view="objects"), steps=8)
    assert (report["truncated"], report["terminated"], report["limit_tested"]) == (4, 0, True)


def test_the_hash_is_of_names_and_contents(tmp_path, jaxtari):
    (tmp_path / "a").write_bytes(b"1")
    first = tree_sha256(tmp_path)
    assert envs.make("jaxtari/pong").env.assets_sha256 == first and len(first) == 64
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = tree_sha256(tmp_path)
    (tmp_path / "b").write_bytes(b"2")
    assert len({first, renamed, tree_sha256(tmp_path)}) == 3
