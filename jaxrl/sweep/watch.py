"""What a stored policy does: one episode as an animated GIF, and a map of where many episodes went."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxrl.errors import UserError
from jaxrl.keys import key_of, with_generator
from jaxrl.results import plot
from jaxrl.sweep.policy import Policy, load_policy
from jaxrl.trainers.rollout import start, step_all
from jaxrl.types import Key

FRAMES_PER_SECOND = 8
SMALLEST = 256  # pixels: smaller pictures are enlarged by a whole factor
MAX_FRAMES = 1000  # ours: a longer episode is shown to here


class Watched(NamedTuple):
    episode: Path | None  # GIF; None where the environment cannot draw itself
    visits: Path | None  # PNG; None where the environment cannot name its states
    steps: int  # of the episode shown
    episode_return: float


def watch(
    directory: str | Path,
    lane: str,
    out: str | Path,
    *,
    episodes: int = 64,
    seed: int = 0,
    greedy: bool = False,
    allow: Collection[str] = (),
    objects: Mapping[str, Callable] | None = None,
) -> Watched:
    """Play `episodes` episodes with the policy that `lane` ended with; draw the first, and count the states of all.

    Writes `out`/LANE.gif where the environment draws itself, and where it names its states `out`/LANE-visits.png: the
    share of steps spent in each. `seed` chooses the episodes. `allow` and `objects` as for `load_policy`.

    Raises:
        UserError: no such lane, code that is not allowed, or an environment that neither draws itself nor names its
            states.
    """
    policy = load_policy(directory, lane, greedy=greedy, allow=allow, objects=objects)
    render = getattr(policy.task.env, "render", None)
    if render is None and policy.task.num_states is None:
        raise UserError(
            f"environment {policy.task.name!r} neither draws itself nor names its states: give it "
            "render(state, params), or num_states and state_id(state, params)"
        )
    shown, alive, returns, counts = jax.jit(lambda key: _play(policy, episodes, key))(key_of(seed))
    steps = int(alive.sum())
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    episode, visits = None, None
    if render is not None:
        some = jax.tree.map(lambda x: x[: min(steps, MAX_FRAMES) + 1], shown)
        drawn = with_generator(render)
        draw = lambda states: jax.lax.map(lambda state: drawn(state, policy.task.params), states)
        episode = out / f"{lane}.gif"
        write_gif(np.asarray(jax.jit(draw)(some)), episode)
    if policy.task.num_states is not None:
        visits = out / f"{lane}-visits.png"
        title = f"{policy.task.name}, {episodes} episodes of lane {lane}"
        shape, cells = (getattr(policy.task.env, name, None) for name in ("map_shape", "map_cells"))
        plot.visitation(np.asarray(counts), shape, title, cells=cells).savefig(visits, dpi=150)
    return Watched(episode, visits, steps, float(returns[0]))


def write_gif(frames: np.ndarray, path: Path) -> None:
    """An endless GIF of uint8 ``[K, H, W, 3]``."""
    factor = -(-SMALLEST // min(frames.shape[1:3]))
    images = [Image.fromarray(frame.repeat(factor, 0).repeat(factor, 1)) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=1000 // FRAMES_PER_SECOND, loop=0)


@with_generator
def _play(policy: Policy, episodes: int, key: Key) -> tuple:
    """(states [T + 1] of the first episode, alive [T] there, returns [episodes], steps in each state [num_states])."""
    task = policy.task
    k_start, k_steps = jax.random.split(key)
    carry = start(k_start, task, episodes)

    def step(loop, key):
        memory, state, obs, first, alive, returns, counts = loop
        k_act, k_env = jax.random.split(key)
        memory, action, _ = policy.agent.act(k_act, policy.state, memory, obs, first)
        if task.state_id is not None:
            ids = jax.vmap(task.state_id, (0, None))(state, task.params)
            counts = counts.at[ids].add(alive)
        obs, state, reward, terminated, truncated, _ = step_all(k_env, task, state, action, reset=False)
        memory = policy.agent.observe(memory, reward)
        done = terminated | truncated
        returns += jnp.where(alive, reward, 0.0)
        shown = jax.tree.map(lambda x: x[0], state), alive[0]
        return (memory, state, obs, done, alive & ~done, returns, counts), shown

    alive = jnp.ones(episodes, bool)
    counts = jnp.zeros(task.num_states or 0, jnp.uint32)
    loop = (policy.memory(episodes), carry.state, carry.obs, carry.first, alive, jnp.zeros(episodes), counts)
    loop, (states, alive) = jax.lax.scan(step, loop, jax.random.split(k_steps, task.max_steps))
    states = jax.tree.map(lambda a, b: jnp.concatenate([a[:1], b]), carry.state, states)
    return states, alive, loop[-2], loop[-1]
