"""All that one bonus scores: its walks, in every world, against the counts of its kind."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.calibrate.measures import decay, half_life, noise_kept, noise_pay, shuffled, slope, spearman, units_of
from jaxrl.calibrate.walks import ACTIONS, FULL, NOISE, Protocol, Walk, visits, walks
from jaxrl.calibrate.worlds import one_hots, over_lanes, paid, pixels
from jaxrl.intrinsic import CATALOGUE, expression
from jaxrl.keys import key_of, with_generator
from jaxrl.results import stats
from jaxrl.signatures import Signature, signature

SCALES = (1.0, 1e-2, 1e2)  # of the observations
AT_ONCE = 5  # lanes of a device vmapped together: more take memories out of a core's cache
COUNTS = {
    "lifelong": "lifelong",
    "recurrent": "lifelong",
    "episodic": "episode",
    "batch": "batch",
    "composed": "lifelong x episode",
}


class Calibration(NamedTuple):
    """What one bonus scored; arrays over seeds."""

    bonus: str  # the expression
    counts: str  # which n it is compared with
    scores: dict[str, np.ndarray]  # measure -> [seeds], NaN where it has no value
    shuffled: stats.Estimate  # Spearman of randomly exchanged bonuses: mean and 95 % of the shuffles, over all seeds
    curves: dict[str, np.ndarray]  # "grid", "picture" -> [seeds, bins]  mean bonus at n visits over that at the first


@with_generator
def calibrate(
    bonus: str,
    seeds: Sequence[int],
    protocol: Protocol = FULL,
    objects: Mapping[str, Callable] | None = None,
) -> Calibration:
    """Score one bonus expression. `objects` are user code by reference, as for `expression.parse`.

    Raises:
        UserError: the expression cannot be read, or the bonus refuses the observations or the size of a rollout.
    """
    tree = expression.parse(bonus, objects)
    counts = COUNTS[kind(tree, objects)]
    make = functools.partial(expression.build, tree, objects=objects, actions=ACTIONS)
    keys = jax.vmap(key_of)(jnp.asarray(seeds, jnp.uint32))

    def on_grid(lane):
        (scale, television), key, walk = lane
        k_walk, k_picture = jax.random.split(key)
        return paid(make({}), one_hots(protocol, scale, television, k_picture), walk, k_walk)

    def on_pictures(lane):
        key, walk = lane
        return paid(make(torsos(tree, protocol.torso, objects)), pixels(protocol), walk, key)

    walk = walks(seeds, protocol, protocol.rollouts, noise=0.0)
    worlds = np.array([*((scale, 0.0) for scale in SCALES), (1.0, 1.0)], np.float32)
    lanes = [(worlds[i], keys[s], jax.tree.map(lambda x, s=s: x[s], walk)) for i in range(4) for s in range(len(seeds))]
    together = jax.tree.map(lambda *x: jnp.stack(x), *lanes)
    shown = walks(seeds, protocol, protocol.picture_rollouts, NOISE)
    # Both are started before either is waited for: one runs while the other compiles.
    started = over_lanes(on_grid, together, AT_ONCE), over_lanes(on_pictures, (keys, shown), 1)
    grid, picture = (np.asarray(bonus, float) for bonus in started)
    plain, small, large, television = np.split(grid, len(worlds))

    rows, ranked = [], []
    curves: dict[str, list[np.ndarray]] = {"grid": [], "picture": []}
    for s in range(len(seeds)):
        here, there = (Walk(*(field[s] for field in walked)) for walked in (walk, shown))
        n, n_there = visits(here), visits(there)
        units = units_of(plain[s], n[counts], here, counts)
        ranked.append(units)
        curves["grid"].append(decay(plain[s], n[counts]))
        curves["picture"].append(decay(picture[s], n_there[counts]))
        rows.append(
            {
                "spearman": spearman(*units),
                "slope": slope(*units),
                "half_life": half_life(plain[s], n[counts]),
                "noise_pay": noise_pay(television[s], n[counts], here.next_cell == protocol.television),
                "noise_kept": noise_kept(television[s][here.next_cell == protocol.television]),
                "spearman_x0.01": spearman(*units_of(small[s], n[counts], here, counts)),
                "spearman_x100": spearman(*units_of(large[s], n[counts], here, counts)),
                "spearman_picture": spearman(*units_of(picture[s], n_there[counts], there, counts)),
                "spearman_lifelong": spearman(*units_of(plain[s], n["lifelong"], here, "lifelong")),
                "spearman_episode": spearman(*units_of(plain[s], n["episode"], here, "episode")),
            }
        )
    scores = {measure: np.array([row[measure] for row in rows]) for measure in rows[0]}
    return Calibration(bonus, counts, scores, shuffled(ranked), {name: np.array(x) for name, x in curves.items()})


def kind(tree: expression.Tree, objects: Mapping[str, Callable] | None = None) -> str:
    """The kind that the modules of an expression's calls declare in their docstrings; composed where they differ.

    A bonus of the user's own that declares none is taken to be lifelong.
    """
    declared = set()
    for known in _signatures(tree, objects).values():
        found = re.search(r"^Kind: (\w+)", known.doc, re.MULTILINE)
        declared.add(found.group(1) if found else "lifelong")
    return declared.pop() if len(declared) == 1 else "composed"


def torsos(tree: expression.Tree, torso: str, objects: Mapping[str, Callable] | None = None) -> dict[str, str]:
    """The value `torso` for every call of an expression that has one; what the expression writes itself stays."""
    return {f"{name}.torso": torso for name, known in _signatures(tree, objects).items() if "torso" in known.static}


def default_bonuses() -> list[str]:
    """Every bonus of the catalogue that pays by itself: not `none`, and no combinator of others."""
    return [name for name, reference in CATALOGUE.items() if name != "none" and not signature(reference).rewards]


def _signatures(tree: expression.Tree, objects: Mapping[str, Callable] | None) -> dict[str, Signature]:
    return {c.name: signature((objects or {}).get(c.reference, c.reference)) for c in expression.terms(tree)}
