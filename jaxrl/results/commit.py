"""The commit that the running jaxrl is of."""

import subprocess
from pathlib import Path
from typing import Any

FILE = Path(__file__)


def git_state() -> dict[str, Any]:
    """Commit of the running source and whether tracked files differ from it; None where git cannot tell.

    Nor can it where jaxrl is installed inside of another repository, which does not track its files.
    """
    try:
        _git("ls-files", "--error-unmatch", "--", FILE.name)  # fails where this file is not tracked
        commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changes)}


def _git(*command: str) -> str:
    asked = ["git", "-C", str(FILE.parent), *command]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
