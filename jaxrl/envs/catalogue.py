"""What is registered: one row per environment, read here without jax from catalogue.csv.

The file is generated, ``python -m jaxrl.envs.catalogue``, by making every environment whose library is installed; the
rows of other libraries are kept as they are.
"""

import csv
import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxrl.signatures import installed

if TYPE_CHECKING:
    from jaxrl.envs.contract import Task

FILE = Path(__file__).with_name("catalogue.csv")


class Source(NamedTuple):
    """Where environments come from: a module with ``NAMES`` and ``make(name, **kwargs) -> Task``."""

    module: str
    package: str = "jaxrl"  # must be importable
    extra: str = ""  # of jaxrl, to be installed; "" where the package is a dependency of jaxrl itself
    distributions: tuple[str, ...] = ()  # whose versions decide numbers, beyond `signatures.NUMERIC_DEPENDENCIES`

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    @property
    def cure(self) -> str:
        return f"pip install 'jaxrl[{self.extra}]'" if self.extra else "pip install 'jaxrl'"


SOURCES = {
    "probe": Source("jaxrl.envs.probes"),
    "grid": Source("jaxrl.envs.grid"),
    "tabular": Source("jaxrl.envs.tabular"),
    "coverage": Source("jaxrl.envs.coverage"),
    "gymnax": Source("jaxrl.envs.gymnax", "gymnax"),
    "brax": Source("jaxrl.envs.brax", "brax"),
    "navix": Source("jaxrl.envs.navix", "navix", "navix", ("navix",)),
    "xminigrid": Source("jaxrl.envs.xminigrid", "xminigrid", "xminigrid", ("xminigrid",)),
    "craftax": Source("jaxrl.envs.craftax", "craftax", "craftax", ("craftax",)),
    "jumanji": Source("jaxrl.envs.jumanji", "jumanji", "jumanji", ("jumanji",)),
    "playground": Source(
        "jaxrl.envs.playground", "mujoco_playground", "playground", ("playground", "mujoco", "mujoco-mjx")
    ),
    "jaxtari": Source("jaxrl.envs.jaxtari", "jaxtari", "atari", ("jaxtari",)),
}


# Names that are not offered, because `jaxrl.envs.solvable` found worlds of theirs whose goal cannot be reached: in how
# many of 256, in navix 0.7.4. KeyCorridor's doors lie in walls; SimpleCrossing's walls can cut the goal off.
UNSOLVABLE = {
    "navix/KeyCorridorS3R1": 256,
    "navix/KeyCorridorS3R2": 256,
    "navix/KeyCorridorS3R3": 256,
    "navix/KeyCorridorS4R3": 256,
    "navix/KeyCorridorS5R3": 256,
    "navix/KeyCorridorS6R3": 256,
    "navix/SimpleCrossingS9N3": 2,
    "navix/SimpleCrossingS11N5": 12,
}


def why_not(name: str) -> str:
    """The sentence that an unsolvable environment's name is answered with."""
    found, use = UNSOLVABLE[name], name.replace("navix/", "grid/")
    return (
        f"environment {name!r} is not offered: in {found} of 256 worlds of navix 0.7.4 the goal cannot be reached; "
        f"use {use!r}, the same task on jaxrl's own engine"
    )


class Row(NamedTuple):
    """One environment with its default arguments; texts, empty where unknown."""

    name: str
    source: str
    observation: str  # "uint8[7, 7, 3]"
    actions: str  # "Discrete(7)", "Box(-1, 1, [6])"
    step_limit: str
    solved: str  # "return >= 475"; empty where nobody named a threshold
    requires: str  # the extra of jaxrl; empty where jaxrl's own dependencies are enough


@functools.cache
def rows() -> dict[str, Row]:
    """Every registered environment by name, in the file's order."""
    with FILE.open(newline="", encoding="utf-8") as file:
        return {row["name"]: Row(**row) for row in csv.DictReader(file)}


def library_versions(env: str) -> dict[str, str]:
    """The installed versions of the libraries that an environment's numbers come from, by distribution."""
    row = rows().get(env)
    versions = installed(SOURCES[row.source].distributions) if row else {}
    return {name: version or "absent" for name, version in versions.items()}


def row_of(task: "Task", source: str) -> Row:
    """The catalogue's row for a task."""
    from jaxrl.spaces import text

    observation = f"{task.obs_dtype}{list(task.obs_shape)}"
    solved = "" if task.solved is None else f"return >= {float(task.solved):.4g}"
    return Row(task.name, source, observation, text(task.actions), str(task.max_steps), solved, SOURCES[source].extra)


def _rows_of(source: str, old: dict[str, Row]) -> list[Row]:
    """The rows of a source made now; the old ones where its module or its library is not here."""
    from jaxrl.errors import UserError

    kept = [row for row in old.values() if row.source == source]
    try:
        module = importlib.import_module(SOURCES[source].module)
        names = module.NAMES
    except (ImportError, AttributeError) as error:
        print(f"{source}: {len(kept)} rows kept ({error})", file=sys.stderr)
        return kept
    made = []
    for name in names:
        made.append(old.get(name, Row(name, source, "", "", "", "", SOURCES[source].extra)))
        try:
            if SOURCES[source].installed:
                made[-1] = row_of(module.make(name), source)
        except UserError as error:  # a download, say
            print(f"{name}: not made ({error})", file=sys.stderr)
    print(f"{source}: {len(made)} rows", file=sys.stderr)
    return made


def generate(only: list[str]) -> None:
    """Write catalogue.csv again; `only` these sources, if any are named."""
    old = rows() if FILE.exists() else {}
    new = []
    for source in SOURCES:
        kept = [row for row in old.values() if row.source == source]
        new += _rows_of(source, old) if source in (only or SOURCES) else kept
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(new)


if __name__ == "__main__":
    generate(sys.argv[1:])
