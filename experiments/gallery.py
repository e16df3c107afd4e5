"""A picture of every environment of jaxrl's own that can draw itself: `make gallery` writes docs/gallery.png.

Each tile is one world, drawn from a fixed key after a few random steps.
"""

from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from jaxrl import envs
from jaxrl.envs.contract import sample_action

OUT = Path(__file__).parents[1] / "docs" / "gallery.png"
SOURCES = ("grid", "tabular", "coverage")
COLUMNS = 9
STEPS = 5


def picture(name: str) -> np.ndarray | None:
    """uint8 ``[H, W, 3]``, or None where the environment cannot draw itself."""
    task = envs.make(name)
    render = getattr(task.env, "render", None)
    if render is None:
        return None

    @jax.jit
    def draw(key):
        k_reset, k_steps = jax.random.split(key)
        _, state = task.env.reset(k_reset, task.params)

        def step(state, key):
            k_act, k_step = jax.random.split(key)
            return task.env.step(k_step, state, sample_action(task.actions, k_act), task.params)[1], None

        state, _ = jax.lax.scan(step, state, jax.random.split(k_steps, STEPS))
        return render(state, task.params)

    return np.asarray(draw(jax.random.key(1)))


def main() -> None:
    tiles = {}
    for name, source in envs.names().items():
        if source in SOURCES and (drawn := picture(name)) is not None:
            tiles[name] = drawn
            print(f"{len(tiles):3d}  {name}", flush=True)
    rows = -(-len(tiles) // COLUMNS)
    figure = Figure(figsize=(1.7 * COLUMNS, 1.9 * rows), layout="constrained")
    for axis in (axes := figure.subplots(rows, COLUMNS, squeeze=False).ravel()):
        axis.set_axis_off()
    for axis, (name, tile) in zip(axes, tiles.items(), strict=False):
        axis.imshow(tile, interpolation="nearest")
        axis.set_title(name.replace("/", "/\n", 1), fontsize=7)
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT, dpi=100)
    print(f"{len(tiles)} environments in {OUT}")


if __name__ == "__main__":
    main()
