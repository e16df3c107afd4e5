"""Fixtures of the tests that break things.

Everything lies in memory where the machine has a folder for that: to kill a process, unlike to cut the power, loses
nothing that was written, and the flushing is tested by its order.
"""

import os
import tempfile
from pathlib import Path

import pytest
from tiny import LANES, PACK, Tiny

from jaxrl.results import store

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def memory():
    usable = os.access(MEMORY, os.W_OK) and os.statvfs(MEMORY).f_bavail * os.statvfs(MEMORY).f_frsize > 2**29
    with tempfile.TemporaryDirectory(prefix="jaxrl-faults-", dir=MEMORY if usable else None) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(memory):
    return Path(tempfile.mkdtemp(dir=memory))


@pytest.fixture(scope="session")
def tiny(memory) -> Tiny:
    return Tiny(memory)


@pytest.fixture(scope="session")
def whole(tiny) -> Path:
    """Results of an uninterrupted sweep; whoever asks for them also finds a warm compilation cache."""
    out = tiny.folder / "whole"
    tiny.finish(out)
    assert len(store.committed(out)) == LANES and len(store.chunks(out)) == LANES // PACK
    return out
