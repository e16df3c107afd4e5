"""jaxtari: Atari games in JAX, ``jaxtari/montezumarevenge`` and so on. Untested with assets.

Written against jaxtari 0.2.0 and tested only where it fails: no game can be constructed without a sprite pack, which
jaxtari's own installer downloads after asking whether the user owns the ROMs. jaxrl never answers that for anybody. The
pack is more than pictures, it holds the rooms' collision maps, so returns are comparable only between equal packs:
``assets_sha256`` says which one it was.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import AutoReset, Task
from jaxrl.errors import UserError, unknown
from jaxrl.spaces import read
from jaxrl.types import Array, Key, PyTree

# jaxtari's registry, written out because the package is not among what jaxrl is tested with.
_GAMES = """
    airraid alien amidar assault asterix asteroids atlantis backgammon bankheist basicmath beamrider berzerk
    blackjack boxing breakout casinoblackjack casinofivestudpoker casinopokersolitaire centipede choppercommand
    donkeykong enduro fishingderby flagcapture freeway frostbite galaxian gopher gravitar hangman hauntedhouse
    humancannonball journeyescape kaboom kangaroo kingkong klax lasergates miniaturegolf montezumarevenge
    mspacman namethisgame othello pacman phoenix pong qbert riverraid roadrunner seaquest sirlancelot skiing
    slotmachine spaceinvaders spacewar surround tennis tetris timepilot tron turmoil upndown venture
    videocheckers videochess videocube videopinball wizardofwor wordzapper yarsrevenge
"""
NAMES = tuple(f"jaxtari/{game}" for game in _GAMES.split())
_SKIP, _SIDE = 4, 84  # frames per step, and pixels of the picture's sides: the usual preprocessing (Mnih et al. 2015)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class State(NamedTuple):
    jaxtari: PyTree  # the state of jaxtari's AtariWrapper; chance comes from the key inside it
    frames: Array  # [84, 84, 4] uint8  the last four pictures, the newest last
    time: Array  # [] int32  steps since the reset


def make(name: str, **kwargs: Any) -> Task:
    """The task of a game; arguments: ``view``, ``max_steps``, ``sticky_actions``, ``noop_max``, ``mods``.

    Raises UserError where the sprite pack is not installed, ModuleNotFoundError without jaxtari.
    """
    import jaxtari
    from jaxtari.paths import ownership_or_alt_markers_present

    if not ownership_or_alt_markers_present():
        raise UserError(
            f"environment {name!r} needs jaxtari's sprite pack, which is not installed here: "
            "run python -m jaxtari.install_sprites and answer its question"
        )
    # Otherwise an outdated pack is asked about at the terminal, in the middle of a program.
    os.environ.setdefault("JAXTARI_SKIP_SPRITE_UPDATE", "1")

    def build(
        view: str = "pixels",
        max_steps: int = 4500,
        sticky_actions: float = 0.25,
        noop_max: int = 30,
        mods: tuple[str, ...] = (),
    ) -> Jaxtari:
        if view not in ("pixels", "objects"):
            raise unknown(f"view of {name}", view, ("pixels", "objects"))
        if wrong := [mod for mod in mods if not str(mod).isidentifier()]:
            raise UserError(f"mods = {wrong[0]!r} of {name}: a mod is a plain word, as jaxtari names them")
        game = jaxtari.make(name.removeprefix("jaxtari/"), mods=list(mods) or None)
        return Jaxtari(game, view == "pixels", max_steps, sticky_actions, noop_max)

    return construct(name, build, kwargs)


class Jaxtari(AutoReset):
    """A game at four frames a step; uint8 ``[84, 84, 4]`` grey pictures, or the game's objects as one float32 vector.

    Actions are repeated by chance (``sticky_actions``) and an episode begins with up to ``noop_max`` frames of waiting,
    as jaxtari does both. The game's end terminates, a lost life does not; ``max_steps`` steps truncate (4500 are 18,000
    frames, RND's limit). Rewards are the game's score, not clipped. jaxtari's own pixel wrapper is not used: it resets
    by itself and loses the final observation.
    """

    lazy_reset = True

    def __init__(self, game: Any, pixels: bool, max_steps: int, sticky_actions: float, noop_max: int):
        from jaxtari.paths import get_base_sprite_dir
        from jaxtari.wrappers import AtariWrapper

        self.env = AtariWrapper(
            game,
            sticky_actions=sticky_actions,
            episodic_life=False,
            noop_max=noop_max,
            max_frames_per_episode=2**30,  # the limit is ours, counted in steps
        )
        self.pixels, self.max_steps = pixels, max_steps
        self.actions = read("jaxtari", game.action_space())
        self.assets_sha256 = tree_sha256(Path(get_base_sprite_dir()))

    def reset_env(self, key: Key, params: Any) -> tuple[PyTree, State]:
        objects, state = self.env.reset(key)
        picture = _grey(self.env.render(state.env_state))
        state = State(state, jnp.stack([picture] * _SKIP, axis=-1), jnp.int32(0))
        return self._observe(objects, state), state

    def step_env(self, key: Key, state: State, action: Array, params: Any) -> tuple:
        def frame(carry, _):
            objects, game, over, score = carry
            new_objects, new_game, reward, terminated, _, _ = self.env.step(game, action)
            keep = lambda old, new: jnp.where(over, old, new)  # a game that has ended stays as it ended
            carry = jax.tree.map(keep, (objects, game), (new_objects, new_game))
            return (*carry, over | terminated, score + jnp.where(over, 0.0, reward)), game.env_state

        objects = jax.eval_shape(self.env.reset, key)[0]
        carry = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), objects), state.jaxtari, jnp.bool_(False), 0.0
        (objects, game, over, score), befores = jax.lax.scan(frame, carry, None, _SKIP)
        # Some games draw an object only every other frame: the maximum of the last two pictures shows it.
        before = jax.tree.map(lambda x: x[-1], befores)
        picture = _grey(jnp.maximum(self.env.render(before), self.env.render(game.env_state)))
        frames = jnp.concatenate([state.frames[..., 1:], picture[..., None]], axis=-1)
        state = State(game, frames, state.time + 1)
        return self._observe(objects, state), state, score, over, state.time >= self.max_steps, {}

    def _observe(self, objects: PyTree, state: State) -> PyTree:
        return state.frames if self.pixels else objects


def _grey(picture: Array) -> Array:
    """uint8 ``[84, 84]`` from uint8 ``[H, W, 3]``."""
    grey = picture.astype(jnp.float32) @ jnp.array(_LUMA)
    return jax.image.resize(grey, (_SIDE, _SIDE), "bilinear").round().astype(jnp.uint8)


def tree_sha256(root: Path) -> str:
    """The SHA-256 of every file below a directory, names and contents, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
