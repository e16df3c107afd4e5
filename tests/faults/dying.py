"""Children that kill themselves in the middle of writing.

    dying.py chunk|checkpoint    per line "CALL FOLDER" of its input: a child writes into FOLDER and dies by SIGKILL
                                 just before its CALL-th change of the disk; then "killed" or "survived" is printed

Every call that can change the disk counts, and a write counts twice: before it, and after half of its bytes.
"""

import builtins
import os
import signal
import sys
from pathlib import Path

import numpy as np
from tiny import made_up_chunk

from jaxrl import checkpoint
from jaxrl.results import store


def die_at(last: int) -> None:
    """Count down from here on; what is counted is everything that store and checkpoint change the disk with."""
    left = last

    def step():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(real):
        def call(*arguments, **keywords):
            step()
            return real(*arguments, **keywords)

        return call

    class Halting:
        """A file whose every write can end half-way."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            step()
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, content):
            step()
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            step()
            self.file.write(content[len(content) // 2 :])

    real_open = builtins.open

    def opened(path, mode="r", *arguments, **keywords):
        if not set(mode) & set("wax+"):
            return real_open(path, mode, *arguments, **keywords)
        step()
        return Halting(real_open(path, mode, *arguments, **keywords))

    builtins.open = opened
    for name in ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))


def write_plainly(path: Path, arrays: dict) -> None:
    """In orbax's place, whose own writing the random kills are for."""
    path.mkdir()
    for name, array in arrays.items():
        with open(path / f"{name}.npy", "wb") as file:
            file.write(array.tobytes())


def write(what: str, folder: str) -> None:
    if what == "chunk":
        store.git_state = lambda: {"commit": None, "dirty": None}
        store.write_chunk(folder, made_up_chunk())
    else:
        checkpoint._write_with_orbax = write_plainly
        checkpoint.save(folder, 3, {"a": np.full(64, 3.0), "b": np.full(8, 3)}, {"step was": 3})


if __name__ == "__main__":
    for line in sys.stdin:
        last, folder = line.split(maxsplit=1)
        if (child := os.fork()) == 0:
            die_at(int(last))
            write(sys.argv[1], folder.rstrip("\n"))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print({0: "survived", -signal.SIGKILL: "killed"}.get(status, f"exit code {status}"), flush=True)
