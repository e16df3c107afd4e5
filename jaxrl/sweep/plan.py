"""From a spec to lanes, programs and chunks: pure bookkeeping, without jax.

A *lane* is one (static configuration, hyperparameters, seed) and has the id that counts: a hash of all that decides
its numbers. A *program* is one static configuration, one compilation. A *chunk* is lanes of one program that happen to
run together. Resuming and extending are set differences of lane ids, so no packing ever redoes a committed lane.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from jaxrl.envs.catalogue import library_versions
from jaxrl.errors import UserError
from jaxrl.identity import settings as settings_of_jax
from jaxrl.signatures import code_fingerprint, source_fingerprint
from jaxrl.spec.settings import Spec, references, settings

SETTINGS = "settings of jax"  # among the sources of a lane's numbers


class Lane(NamedTuple):
    id: str
    program: dict[str, Any]  # every static field
    values: dict[str, float]  # every traced field
    seed: int
    sources: dict[str, str]  # user code by reference -> its fingerprint, the environment's library -> its version, ...


class Chunk(NamedTuple):
    id: str
    program: dict[str, Any]
    lanes: tuple[Lane, ...]


class Plan(NamedTuple):
    chunks: tuple[Chunk, ...]  # what is still to run
    lanes: int  # of the whole spec
    skipped: int  # committed before


def lanes(spec: Spec) -> list[Lane]:
    """Every lane of a spec once: programs in order of their settings, then values, then seeds."""
    fingerprints: dict[str, str] = {}
    found: dict[str, Lane] = {}
    for program, all_values in settings(spec):
        for reference in (named := references(program, spec.objects)):
            if reference not in fingerprints:
                fingerprints[reference] = source_fingerprint(spec.objects.get(reference, reference))
        sources = {reference: fingerprints[reference] for reference in named} | library_versions(program["env"])
        sources[SETTINGS] = settings_of_jax()
        for values in all_values:
            for seed in spec.seeds:
                lane = Lane(lane_id(program, values, seed, sources), program, values, seed, sources)
                found.setdefault(lane.id, lane)
    return list(found.values())


def programs(lanes: Iterable[Lane]) -> list[tuple[dict[str, Any], tuple[Lane, ...]]]:
    """The distinct programs, in order of first appearance, each with its lanes."""
    groups: dict[str, list[Lane]] = {}
    for lane in lanes:
        groups.setdefault(_canonical(lane.program, lane.sources), []).append(lane)
    return [(group[0].program, tuple(group)) for group in groups.values()]


def plan(spec: Spec, committed_ids: Collection[str], at_once: int) -> Plan:
    """The chunks, of at most `at_once` lanes, that hold every lane not committed yet."""
    everything = lanes(spec)
    committed_ids = frozenset(committed_ids)
    chunks = tuple(chunk for _, group in programs(everything) for chunk in packs(group, at_once, committed_ids))
    return Plan(chunks, len(everything), sum(lane.id in committed_ids for lane in everything))


def packs(
    lanes: tuple[Lane, ...], at_once: int, committed_ids: Collection[str], apart: Mapping[str, Any] | None = None
) -> list[Chunk]:
    """Chunks of the lanes of one program that are not committed: every `at_once` lanes make one, less what is.

    Lanes for which `apart` holds different values, or one and none, are not in one chunk.

    What is committed moves no lane from one chunk to another, so whoever plans later, another process or the next
    start, plans the same chunks and finds their claims and checkpoints.
    """
    if at_once < 1:
        raise UserError(f"at_once = {at_once}: at least one lane must fit")
    packed = [lanes[start : start + at_once] for start in range(0, len(lanes), at_once)]
    left = [tuple(lane for lane in pack if lane.id not in committed_ids) for pack in packed]
    kin: list[tuple[Lane, ...]] = []
    for pack in left:
        groups: dict[Any, list[Lane]] = {}
        for lane in pack:
            groups.setdefault((apart or {}).get(lane.id), []).append(lane)
        kin += map(tuple, groups.values())
    return [Chunk(chunk_id(lane.id for lane in pack), pack[0].program, pack) for pack in kin]


def lane_id(program: dict[str, Any], values: dict[str, float], seed: int, sources: dict[str, str]) -> str:
    """80 bits of SHA-256 in hex, over everything that decides a lane's numbers; floats are hashed exactly."""
    exact = {name: float(value).hex() for name, value in values.items()}
    return _hash(_canonical(program, exact, seed, sources, code_fingerprint()))


def training_id(program: Mapping[str, Any], values: Mapping[str, float], seed: int, sources: Mapping[str, str]) -> str:
    """As `lane_id`, blind to the fields that say when training ends and when it is evaluated."""
    return lane_id(unending(program), dict(values), seed, dict(sources))


def unending(program: Mapping[str, Any]) -> dict[str, Any]:
    """A program's fields without those that say when training ends and when it is evaluated."""
    return {name: value for name, value in program.items() if name not in ("steps", "evals")}


def chunk_id(lane_ids: Iterable[str]) -> str:
    """80 bits of SHA-256 in hex, over the lane ids in any order."""
    return _hash(_canonical(sorted(lane_ids)))


def _canonical(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
