"""A thousand finished runs are read in under a second."""

import time

import pytest
from tiny import made_up_chunk

from jaxrl import results
from jaxrl.results import store

pytestmark = pytest.mark.faults

RUNS = 1000


@pytest.fixture(scope="module")
def thousand(memory):
    """A chunk for every seed, as a thousand runs of `jaxrl train` leave them."""
    root = memory / "thousand"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "git_state", lambda: {"commit": "c" * 40, "dirty": False})
        for seed in range(RUNS):
            store.write_chunk(root, made_up_chunk(seeds=[seed]))
    return root


@pytest.mark.parametrize(
    "query",
    [
        results.lanes,
        results.curves,
        lambda root: results.sql("select seed, max(step), avg(eval_return) from metrics group by seed", root),
    ],
    ids=["lanes", "curves", "sql"],
)
def test_a_thousand_runs_are_read_in_a_second(thousand, query):
    query(thousand)  # imports, and the files into the page cache
    took = []
    for _ in range(3):
        clock = time.process_time(), time.perf_counter()
        found = query(thousand)
        took += [time.process_time() - clock[0], time.perf_counter() - clock[1]]  # the first where others compute too
    assert (found.sizes["seed"] if hasattr(found, "sizes") else len(found)) == RUNS
    assert min(took) < 1, took
