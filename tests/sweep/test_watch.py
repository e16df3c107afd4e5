"""Pictures of a stored policy: every frame a state of the episode, every count a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxrl.envs.probes import Chain
from jaxrl.errors import UserError
from jaxrl.results import store
from jaxrl.results.plot import visitation
from jaxrl.sweep.run import run
from jaxrl.sweep.watch import _play, load_policy, watch, write_gif


class Drawn(Chain):
    """The chain as a strip of four pixels, the agent's white."""

    map_shape = (1, 3)

    def render(self, state, params):
        strip = jnp.zeros((1, 4, 3), jnp.uint8).at[0, state.position].set(255)
        return jnp.broadcast_to(strip, (2, 4, 3))


@pytest.fixture(scope="module")
def trained(tiny_spec, tmp_path_factory):
    """(directory, lane id, objects) of one lane in the drawn chain."""
    out = tmp_path_factory.mktemp("drawn")
    spec = tiny_spec(env=Drawn, seeds=1, evals=0)
    run(spec, out)
    return out, next(iter(store.committed(out))), spec.objects


def test_the_episode_is_drawn_step_by_step_and_the_map_is_written(trained, tmp_path):
    out, lane, objects = trained
    seen = watch(out, lane, tmp_path / "new" / "folder", episodes=5, objects=objects)
    with Image.open(seen.episode) as gif:
        positions = []
        for number in range(gif.n_frames):
            gif.seek(number)
            frame = np.asarray(gif.convert("RGB"))
            assert frame.shape == (256, 512, 3)
            positions.append(int(frame[0, ::128, 0].argmax()))
    assert positions[0] == 0 and 2 <= len(positions) <= seen.steps + 1 <= 9
    assert (positions[-1] == 3) == (seen.episode_return == 1.0)
    assert seen.visits.stat().st_size > 5000


def test_every_step_of_every_episode_is_counted_where_it_acted(trained):
    policy = load_policy(trained[0], trained[1], greedy=False, objects=trained[2])
    states, alive, returns, counts = _play(policy, 7, jax.random.key(3))
    assert counts[0] >= 7 and 7 <= counts.sum() <= 7 * policy.task.max_steps
    one, alive, _, alone = _play(policy, 1, jax.random.key(3))
    steps = int(alive.sum())
    assert alone.sum() == steps and (np.diff(alive.astype(int)) <= 0).all()
    np.testing.assert_array_equal(alone, np.bincount(np.asarray(one.position)[:steps], minlength=3))


class Nameless(Chain):
    def __init__(self):
        super().__init__()
        self.num_states = self.state_id = None


def test_without_a_picture_the_map_is_drawn_and_without_both_nothing_is_compiled(tiny_spec, tmp_path, monkeypatch):
    spec = tiny_spec(seeds=1, evals=0, steps=32)
    run(spec, tmp_path / "named")
    seen = watch(tmp_path / "named", next(iter(store.committed(tmp_path / "named"))), tmp_path, objects=spec.objects)
    assert seen.episode is None and seen.visits.stat().st_size > 5000 and seen.steps > 0
    spec = tiny_spec(env=Nameless, seeds=1, evals=0, steps=32)
    run(spec, tmp_path / "nameless")
    monkeypatch.setattr("jaxrl.sweep.watch._play", lambda *arguments: pytest.fail("compiled"))
    lane = next(iter(store.committed(tmp_path / "nameless")))
    with pytest.raises(UserError, match="'Nameless' neither draws itself nor names its states: give it render"):
        watch(tmp_path / "nameless", lane, tmp_path, objects=spec.objects)


def test_a_map_leaves_unvisited_states_white_and_must_fit():
    axis = visitation(np.array([3.0, 0, 1, 0, 0, 0]), (2, 3), "world").axes[0]
    shares = axis.images[0].get_array()
    assert shares.shape == (2, 3) and shares[0, 0] == 0.75 and shares.mask.sum() == 4
    assert "2 of 6 states visited" in axis.get_title()
    with pytest.raises(UserError, match="6 states do not fill"):
        visitation(np.zeros(6), (2, 2))
    axis = visitation(np.array([3.0, 1, 0]), (2, 2), cells=np.array([0, 2, 3])).axes[0]
    assert axis.images[0].get_array().tolist() == [[0.75, None], [0.25, None]]


def test_small_pictures_are_enlarged_and_large_ones_are_not(tmp_path):
    for side, expected in ((7, 259), (300, 300)):
        write_gif(np.zeros((2, side, side, 3), np.uint8), tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as gif:
            assert gif.size == (expected, expected)
