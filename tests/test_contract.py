"""What every bonus of the catalogue keeps, and some compositions. A row declares what holds for it; declarations are
checked both ways, so an exception that is no exception fails too.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import ACTIONS, example, fake_batch, world

from jaxrl.intrinsic import CATALOGUE
from jaxrl.intrinsic.airs import airs
from jaxrl.intrinsic.apt import apt
from jaxrl.intrinsic.byol_explore import byol_explore
from jaxrl.intrinsic.cfn import cfn
from jaxrl.intrinsic.combine import add, anneal, difference, map_obs, product, scale
from jaxrl.intrinsic.count import count
from jaxrl.intrinsic.deir import deir
from jaxrl.intrinsic.disagreement import disagreement
from jaxrl.intrinsic.e3b import e3b
from jaxrl.intrinsic.episodic_count import episodic_count
from jaxrl.intrinsic.forward_error import forward_error
from jaxrl.intrinsic.icm import icm
from jaxrl.intrinsic.ngu import ngu
from jaxrl.intrinsic.none import none
from jaxrl.intrinsic.normalize import normalize_return, standardize
from jaxrl.intrinsic.noveld import noveld
from jaxrl.intrinsic.rdd import rdd
from jaxrl.intrinsic.re3 import re3
from jaxrl.intrinsic.ride import ride
from jaxrl.intrinsic.rnd import rnd
from jaxrl.intrinsic.simhash import simhash
from jaxrl.signatures import signature

T, N = 16, 5
RND = {"dim": 8, "hidden": (16,), "minibatches": 2}
E3B = {"dim": 8, "hidden": (16,), "minibatches": 2, "actions": ACTIONS}
REPLAY = {**RND, "capacity": 2 * T * N, "epochs": 2}
COUNT = {"buckets": 2**10}
BYOL = {"dim": 8, "width": 6, "hidden": (16,), "minibatches": 1, "horizon": 3, "actions": ACTIONS}
DEIR = {"dim": 8, "width": 6, "hidden": (16,), "minibatches": 2, "remembered": 4, "queue": 16, "actions": ACTIONS}
AIRS = {"hidden": (8,), "minibatches": 2}
NGU = {**E3B, "k": 3, "remembered": 4}
RE3 = {"dim": 8, "hidden": (16,)}


class Row(NamedTuple):
    make: Callable  # (**swept) -> IntrinsicReward
    swept: dict = {}  # parameter -> its value in each of two lanes
    reads: frozenset = frozenset({"next_obs"})  # opening: obs where first; obs: elsewhere
    memoryless: bool = False
    chunks: bool = True  # T steps at once are twice T/2
    resets: bool = True  # what came before `first` leaves no mark
    rescales: bool = False  # one factor, made of the whole batch, scales all bonuses


def reads(*fields):
    return frozenset(fields)


LR = {"lr": (1e-3, 1e-2)}
RND_SWEPT = {**LR, "discount": (0.99, 0.5), "clip": (5.0, 1.0)}
CODE_SWEPT = {**LR, "clip": (5.0, 1.0)}
E3B_SWEPT = {"ridge": (0.1, 1.0), **LR}
MODEL_WEIGHTS = {"inverse": (0.8, 0.1), "forward": (0.2, 10.0)}
ALL_OBS = ("opening", "obs", "next_obs")
BATCH_SCALE = {"chunks": False, "rescales": True}
RETURN_FILTER = {**BATCH_SCALE, "resets": False}

NGU_SWEPT = {
    **LR,
    "epsilon": (1e-2, 1e-3),
    "cluster_distance": (0.01, 0.1),
    "pseudo_count": (0.001, 0.1),
    "max_similarity": (8.0, 1.0),
    "max_scale": (5.0, 1.5),
}

ROWS = {
    "none": Row(none, reads=reads(), memoryless=True),
    "count": Row(lambda: count(**COUNT), memoryless=True),
    "episodic_count": Row(lambda: episodic_count(**COUNT), reads=reads("opening", "next_obs")),
    "rnd": Row(lambda **h: rnd(**h, **RND), RND_SWEPT, **RETURN_FILTER),
    "simhash": Row(lambda **h: simhash(**h, **RND, bits=16), CODE_SWEPT, memoryless=True),
    "cfn": Row(lambda **h: cfn(**h, **REPLAY), {**CODE_SWEPT, "freshness": (0.5, 0.0)}, memoryless=True),
    "rdd": Row(lambda **h: rdd(**h, **RND), {**RND_SWEPT, "sigma": (1.0, 0.1)}, **RETURN_FILTER),
    "e3b": Row(lambda **h: e3b(**h, **E3B), E3B_SWEPT, reads("opening", "next_obs"), **BATCH_SCALE),
    "icm": Row(
        lambda **h: icm(**h, **E3B), {**RND_SWEPT, **MODEL_WEIGHTS}, reads("action", *ALL_OBS), **RETURN_FILTER
    ),
    "disagreement": Row(
        lambda **h: disagreement(**h, **E3B, members=3, width=16),
        {**RND_SWEPT, "keep": (0.8, 0.5)},
        reads("opening", "obs", "action"),
        **RETURN_FILTER,
    ),
    "forward_error": Row(
        lambda **h: forward_error(**h, actions=ACTIONS, width=16, minibatches=2),
        {**CODE_SWEPT, "eta": (0.2, 1.0)},
        reads("action", *ALL_OBS),
        memoryless=True,
    ),
    "ride": Row(
        lambda **h: ride(**h, **E3B, **COUNT),
        {**LR, **MODEL_WEIGHTS, "discount": (0.99, 0.5)},
        reads(*ALL_OBS),
        **RETURN_FILTER,
    ),
    "noveld": Row(
        lambda **h: noveld(**h, **RND, gate=False), {**RND_SWEPT, "alpha": (0.5, 0.1)}, reads(*ALL_OBS), **RETURN_FILTER
    ),
    "byol_explore": Row(
        # Its open loops cross the edges of batches, so only the scale, and not chunking, tells where one ends.
        lambda **h: byol_explore(**h, **BYOL, prioritize=False),
        {**LR, "target_decay": (0.99, 0.5), "momentum": (0.99, 0.5), "clip": (5.0, 1.0)},
        reads("action", *ALL_OBS),
        **BATCH_SCALE,
    ),
    "deir": Row(
        lambda **h: deir(**h, **DEIR, normalize=False),
        {**LR, "momentum": (0.9, 0.5), "max_grad_norm": (0.5, 1e-6)},
        reads(*ALL_OBS),
    ),
    "airs": Row(
        # After two rollouts the first arm pays, and the other's memory is kept all the same.
        lambda: airs(episodic_count(**COUNT), rnd(**RND, scale=False), **AIRS), reads=reads("opening", "next_obs")
    ),
    "ngu": Row(lambda **h: ngu(**h, **NGU), NGU_SWEPT, reads("opening", "next_obs"), chunks=False),
    "re3": Row(lambda **h: re3(**h, **RE3), {"decay": (0.0, 0.5)}, memoryless=True, chunks=False),
    "apt": Row(lambda **h: apt(**h, **E3B, k=5), LR, memoryless=True, chunks=False),
    "ngu's family, random features, no life-long factor": Row(
        lambda: ngu(**NGU, family=3, features="random", modulate=False),
        reads=reads("opening", "next_obs"),
        chunks=False,
    ),
    "re3 of earlier rollouts, too": Row(
        lambda: re3(**RE3, k=35, earlier=200, average=True, normalize=False, log=False),
        memoryless=True,
        chunks=False,
    ),
    "count of pairs": Row(
        lambda: count(with_action=True, **COUNT), reads=reads("opening", "obs", "action"), memoryless=True
    ),
    "first visit": Row(lambda: episodic_count(first_visit=True, **COUNT), reads=reads("opening", "next_obs")),
    "simhash of learned codes": Row(
        lambda **h: simhash(**h, **RND, bits=16, learned=True), CODE_SWEPT, memoryless=True
    ),
    "cfn plain": Row(lambda lr: cfn(lr, **REPLAY, prior=False, prioritized=False, whiten=False), LR, memoryless=True),
    "rdd of kept draws": Row(
        lambda lr, sigma: rdd(lr, sigma, **REPLAY, replay=True, mean="constant", scale=False),
        {**LR, "sigma": (1.0, 0.1)},
        memoryless=True,
    ),
    "rnd unscaled": Row(lambda **h: rnd(**h, **RND, scale=False, terminal=False), LR, memoryless=True),
    "icm of random features": Row(
        lambda **h: icm(**h, **E3B, features="random", scale=False), LR, reads("action", *ALL_OBS), memoryless=True
    ),
    "disagreement of raw observations": Row(
        lambda **h: disagreement(**h, **E3B, members=2, width=16, features="raw", whiten=False, scale=False),
        LR,
        reads("opening", "obs", "action"),
        memoryless=True,
    ),
    "ride without its gate": Row(
        lambda **h: ride(**h, **E3B, gate=False, scale=False), LR, reads(*ALL_OBS), memoryless=True
    ),
    "noveld of alpha 0": Row(  # with its gate, which leaves little to read where a state was met before
        lambda **h: noveld(0.0, **h, **RND, **COUNT, scale=False), LR, reads("opening", "next_obs")
    ),
    "product(count, first visit)": Row(
        lambda: product(count(**COUNT), episodic_count(first_visit=True, **COUNT)), reads=reads("opening", "next_obs")
    ),
    "standardize(product(rnd, e3b))": Row(
        lambda lr, ridge: standardize(
            product(rnd(lr, **RND, scale=False), e3b(ridge, normalize=False, **E3B)), center=False
        ),
        {**LR, "ridge": (0.1, 1.0)},
        reads("opening", "next_obs"),
        **BATCH_SCALE,
    ),
    "add(rnd, first visit)": Row(
        lambda lr: add(rnd(lr, **RND, scale=False), episodic_count(first_visit=True, **COUNT)),
        LR,
        reads("opening", "next_obs"),
    ),
    "product(episodic_count, rnd)": Row(
        lambda **h: product(episodic_count(**COUNT), rnd(**h, **RND)),
        LR,
        reads("opening", "next_obs"),
        **RETURN_FILTER,
    ),
    "add(e3b, count)": Row(
        lambda ridge, coef: add(e3b(ridge, normalize=False, **E3B), scale(count(**COUNT), coef)),
        {"ridge": (0.1, 1.0), "coef": (0.5, 2.0)},
        reads("opening", "next_obs"),
    ),
    "standardize(count)": Row(lambda: standardize(count(**COUNT)), memoryless=True, chunks=False),
    "normalize_return(episodic_count)": Row(
        lambda discount: normalize_return(episodic_count(**COUNT), discount),
        {"discount": (0.9, 0.5)},
        reads("opening", "next_obs"),
        **RETURN_FILTER,
    ),
    "difference(count)": Row(
        lambda alpha: difference(count(**COUNT), alpha),
        {"alpha": (0.5, 0.1)},
        reads("opening", "obs", "next_obs"),
        memoryless=True,
    ),
    "anneal(airs(count, episodic_count, e3b))": Row(
        lambda exploration: anneal(
            airs(
                count(**COUNT),
                episodic_count(**COUNT),
                e3b(**E3B, normalize=False),  # pays in the third rollout
                exploration=exploration,
                **AIRS,
            ),
            lambda updates: 0.9**updates,
        ),
        {"exploration": (1.0, 0.1)},
        reads("opening", "next_obs"),
    ),
    "map_obs(count)": Row(lambda: map_obs(count(**COUNT), lambda obs: 2.0 * obs[..., :3]), memoryless=True),
}


class Programs:
    """A row's functions, compiled once for the session, with its swept numbers traced."""

    def __init__(self, row: Row):
        self.row = row
        self.traced = 0
        self.lanes = [{name: jnp.float32(pair[i]) for name, pair in row.swept.items()} for i in (0, 1)]
        self.init = jax.jit(lambda values, key: row.make(**values).init(key, example(N)))
        self.labelled = jax.jit(lambda values, state, memory, batch: row.make(**values).label(state, memory, batch)[:2])
        self.step = jax.jit(self.one_step)
        state, self.fresh = self.init(self.lanes[0], jax.random.key(1))
        memory = self.fresh
        for i in (2, 3):
            state, memory, _, self.metrics = self.step(
                self.lanes[0], state, memory, fake_batch(jax.random.key(i), T, N, opens=i == 2), jax.random.key(10 + i)
            )
        self.state, self.memory = state, memory

    def one_step(self, values, state, memory, batch, key):
        self.traced += 1
        reward = self.row.make(**values)
        after, bonus, trace = reward.label(state, memory, batch)
        state, metrics = reward.update(key, state, memory, batch, trace)
        return state, after, bonus, metrics

    def label(self, memory, batch):
        memory, bonus = self.labelled(self.lanes[0], self.state, memory, batch)
        return memory, np.asarray(bonus)


_PROGRAMS: dict[str, Programs] = {}


@pytest.fixture(params=ROWS)
def programs(request):
    if request.param not in _PROGRAMS:
        _PROGRAMS[request.param] = Programs(ROWS[request.param])
    return _PROGRAMS[request.param]


@pytest.fixture
def row(programs):
    return programs.row


@pytest.fixture
def batch():
    return fake_batch(jax.random.key(4), T, N)


def steps(batch, *which):
    return jax.tree.map(lambda x: x[slice(*which)], batch)


def put(batch, field, t, n, value):
    return batch._replace(**{field: getattr(batch, field).at[t, n].set(value)})


def same(a, b):
    return np.allclose(a, b, rtol=1e-4, atol=1e-6)


def signatures(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


NOVEL = world(seed=99)[0]


def test_every_bonus_of_the_catalogue_has_a_row_that_sweeps_all_it_may():
    for name, reference in CATALOGUE.items():
        assert set(ROWS[name].swept) == set(signature(reference).swept), name


def test_fake_batch_is_what_an_environment_gives(batch):
    done = np.asarray(batch.terminated | batch.truncated)
    same_obs = np.asarray((batch.obs[1:] == batch.next_obs[:-1]).all(-1))
    assert (same_obs == ~done[:-1]).all() and (np.asarray(batch.first[1:]) == done[:-1]).all()
    assert not (batch.terminated & batch.truncated).any()
    assert (batch.terminated.sum(0) > 0).all() and (batch.truncated.sum(0) > 0).all()
    lengths = {len(run) for n in range(N) for run in np.split(done[:, n], np.flatnonzero(done[:-1, n]) + 1)}
    assert len(lengths) > 2
    middle = fake_batch(jax.random.key(4), T, N, opens=False)
    assert not middle.first[0].any() and batch.first[0].all()


def test_state_memory_and_bonus_keep_shape_dtype_and_weak_type(programs, batch):
    # What is carried through a scan must come out as it went in, to the last weak type.
    init = jax.eval_shape(programs.init, programs.lanes[0], jax.random.key(0))
    out = jax.eval_shape(programs.one_step, programs.lanes[0], *init, batch, jax.random.key(0))
    assert signatures(out[:2]) == signatures(init)
    assert out[2].shape == (T, N) and out[2].dtype == jnp.float32 and not out[2].weak_type
    assert all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(out[3]))


def test_bonus_and_state_are_finite(programs, batch):
    _, bonus = programs.label(programs.memory, batch)
    floats = [x for x in jax.tree.leaves((programs.state, programs.metrics)) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert np.isfinite(bonus).all() and all(np.isfinite(x).all() for x in floats)


def test_memory_leads_with_the_environments_and_is_empty_as_declared(programs, row):
    leaves = jax.tree.leaves(programs.memory)
    assert (leaves == []) == row.memoryless
    assert all(leaf.shape[0] == N for leaf in leaves)


def test_a_memoryless_bonus_labels_replayed_transitions(programs, row, batch):
    if not row.memoryless:
        assert jax.tree.leaves(programs.memory), "a row with memory must hold some"
        return
    flat = jax.tree.map(lambda x: x.reshape(1, T * N, *x.shape[2:]), batch)
    _, bonus = programs.label(programs.memory, flat)
    assert bonus.shape == (1, T * N) and same(bonus.reshape(T, N), programs.label(programs.memory, batch)[1])


def test_permuting_environments_permutes_bonuses(programs, batch):
    order = np.array([3, 0, 4, 2, 1])
    shuffled = jax.tree.map(lambda x: x[:, order], batch)
    memory = jax.tree.map(lambda x: x[order], programs.memory)
    after, bonus = programs.label(programs.memory, batch)
    after_shuffled, bonus_shuffled = programs.label(memory, shuffled)
    assert same(bonus_shuffled, bonus[:, order])
    assert all(same(a, b[order]) for a, b in zip(*map(jax.tree.leaves, (after_shuffled, after)), strict=True))


def test_one_call_is_two_calls_of_half_where_declared(programs, row):
    batch = fake_batch(jax.random.key(5), T, N, opens=False)
    after, whole = programs.label(programs.memory, batch)
    memory, early = programs.label(programs.memory, steps(batch, T // 2))
    memory, late = programs.label(memory, steps(batch, T // 2, None))
    assert same(np.concatenate([early, late]), whole) == row.chunks
    assert all(same(a, b) for a, b in zip(*map(jax.tree.leaves, (memory, after)), strict=True))


def test_an_episode_knows_nothing_of_what_came_before_it(programs, row, batch):
    half = T // 2
    history, other = (fake_batch(jax.random.key(i), half, N, opens=False) for i in (6, 7))
    episode = steps(batch, half)
    after = [programs.label(programs.memory, past)[0] for past in (history, other)]
    bonus = [programs.label(memory, episode)[1] for memory in (*after, programs.fresh)]
    assert (same(bonus[0], bonus[1]) and same(bonus[0], bonus[2])) == row.resets
    if row.chunks and row.resets:  # the same, with the first step of the episode in the middle of a batch
        joined = [jax.tree.map(lambda a, b: jnp.concatenate([a, b]), past, episode) for past in (history, other)]
        middle = [programs.label(programs.memory, long)[1][half:] for long in joined]
        assert same(middle[0], bonus[0]) and same(middle[1], bonus[0])


def test_labelling_learns_nothing_and_hides_nothing(programs, row, batch):
    first, second = (programs.label(programs.memory, batch) for _ in range(2))
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True))
    reward = row.make(**programs.lanes[0])
    traced = [str(jax.make_jaxpr(reward.label)(programs.state, programs.memory, batch)) for _ in range(2)]
    assert traced[0] == traced[1]  # a counter in a closure would show


def touched(programs, batch, field, t, n, values):
    """Bonuses with each of `values` in one place."""
    return [programs.label(programs.memory, put(batch, field, t, n, value))[1] for value in values]


def where(batch, condition):
    """The second (t, n), t in 1 .. T - 2, of the transitions that satisfy `condition`."""
    return tuple(np.argwhere(np.asarray(condition)[1 : T - 1])[1] + [1, 0])


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_an_ended_episode_is_paid_for_next_obs_and_not_for_the_reset_observation(programs, row, batch, end):
    t, n = where(batch, getattr(batch, end))
    arrived = touched(programs, batch, "next_obs", t, n, [batch.obs[t, n], NOVEL])
    masked = programs.row is ROWS["rnd unscaled"]  # terminal=False: these transitions are paid nothing
    assert (not same(arrived[0][t, n], arrived[1][t, n])) == ("next_obs" in row.reads and not masked)
    after_reset = touched(programs, batch, "obs", t + 1, n, [batch.obs[t, n], batch.next_obs[t, n], NOVEL])
    if row.rescales:
        after_reset = [bonus / bonus[0, 0] for bonus in after_reset]
    assert all(same(bonus[: t + 1], after_reset[0][: t + 1]) for bonus in after_reset)


def test_bonuses_read_the_fields_declared_and_no_other(programs, row, batch):
    t, n = where(batch, batch.first)
    opening = touched(programs, batch, "obs", t, n, [batch.next_obs[t, n], NOVEL])
    assert same(*opening) == ("opening" not in row.reads)

    inside = where(batch, ~(batch.first | batch.terminated | batch.truncated))
    for field, values in {
        "obs": [batch.next_obs[inside], NOVEL],
        "next_obs": [batch.obs[inside], NOVEL],
        "action": range(ACTIONS.n),
    }.items():
        bonuses = [bonus[inside] for bonus in touched(programs, batch, field, *inside, values)]
        assert np.allclose(bonuses, bonuses[0], rtol=1e-4) == (field not in row.reads), field

    _, bonus = programs.label(programs.memory, batch)
    _, rewarded = programs.label(programs.memory, batch._replace(reward=batch.reward + 100.0))
    assert (bonus == rewarded).all(), "a bonus is no function of the extrinsic reward"


def test_later_rollouts_compile_nothing(programs, batch):
    before, compiled = programs.traced, programs.step._cache_size()
    state, memory = programs.state, programs.memory
    for i in range(2):
        state, memory, *_ = programs.step(programs.lanes[1], state, memory, batch, jax.random.key(i))
    assert (programs.traced, programs.step._cache_size()) == (before, compiled) and compiled == 1


def test_swept_numbers_run_as_lanes(programs, row):
    """vmap over both lanes and a scan over two rollouts give what each lane gives alone, step by step."""
    batches = [fake_batch(jax.random.key(i), T, N, opens=i == 2) for i in (2, 3)]
    keys = jax.random.split(jax.random.key(20), 3)

    def run(values, keys):
        def iteration(carry, inputs):
            batch, key = inputs
            *carry, bonus, metrics = programs.one_step(values, *carry, batch, key)
            return tuple(carry), (bonus, metrics)

        together = jax.tree.map(lambda *x: jnp.stack(x), *batches)
        return jax.lax.scan(iteration, row.make(**values).init(keys[0], example(N)), (together, keys[1:]))[1]

    lanes = jax.tree.map(lambda *x: jnp.stack(x), *programs.lanes)
    bonuses, metrics = jax.jit(jax.vmap(run, (0, None), axis_size=2))(lanes, keys)
    for lane, values in enumerate(programs.lanes):
        state, memory = programs.init(values, keys[0])
        for i, batch in enumerate(batches):
            state, memory, bonus, measured = programs.step(values, state, memory, batch, keys[1 + i])
            np.testing.assert_allclose(bonuses[lane, i], bonus, rtol=1e-3, atol=1e-5)
            for name, value in measured.items():
                np.testing.assert_allclose(metrics[name][lane, i], value, rtol=1e-3, atol=1e-5)
    for name, pair in row.swept.items():
        assert pair[0] != pair[1], name


def test_no_key_is_used_twice(programs, row, batch):
    def all_three(key):
        k_init, k_update = jax.random.split(key)
        reward = row.make(**programs.lanes[0])
        state, memory = reward.init(k_init, example(N))
        _, _, trace = reward.label(state, memory, batch)
        return reward.update(k_update, state, memory, batch, trace)[0]

    def careless(key):
        return all_three(key), jax.random.normal(key)

    with jax.debug_key_reuse(True):
        jax.jit(all_three)(jax.random.key(0))
        with pytest.raises(jax.errors.KeyReuseError):  # the checker does see into these programs
            jax.jit(careless)(jax.random.key(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: rnd(**RND),
        lambda: e3b(**E3B),
        lambda: product(rnd(**RND), e3b(**E3B)),
        lambda: icm(**E3B),
        lambda: icm(**E3B, features="random"),
        lambda: disagreement(**E3B, members=3, width=16),
        lambda: forward_error(actions=ACTIONS, width=16, minibatches=2),
        lambda: ride(**E3B, **COUNT),
        lambda: noveld(**RND, **COUNT),
        lambda: airs(rnd(**RND), e3b(**E3B), **AIRS),
        lambda: ngu(**NGU),
        lambda: re3(**RE3, earlier=200),
        lambda: apt(**E3B),
        lambda: byol_explore(**BYOL),
        lambda: deir(**DEIR),
        lambda: simhash(**RND, bits=16, learned=True),
        lambda: cfn(**REPLAY),
        lambda: rdd(**RND),
        lambda: rdd(**REPLAY, replay=True),
    ],
    ids=[
        "rnd",
        "e3b",
        "product(rnd, e3b)",
        "icm",
        "icm of random features",
        "disagreement",
        "forward_error",
        "ride",
        "noveld",
        "airs(rnd, e3b)",
        "ngu",
        "re3",
        "apt",
        "byol_explore",
        "deir",
        "simhash of learned codes",
        "cfn",
        "rdd",
        "rdd of kept draws",
    ],
)
def test_label_and_update_together_cost_their_sum(make, batch):
    """More would be work done twice. Less would be an `update` that asks again for what `label` gave it in the trace:
    XLA merges the two only while their inputs are literally the same (under vmap and scan it keeps both loops).
    """
    reward = make()
    state, memory = jax.eval_shape(reward.init, jax.random.key(0), example(N))
    _, _, trace = jax.eval_shape(reward.label, state, memory, batch)
    key = jax.eval_shape(jax.random.key, 0)

    def together(key, state, memory, batch):
        after, bonus, trace = reward.label(state, memory, batch)
        return after, bonus, reward.update(key, state, memory, batch, trace)

    def cost(function, *arguments):
        compiled = jax.jit(function).lower(*arguments).compile()
        return compiled.cost_analysis()["flops"], compiled.as_text().count(" while(")

    label = cost(reward.label, state, memory, batch)
    update = cost(reward.update, key, state, memory, batch, trace)
    both = cost(together, key, state, memory, batch)
    assert 0.95 * (label[0] + update[0]) <= both[0] <= 1.05 * (label[0] + update[0])
    assert both[1] == label[1] + update[1]  # cost_analysis counts a loop's body once, whatever its length
