"""Files that are on the disk when a function returns, as results and checkpoints need it before they get their name."""

import os
import shutil
from pathlib import Path


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
