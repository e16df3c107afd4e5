"""The contract on every registered environment: hours cold, so `make test-envs` goes on where it stopped.

An environment that passed is not tried again until the code of its adapter, the contract, or its library changes; what
passed is kept in .pytest_cache/test-envs, a file for each. PIECE=2/4 in the environment runs the second of four pieces.
"""

import functools
import hashlib
import json
import multiprocessing
import os
import re
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from jaxrl.envs.catalogue import SOURCES, rows

pytestmark = pytest.mark.envs
ROOT = Path(__file__).parents[2]
PASSED = ROOT / ".pytest_cache" / "test-envs"
SECONDS = 1200  # for one environment; Craftax and humanoids compile for minutes
FRESH_EVERY = 8  # environments for one process, so that compiled programs do not pile up
SHORT = 20  # steps: a limit that the check can reach
LIMIT_ARGUMENT = {
    "gymnax": "max_steps_in_episode",
    "brax": "episode_length",
    "navix": "max_steps",
    "xminigrid": "max_steps",
    "craftax": "max_timesteps",
    "jumanji": "max_steps",
    "playground": "episode_length",
}
# These cannot be made here: what `make` must say instead.
CANNOT = {
    "MNISTBandit-bsuite": r"cannot be made with .*urlopen error",  # downloads MNIST
    "brax/swimmer": "does not run with this pair of versions",
    **dict.fromkeys((row.name for row in rows().values() if row.source == "jaxtari"), r"jaxtari.*not installed here: "),
}


def piece() -> list[str]:
    number, _, count = (os.environ.get("PIECE") or "1/1").partition("/")
    return list(rows())[int(number) - 1 :: int(count or 1)]


@functools.cache
def fingerprint(source: str) -> str:
    """Of the code of ours that decides whether the environments of a source pass, and of the library's version."""
    envs = ROOT / "jaxrl" / "envs"
    own = envs / SOURCES[source].module.rpartition(".")[2]
    files = [envs / f"{name}.py" for name in ("contract", "check", "construct")]
    files += sorted(own.rglob("*.py")) if own.is_dir() else sorted(envs.glob(f"{own.name}*.py"))
    package = SOURCES[source].package
    distributions = sorted(set(packages_distributions().get(package, ()))) if package != "jaxrl" else []
    parts = [file.read_text() for file in files] + [version(name) for name in ("jax", *distributions)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def examine(name: str) -> dict:
    """In a process of its own: the environment as the catalogue says, then the contract with a limit within reach."""
    from jaxrl import envs
    from jaxrl.envs.catalogue import row_of
    from jaxrl.errors import UserError

    try:
        task = envs.make(name)
    except UserError as error:
        return {"cannot": str(error)}
    row = rows()[name]
    if row_of(task, row.source) != row:
        return {"wrong": f"the catalogue says {row}, the task is {row_of(task, row.source)}"}
    argument = LIMIT_ARGUMENT.get(row.source)
    if argument:
        argument = "max_steps" if re.match("brax/(point|ant)-", name) else argument
        task = envs.make(name, **{argument: min(SHORT, task.max_steps)})
    try:
        return envs.check_env(task, steps=min(3 * task.max_steps, 300))
    except UserError as error:
        return {"wrong": str(error)}


@pytest.fixture(scope="module")
def process():
    """Runs `examine` elsewhere, so that time can be bounded: a compilation cannot be interrupted from within."""
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(1, maxtasksperchild=FRESH_EVERY)

    def run(name: str) -> dict:
        nonlocal pool
        try:
            return pool.apply_async(examine, (name,)).get(SECONDS)
        except multiprocessing.TimeoutError:
            pool.terminate()
            pool = context.Pool(1, maxtasksperchild=FRESH_EVERY)
            return {"wrong": f"not done after {SECONDS} s"}

    yield run
    pool.terminate()


@pytest.mark.parametrize("name", piece())
def test_environment_keeps_the_contract(name, process):
    record = PASSED / re.sub(r"[^\w.-]", "_", name)
    now = fingerprint(rows()[name].source)
    if record.is_file() and json.loads(record.read_text())["fingerprint"] == now:
        pytest.skip("passed before, and nothing that decides it has changed")
    report = process(name)
    if "cannot" in report:
        assert name in CANNOT and re.search(CANNOT[name], report["cannot"]), report["cannot"]
        pytest.skip(report["cannot"])
    assert "wrong" not in report, report["wrong"]
    ended = report["terminated"] + report["truncated"] > 0
    assert ended or rows()[name].source not in LIMIT_ARGUMENT, f"no episode ended: {report}"
    PASSED.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"name": name, "fingerprint": now, "report": report}))
