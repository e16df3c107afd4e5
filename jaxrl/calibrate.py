"""Bonuses against exact visit counts, without an agent: `jaxrl calibrate`.

A scripted walk visits the cells of a grid. Each of its rollouts is labelled and then learned from, as in training, and
what the bonus pays for a transition is compared with 1 / sqrt(n), what a count pays. Which n depends on the kind that
the bonus's module declares:

    lifelong, recurrent   1 + the arrivals at the cell in earlier rollouts, by all environments   (as `count`)
    episodic              visits in this episode by this environment, this one included           (as `episodic_count`)
    batch                 arrivals at the cell in the rollout
    composed              the product of the first two

The walk starts each episode in a corner and repeats its action half of the time, so far cells are rarely seen. It is
shown as one-hot row and column, at three scales, once with a television (a cell with a new random picture at each
visit), and, with action noise, as a picture of `VisualGrid`. The same seed walks the same way for every bonus. CFN's
paper compares bonuses with counts on a visual grid (Lobel et al. 2023, arXiv:2306.03186); the walk, its length, the
measures and the television are ours. Observation moments have no warm-up here.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import AxisType, PartitionSpec
from matplotlib.figure import Figure
from scipy.stats import rankdata

from jaxrl.envs.coverage.visual_grid import VisualGrid, VisualGridState
from jaxrl.errors import UserError
from jaxrl.intrinsic import CATALOGUE, expression
from jaxrl.results import stats
from jaxrl.results.plot import COLOURS
from jaxrl.signatures import Signature, signature
from jaxrl.sweep.lanes import padded
from jaxrl.types import Array, Discrete, IntrinsicReward, Transition

ACTIONS = Discrete(4)  # up, right, down, left
MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
STICKY = 0.5  # chance to repeat the last action
NOISE = 0.3  # chance that a random action takes the place of the chosen one, where the grid is a picture
CHANNELS = 8  # numbers of a television picture, uniform in [0, 1)
SCALES = (1.0, 1e-2, 1e2)  # of the observations
AT_ONCE = 5  # lanes of a device vmapped together: more take memories out of a core's cache
SHUFFLES = 200
FEW = 10  # arrivals at the television that count as early
# Edges of the bins of n: whole numbers, then steps of a square root of two.
BINS = np.unique(np.concatenate([np.arange(1, 12), np.round(2 ** np.arange(3.5, 25, 0.5))]))
COUNTS = {
    "lifelong": "lifelong",
    "recurrent": "lifelong",
    "episodic": "episode",
    "batch": "batch",
    "composed": "lifelong x episode",
}


class Protocol(NamedTuple):
    """The size of the walk; everything else is a constant of this module."""

    side: int = 21  # cells of an edge
    limit: int = 150  # steps of an episode
    num_envs: int = 4
    num_steps: int = 32  # of a rollout
    rollouts: int = 312  # about 40,000 transitions
    picture_rollouts: int = 78
    torso: str = "mlp"  # of every network that looks at the picture; conv takes minutes a bonus on a CPU

    @property
    def television(self) -> int:
        """The cell that shows noise: on the diagonal, a quarter of the way."""
        return (self.side // 4) * (self.side + 1)


FULL = Protocol()


class Walk(NamedTuple):
    """Where one seed went; every field ``[rollouts, T, N]``, or with seeds in front."""

    cell: Any  # int32  before the step
    action: Any  # int32  as chosen, before any noise
    next_cell: Any  # int32
    first: Any  # bool
    last: Any  # bool  the episode is cut after the step


class Calibration(NamedTuple):
    """What one bonus scored; arrays over seeds."""

    bonus: str  # the expression
    counts: str  # which n it is compared with
    scores: dict[str, np.ndarray]  # measure -> [seeds], NaN where it has no value
    shuffled: stats.Estimate  # Spearman of randomly exchanged bonuses: mean and 95 % of the shuffles, over all seeds
    curves: dict[str, np.ndarray]  # "grid", "picture" -> [seeds, bins]  mean bonus at n visits over that at the first


def walks(seeds: Sequence[int], protocol: Protocol, rollouts: int, noise: float) -> Walk:
    """A walk for every seed, fields ``[seeds, rollouts, T, N]``; with probability `noise` a random action is taken."""
    steps = rollouts * protocol.num_steps
    shape = steps, protocol.num_envs
    rngs = [np.random.default_rng(seed) for seed in seeds]
    fresh, forced = (np.stack([rng.integers(ACTIONS.n, size=shape) for rng in rngs], 1) for _ in range(2))
    repeats, slips = (np.stack([rng.random(shape) < p for rng in rngs], 1) for p in (STICKY, noise))
    place = np.zeros((len(rngs), protocol.num_envs, 2), int)
    age = np.broadcast_to(np.arange(protocol.num_envs) * protocol.limit // protocol.num_envs, place.shape[:2])
    action, trail = fresh[0], []
    for t in range(steps):
        first = (age == 0) | (t == 0)
        place = np.where(first[..., None], 0, place)
        action = np.where(repeats[t] & ~first, action, fresh[t])
        after = np.clip(place + MOVES[np.where(slips[t], forced[t], action)], 0, protocol.side - 1)
        age = (age + 1) % protocol.limit
        trail.append((place @ (protocol.side, 1), action, after @ (protocol.side, 1), first, age == 0))
        place = after
    fields = (np.stack(field, 1) for field in zip(*trail, strict=True))  # [seeds, steps, N]
    packed = (x.reshape(len(rngs), rollouts, protocol.num_steps, -1) for x in fields)
    return Walk(*(x.astype(np.int32) if x.dtype != bool else x for x in packed))


def visits(walk: Walk) -> dict[str, np.ndarray]:
    """The exact n of every transition of one seed's walk, by the names of COUNTS, int ``[rollouts, T, N]``."""
    rollouts, _, num_envs = walk.cell.shape
    rollout = np.broadcast_to(np.arange(rollouts)[:, None, None], walk.cell.shape)
    arrivals = np.zeros((rollouts, walk.next_cell.max() + 1), int)
    np.add.at(arrivals, (rollout, walk.next_cell), 1)
    before = arrivals.cumsum(0) - arrivals
    episode = walk.first.reshape(-1, num_envs).cumsum(0).reshape(walk.cell.shape)
    place = (episode * num_envs + np.arange(num_envs)) * arrivals.shape[1] + walk.next_cell
    earlier = pd.Series(place.ravel()).groupby(place.ravel()).cumcount().to_numpy().reshape(place.shape)
    opening = 0  # the cell in which every episode starts
    n = {
        "lifelong": 1 + before[rollout, walk.next_cell],
        "episode": 1 + earlier + (walk.next_cell == opening),
        "batch": arrivals[rollout, walk.next_cell],
    }
    return {**n, "lifelong x episode": n["lifelong"] * n["episode"]}


def paid(reward: IntrinsicReward, show: Callable, walk: Walk, key) -> Array:
    """What `reward` pays along one seed's walk, ``[rollouts, T, N]``: each rollout is labelled, then learned from.

    `show(cell, arrival)` is the observation of a cell; every arrival has a number of its own.
    """
    rollouts, _, num_envs = walk.cell.shape
    arrivals = jnp.arange(walk.cell.size, dtype=jnp.int32).reshape(walk.cell.shape)

    def batch_of(walk, arrivals):
        see = jax.vmap(jax.vmap(show))
        reward, terminated = jnp.zeros(walk.cell.shape), jnp.zeros(walk.cell.shape, bool)
        obs, next_obs = see(walk.cell, arrivals - num_envs), see(walk.next_cell, arrivals)
        return Transition(obs, walk.action, reward, next_obs, terminated, walk.last, walk.first, ())

    def rollout(carry, inputs):
        (state, memory), (key, *steps) = carry, inputs
        batch = batch_of(*steps)
        after, bonus, trace = reward.label(state, memory, batch)
        state, _ = reward.update(key, state, memory, batch, trace)
        return (state, after), bonus

    opening = jax.tree.map(lambda x: x[0], (walk, arrivals))
    example = jax.tree.map(lambda x: jnp.zeros_like(x[0]), batch_of(*opening))
    k_init, k_updates = jax.random.split(key)
    keys = jax.random.split(k_updates, rollouts)
    return jax.lax.scan(rollout, reward.init(k_init, example), (keys, walk, arrivals))[1]


def one_hots(protocol: Protocol, scale, television, key) -> Callable:
    """Row and column one-hot and a television's picture, float32 ``[2 side + CHANNELS]``, times `scale`.

    The picture is zero but in one cell, where it is new at every arrival, and there too unless `television` is 1.
    """

    def show(cell, arrival):
        row, column = (jnp.arange(protocol.side) == x for x in (cell // protocol.side, cell % protocol.side))
        picture = jax.random.uniform(jax.random.fold_in(key, arrival), (CHANNELS,))
        on = television * (cell == protocol.television)
        return scale * jnp.concatenate([row.astype(jnp.float32), column.astype(jnp.float32), on * picture])

    return show


def pixels(protocol: Protocol) -> Callable:
    """The picture of `VisualGrid`, uint8 ``[2 side, 2 side, 1]``."""
    grid = VisualGrid(protocol.side)
    return lambda cell, arrival: grid.observe(VisualGridState(cell // protocol.side, cell % protocol.side, cell))


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
    keys = jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))

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
    started = _over_lanes(on_grid, together, AT_ONCE), _over_lanes(on_pictures, (keys, shown), 1)
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


def units_of(bonus: np.ndarray, n: np.ndarray, walk: Walk, counts: str) -> tuple[np.ndarray, np.ndarray]:
    """(bonus, 1/sqrt(n)) of what is ranked, from the later half of a walk.

    For lifelong counts each cell is one unit, the mean of its arrivals, so that the corner does not outvote the rest;
    otherwise each transition is.
    """
    late = slice(len(n) // 2, None)
    bonus, wanted, cell = bonus[late].ravel(), n[late].ravel() ** -0.5, walk.next_cell[late].ravel()
    if counts != "lifelong":
        return bonus, wanted
    arrivals = np.bincount(cell)
    mean = lambda x: np.bincount(cell, x)[arrivals > 0] / arrivals[arrivals > 0]
    return mean(bonus), mean(wanted)


def spearman(bonus: np.ndarray, wanted: np.ndarray) -> float:
    """Rank correlation; NaN for a bonus that is constant or not finite."""
    ranks = _standard_ranks(bonus), _standard_ranks(wanted)
    return float(ranks[0] @ ranks[1])


def slope(bonus: np.ndarray, wanted: np.ndarray) -> float:
    """Least-squares slope of log bonus against log n: -0.5 for a count. NaN where under nine tenths are positive."""
    positive = (bonus > 0) & np.isfinite(bonus)
    if positive.mean() < 0.9:
        return np.nan
    return float(np.polyfit(-2 * np.log(wanted[positive]), np.log(bonus[positive]), 1)[0])


def binned(bonus: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean n and mean bonus in each of BINS, NaN where nothing fell; over any number of transitions."""
    index = np.digitize(n.ravel(), BINS) - 1
    size = np.bincount(index, minlength=len(BINS)).astype(float)
    size[size == 0] = np.nan
    return tuple(np.bincount(index, x.ravel(), len(BINS)) / size for x in (n, bonus))


def decay(bonus: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Mean bonus in each of BINS over the mean bonus of first visits; NaN where that is not positive."""
    mean = binned(bonus, n)[1]
    return mean / mean[0] if mean[0] > 0 else np.full_like(mean, np.nan)


def half_life(bonus: np.ndarray, n: np.ndarray) -> float:
    """The n at which the mean bonus is half of that of first visits: 4 for a count.

    The largest n seen where it never is, NaN where first visits earn nothing; interpolated in log n.
    """
    at, kept = binned(np.ones_like(bonus), n)[0], decay(bonus, n)
    at, kept = at[~np.isnan(kept)], kept[~np.isnan(kept)]
    if not len(kept):
        return np.nan
    halved = np.flatnonzero(kept <= 0.5)
    if not len(halved):
        return float(n.max())
    i = halved[0]
    share = (kept[i - 1] - 0.5) / (kept[i - 1] - kept[i])
    return float(np.exp((1 - share) * np.log(at[i - 1]) + share * np.log(at[i])))


def noise_pay(bonus: np.ndarray, n: np.ndarray, noisy: np.ndarray) -> float:
    """Mean bonus of the later half's `noisy` transitions over that of others of equal n: 1 if noise is nothing special.

    NaN where there is nothing to compare with.
    """
    late = slice(len(n) // 2, None)
    bonus, n, noisy = bonus[late], n[late], noisy[late]
    usual = binned(bonus[~noisy], n[~noisy])[1][np.digitize(n[noisy], BINS) - 1]
    known = ~np.isnan(usual)
    if not known.any() or usual[known].mean() <= 0:
        return np.nan
    return float(bonus[noisy][known].mean() / usual[known].mean())


def noise_kept(bonus: np.ndarray) -> float:
    """Mean bonus of the last quarter of arrivals at noise, in time, over that of the first FEW; NaN if those earn 0."""
    if len(bonus) < 2 * FEW or bonus[:FEW].mean() <= 0:
        return np.nan
    return float(bonus[-(len(bonus) // 4) :].mean() / bonus[:FEW].mean())


def shuffled(ranked: Sequence[tuple[np.ndarray, np.ndarray]], rng: int = 0) -> stats.Estimate:
    """The negative control: Spearman, mean over seeds, when each seed's bonuses are dealt out anew at random.

    Its value is the mean of SHUFFLES such deals, its interval holds 95 % of them.
    """
    generator = np.random.default_rng(rng)
    ranks = [(_standard_ranks(bonus), _standard_ranks(wanted)) for bonus, wanted in ranked]
    deals = [np.mean([generator.permutation(a) @ b for a, b in ranks]) for _ in range(SHUFFLES)]
    return stats.Estimate(float(np.mean(deals)), *np.quantile(deals, [0.025, 0.975]))


def table(calibrations: Sequence[Calibration], rng: int = 0) -> pd.DataFrame:
    """One row per bonus; a column for each measure, mean over seeds, and its 95 % bootstrap interval beside it.

    Columns after bonus, compared_with (which n) and seeds, all of the grid at scale 1 unless they say otherwise:
    ``spearman``; ``slope`` of log bonus against log n; ``half_life`` in visits; ``noise_pay``, what the television pays
    over what cells of equal n do; ``noise_kept``, what it pays at the end over what it paid first; ``spearman_x0.01``
    and ``spearman_x100`` at these scales; ``spearman_picture``; ``spearman_lifelong`` and ``spearman_episode``, with
    these counts whatever the kind; ``shuffled``, the negative control. A measure is NaN where any seed has no value for
    it; intervals also where there is one seed.
    """
    rows = []
    for done in calibrations:
        row: dict[str, Any] = {"bonus": done.bonus, "compared_with": done.counts}
        row["seeds"] = len(done.scores["spearman"])
        for measure, values in done.scores.items():
            row |= _columns(measure, _estimate(values, rng))
        rows.append({**row, **_columns("shuffled", done.shuffled)})
    return pd.DataFrame(rows)


def text(table: pd.DataFrame) -> str:
    """The main columns of a `table` as aligned text, intervals in brackets, "-" where there is no value."""
    shown = pd.DataFrame({name: table[name] for name in ("bonus", "compared_with")})
    for measure in ("spearman", "slope", "half_life", "noise_pay", "noise_kept", "spearman_picture", "shuffled"):
        columns = zip(*(table[name] for name in _columns(measure, (0, 0, 0))), strict=True)
        shown[measure] = [_written(*row) for row in columns]
    for name in ("spearman_x0.01", "spearman_x100"):
        shown[name] = table[name].map(lambda value: "-" if np.isnan(value) else f"{value:.2f}")
    return shown.to_string(index=False)


def figure(calibrations: Sequence[Calibration], level: float = 0.95) -> Figure:
    """Mean bonus against visits, a panel per bonus, with bootstrap intervals over seeds, beside 1/sqrt(n)."""
    columns = min(4, len(calibrations))
    rows = -(-len(calibrations) // columns)
    made = Figure(figsize=(2.9 * columns + 0.6, 2.3 * rows + 1.1), layout="constrained", facecolor="white")
    axes = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, done in zip(axes, calibrations, strict=False):
        axis.plot(BINS, BINS**-0.5, color="0.5", lw=1.0, ls=":", label="1/sqrt(n)")
        for (name, curves), colour, dashes in zip(done.curves.items(), COLOURS, ("-", "--"), strict=False):
            kept = np.flatnonzero((~np.isnan(curves)).sum(0) >= max(2, len(curves) / 2))
            band = [stats.bootstrap_interval(curves[:, i], stats.mean, 0, level, 1000, "omit") for i in kept]
            if band:
                value, low, high = np.array(band).T
                axis.plot(BINS[kept], value, color=colour, ls=dashes, lw=1.6, label=name)
                axis.fill_between(BINS[kept], low, high, color=colour, alpha=0.18, lw=0)
        score = _estimate(done.scores["spearman"], 0)
        axis.set_title(f"{done.bonus}\n{done.counts}: {_written(*score)}", fontsize=8)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(1e-3, 10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="0.9", lw=0.7)
        axis.tick_params(labelsize=7)
    for axis in axes[len(calibrations) :]:
        axis.set_visible(False)
    made.supxlabel("n (visits, of the kind that the title names)", fontsize=9)
    made.supylabel("bonus (first visit = 1)", fontsize=9)
    made.suptitle("What a visit is worth; Spearman correlation with 1/sqrt(n)", fontsize=11, x=0.02, ha="left")
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda pair: len(pair[1]))
    made.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return made


def run(bonuses: Sequence[str], seeds: Sequence[int], out: Path, protocol: Protocol = FULL) -> Iterator[Calibration]:
    """Calibrate each bonus in turn; `out`/calibration.csv and calibration.png hold all that is done so far.

    Raises:
        UserError: see `calibrate`; the sentence names the bonus.
    """
    done: list[Calibration] = []
    for bonus in bonuses:
        try:
            done.append(calibrate(bonus, seeds, protocol))
        except UserError as error:
            raise UserError(f"bonus {bonus!r} cannot be calibrated: {error}") from error
        table(done).to_csv(out / "calibration.csv", index=False)
        figure(done).savefig(out / "calibration.png", dpi=150)
        yield done[-1]


def line(done: Calibration) -> str:
    """A calibration in one line."""
    return f"{done.bonus}: Spearman {_written(*_estimate(done.scores['spearman'], 0))} with counts: {done.counts}"


def default_bonuses() -> list[str]:
    """Every bonus of the catalogue that pays by itself: not `none`, and no combinator of others."""
    return [name for name, reference in CATALOGUE.items() if name != "none" and not signature(reference).rewards]


def _signatures(tree: expression.Tree, objects: Mapping[str, Callable] | None) -> dict[str, Signature]:
    return {c.name: signature((objects or {}).get(c.reference, c.reference)) for c in expression.terms(tree)}


def _over_lanes(function: Callable, lanes: Any, at_most: int) -> Array:
    """`function` of each lane, ``[R, ...]``: spread over the local devices, up to `at_most` of a device vmapped."""
    count = len(jax.tree.leaves(lanes)[0])
    devices = min(jax.local_device_count(), count)
    of_each = -(-count // devices)
    at_once = max(size for size in range(1, at_most + 1) if of_each % size == 0)  # a rest would be compiled for itself
    mesh = jax.make_mesh((devices,), ("lanes",), axis_types=(AxisType.Auto,))
    spread = jax.shard_map(
        lambda lanes: jax.lax.map(function, lanes, batch_size=at_once),
        mesh=mesh,
        in_specs=PartitionSpec("lanes"),
        out_specs=PartitionSpec("lanes"),
        check_vma=False,
    )
    return jax.jit(spread)(padded(lanes, devices))[:count]


def _standard_ranks(x: np.ndarray) -> np.ndarray:
    """Ranks, ties sharing theirs, with mean 0 and norm 1: Spearman's correlation is the product of two such."""
    if not np.isfinite(x).all():
        return np.full(x.shape, np.nan)
    ranks = rankdata(x) - (len(x) + 1) / 2
    norm = np.linalg.norm(ranks)
    return ranks / norm if norm > 0 else np.full(x.shape, np.nan)


def _estimate(values: np.ndarray, rng: int) -> stats.Estimate:
    if not np.isfinite(values).all():
        return stats.Estimate(np.nan, np.nan, np.nan)
    return stats.bootstrap_interval(values, stats.mean, rng)


def _columns(measure: str, estimate) -> dict[str, float]:
    return dict(zip((measure, f"{measure}_low", f"{measure}_high"), estimate, strict=True))


def _written(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
