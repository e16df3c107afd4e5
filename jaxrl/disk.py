"""The disk: where results may go, and files that are on it when a function returns, before they get their name."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxrl.errors import UserError


def write(path: Path, content: bytes) -> None:
    """Make a new file; raises OSError if there is one."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refusal(path: Path, error: OSError) -> str:
    """Why the disk refused to write below `path`, with the bytes that are free there."""
    existing = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), Path("/"))
    return f"{error.strerror or error} ({shutil.disk_usage(existing).free} bytes free)"


@contextlib.contextmanager
def place(out: Path) -> Iterator[None]:
    """A directory of results for the time of a command, which leaves none behind that nothing came into.

    Raises UserError where nothing can be written in it.
    """
    probe = out / f".writable-{os.getpid()}"
    absent = [folder for folder in (out, *out.parents) if not os.path.lexists(folder)]
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except (OSError, ValueError) as error:  # the latter: a NUL in the name
            why = getattr(error, "strerror", None) or error
            raise UserError(f"out = {str(out)!r} cannot be written: {why}") from None
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):  # the first that is not empty keeps those around it
            for folder in absent:
                folder.rmdir()
