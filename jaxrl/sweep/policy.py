"""Stored policies: load one, or evaluate every lane of a results directory again."""

import functools
import json
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import Task
from jaxrl.errors import UserError
from jaxrl.keys import key_of
from jaxrl.references import check_allowed
from jaxrl.results import store
from jaxrl.signatures import code_fingerprint
from jaxrl.spec.settings import catalogued
from jaxrl.sweep.lanes import Lanes, Packing, keys_of, lanes_of, packing_for, padded, stacked
from jaxrl.sweep.program import build
from jaxrl.trainers.rollout import example_of
from jaxrl.types import Agent, PyTree


class Policy(NamedTuple):
    """A stored policy: `memory, action, extras = agent.act(key, state, memory, obs[N], first[N])`."""

    task: Task
    agent: Agent
    state: PyTree
    memory: Callable  # (num_envs) -> fresh memory


def load_policy(
    directory: str | Path,
    lane: str,
    *,
    greedy: bool = True,
    allow: Collection[str] = (),
    objects: Mapping[str, Callable] | None = None,
) -> Policy:
    """The policy that a lane ended with.

    Args:
        allow: references, ``"package.module:name"``, to code that the results name and that may be imported; no other
            is, but what jaxrl itself offers by name.
        objects: the Python environment, bonus and agent of the run by reference, where they cannot be imported (those
            of a script or a notebook).

    Raises:
        UserError: no such lane, damaged files, code that is not allowed, or parameters that do not fit the program as
            it is today.
    """
    manifest = manifest_of(directory, lane)
    static, lanes = stored_lanes(directory, manifest, allow, objects)
    warn_if_foreign(manifest)
    values = next(row["values"] for row in lanes if row["lane"].startswith(lane))
    program = build(static, objects)
    one = program.make({name: jnp.float32(value) for name, value in values.items()})
    agent = one.greedy if greedy else one.sampling

    def fresh(num_envs: int):
        return agent.init(key_of(0), example_of(one.task, num_envs))

    template = jax.eval_shape(lambda: fresh(1)[0])
    state = restore(template, store.load_params(directory, lane), lane)
    return Policy(one.task, agent, state, lambda num_envs: fresh(num_envs)[1])


def evaluate(
    directory: str | Path,
    *,
    episodes: int = 128,
    seed: int = 0,
    allow: Collection[str] = (),
    objects: Mapping[str, Callable] | None = None,
    strict: bool = False,
):
    """Evaluate every stored lane on `episodes` fresh episodes, greedy and sampled.

    `seed` chooses the episodes, the same ones for every lane of equal training seed; they are not those of training.
    `allow` and `objects` as for `load_policy`.

    Returns:
        pandas.DataFrame, one row per lane: what was swept, seed, lane, `eval_return`, `eval_return_sampled`, `solved`;
        lanes that diverged are left out, and so are those of damaged chunks, with a warning, or an error if `strict`.
    """
    from jaxrl.results import query

    frame = query.lanes(directory, strict=strict)
    frame = frame[frame["status"] == "ok"]
    measured: dict[str, dict[str, float]] = {}
    made: dict[str, Callable[[Packing], Lanes]] = {}  # by static fields: chunks of one program share what is compiled
    readable = []  # all are read before any is built, so that nothing has run when one of them is refused
    for chunk in frame["chunk"].unique():
        with store.passing_over_damage(strict):  # of its parameters: everything else was read for the frame
            manifest = store.read_manifest(Path(directory) / chunk)
            readable.append((manifest, stored_lanes(directory, manifest, allow, objects)))
    for manifest, (static, lanes) in readable:
        warn_if_foreign(manifest)
        if (name := json.dumps(static, sort_keys=True)) not in made:
            program = build({**static, "eval_episodes": episodes}, objects)
            made[name] = functools.cache(functools.partial(lanes_of, program, segment=1))
        params = store.read_chunk(Path(directory) / manifest["chunk"]).params
        measured |= _evaluate_chunk(made[name], lanes, params, seed)
    names = [*query.swept(frame), "seed", "lane"]
    table = frame.loc[frame["lane"].isin(list(measured)), names].reset_index(drop=True)
    for metric in ("eval_return", "eval_return_sampled", "solved"):
        table[metric] = [measured[lane][metric] for lane in table["lane"]]
    return table


def _evaluate_chunk(
    made: Callable[[Packing], Lanes], lanes: Sequence[dict], params: dict[str, np.ndarray], seed: int
) -> dict[str, dict[str, float]]:
    packing = packing_for(len(lanes))
    values, keys = stacked([row["values"] for row in lanes]), keys_of([row["seed"] for row in lanes])
    values, keys = padded((values, keys), packing.devices)
    functions = made(packing)
    shapes = jax.eval_shape(functions.init, values, keys)
    template = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[: len(lanes)], tree), shapes.agent)
    agent = padded(restore(template, params, f"{len(lanes)} lanes"), packing.devices)
    # Evaluation reads nothing but the agent, so the rest of the state is not rebuilt.
    states = jax.tree.map(lambda leaf: None, shapes)._replace(agent=agent)
    fresh = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, 2**31), seed))(keys)
    metrics = functions.evaluate(values, fresh, states)
    return {
        row["lane"]: {name: float(np.asarray(column)[i]) for name, column in metrics.items()}
        for i, row in enumerate(lanes)
    }


def stored_lanes(
    directory: str | Path, manifest: dict, allow: Collection[str], objects: Mapping[str, Callable] | None
) -> tuple[dict[str, Any], list[dict]]:
    """(static fields, lanes) of a chunk: as `jaxrl.spec.spec` made them, lists turned back into tuples.

    Raises UserError where they name code that is neither jaxrl's own, nor among `allow`, nor among `objects`.
    """
    chunk = store.read_chunk(Path(directory) / manifest["chunk"])
    check_allowed(chunk.program, {*catalogued(), *allow, *(objects or {})}, directory)
    return {name: _static(value) for name, value in chunk.program.items()}, chunk.lanes


def restore(template: PyTree, arrays: Mapping[str, np.ndarray], what: str) -> PyTree:
    """`template`, a tree of shapes, filled from arrays named by path.

    Raises:
        UserError: a name, shape or dtype differs; the sentence lists the first differences.
    """
    leaves = jax.tree_util.tree_leaves_with_path(template)
    wanted = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    wrong = [f"{name} is missing" for name in wanted if name not in arrays]
    wrong += [f"{name} is not known" for name in arrays if name not in wanted]
    wrong += [
        f"{name} is {arrays[name].dtype}{list(arrays[name].shape)}, expected {leaf.dtype}{list(leaf.shape)}"
        for name, leaf in wanted.items()
        if name in arrays and (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype)
    ]
    if wrong:
        raise UserError(f"the stored parameters of {what} do not fit this program: {'; '.join(wrong[:3])}")
    return jax.tree.unflatten(jax.tree.structure(template), [jnp.asarray(arrays[name]) for name in wanted])


def warn_if_foreign(manifest: dict) -> None:
    """Warns where a chunk was written by other code than runs now."""
    if manifest["code"] != code_fingerprint():
        what = f"chunk {manifest['chunk']} was written by other code ({manifest['code'][:12]})"
        warnings.warn(f"{what}: what runs now may not be what ran then", stacklevel=3)


def manifest_of(directory: str | Path, lane: str) -> dict:
    """The manifest of the chunk with the lane whose id begins with `lane`; UserError where there is not just one."""
    lanes = store.committed(directory, until=0)
    return store.read_manifest(lanes[store.whole_id(lane, lanes, directory)])


def _static(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _static(entry) for name, entry in value.items()}
    return tuple(_static(entry) for entry in value) if isinstance(value, list) else value
