"""Who runs what: of several processes on one results directory, one owns a chunk's lanes. No jax here.

    ROOT/.running/<chunk id>.claim     JSON: host, boot, process, the directory, a nonce, the lanes; created by O_EXCL,
                                       touched as a heartbeat, deleted at the end
    ROOT/.running/<chunk id>/          the chunk's checkpoints

A claim whose process is gone is taken over: at once on the machine (and process namespace) that it names, elsewhere
when nobody has seen its heartbeat move for `LEASE` seconds of the observer's own monotonic clock, so clocks of
machines are never compared. A claim names the directory that it is of by device and inode, as its machine numbers them:
there, the claim in a copy of the directory is dead at once, and one in a directory that was moved is not. Other
machines number devices, and some network file systems files, in other ways, so they go by the heartbeat alone, which
does not move in a copy either. Should two owners arise all the same, no result is harmed: of two commits of a lane the
first counts.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl import disk, foreign
from jaxrl.errors import UserError

FOLDER = ".running"
MOST_BYTES = 2**24  # ours: of a claim; 4,096 lanes take 100,000
FORM = {
    **{"host": str, "boot": str, "namespace": str, "process": int, "started": (str, None)},
    **{"nonce": str, "lanes": [str]},
}
LEASE = 120.0  # ours, seconds: longer than the attribute cache of a network file system (60 s)
BEAT = 10.0  # ours, seconds between two touches

Mark = tuple[str | None, int]  # nonce and last touch: what changes when a claim is another or its owner alive


class Claim(NamedTuple):
    path: Path
    nonce: str

    def is_mine(self) -> bool:
        """False once another process took it over, which happens to one that was suspended for longer than a lease."""
        return _read(self.path).get("nonce") == self.nonce

    def release(self) -> None:
        if self.is_mine():
            self.path.unlink(missing_ok=True)


class Claims:
    """The claims of one results directory, as one process sees them over time."""

    def __init__(self, root: str | Path):
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
            self.place = disk.Directory(root)
        except OSError as error:
            raise UserError(f"cannot write results to {root}: {disk.refusal(Path(root), error)}") from error
        if self.folder.is_symlink():  # its checkpoints are deleted once they are not needed
            raise UserError(f"{self.folder} is a symbolic link: claims and checkpoints lie in real directories only")
        self.seen: dict[Path, tuple[Mark, float]] = {}  # the newest mark of a claim, and when it was first seen here
        self.held: Claim | None = None

    @property
    def folder(self) -> Path:
        return self.place.now() / FOLDER

    def checkpoints(self, chunk: str) -> Path:
        """The folder of a chunk's checkpoints."""
        return self.folder / chunk

    def take(self, chunk: str, lanes: Sequence[str]) -> Claim | None:
        """The claim of these lanes, or None while another process holds any of them."""
        folder = self.folder
        folder.mkdir(exist_ok=True)
        path, nonce = folder / f"{chunk}.claim", uuid.uuid4().hex
        found = _mark(path)
        if found and not (self._is_dead(path) and self._bury(path, found)):
            return None
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({**_here(), "directory": self.place.identity(), "nonce": nonce, "lanes": list(lanes)}, file)
        except OSError:  # a full disk must not leave half a claim, which others would wait for
            path.unlink(missing_ok=True)
            raise
        claim = Claim(path, nonce)
        # Another process may have packed the same lanes differently; whoever claimed first keeps them.
        wanted = set(lanes)
        for other in folder.glob("*.claim"):
            if other != path and wanted & set(_read(other).get("lanes", ())) and not self._is_dead(other):
                claim.release()
                return None
        self.held = claim
        threading.Thread(target=self._beat, args=(claim,), daemon=True).start()
        return claim

    def owner(self, lanes: Sequence[str]) -> str:
        """Who holds any of these lanes, for a sentence."""
        for path in self.folder.glob("*.claim"):
            if set(lanes) & set((content := _read(path)).get("lanes", ())):
                return f"process {content.get('process')} on {content.get('host')}"
        return "another process"

    def is_mine(self, claim: Claim) -> bool:
        """As the claim's own, also where the directory was moved."""
        return self._moved(claim).is_mine()

    def release(self, claim: Claim) -> None:
        self.held = None
        self._moved(claim).release()

    def _moved(self, claim: Claim) -> Claim:
        return claim._replace(path=self.folder / claim.path.name)

    def _beat(self, claim: Claim) -> None:
        while self.held == claim:
            try:
                os.utime(self._moved(claim).path)
            except OSError:
                return
            time.sleep(BEAT)

    def _is_dead(self, path: Path) -> bool:
        content, here = _read(path), _here()
        place = ("host", "boot", "namespace")
        if content.get("boot") and all(content.get(key) == here[key] for key in place):
            if (started := _started(content["process"])) is None or started != content["started"]:
                return True
            return content.get("directory", self.place.identity()) != self.place.identity()  # in a copy
        if (mark := _mark(path)) is None:
            return False
        now = time.monotonic()
        if path not in self.seen or self.seen[path][0] != mark:
            self.seen[path] = (mark, now)
        return now - self.seen[path][1] > LEASE

    def _bury(self, path: Path, judged: Mark) -> bool:
        """Remove the claim that was judged: of several observers one succeeds, and never with a newer claim."""
        grave = path.with_suffix(f".{uuid.uuid4().hex}.dead")
        if _mark(path) != judged:
            return False
        try:
            os.rename(path, grave)
        except FileNotFoundError:
            return False
        stolen = _mark(grave) != judged  # somebody buried it and claimed anew just before
        with contextlib.suppress(OSError):
            if stolen:
                os.link(grave, path)
            grave.unlink()
        return not stolen


def leave(root: str | Path) -> None:
    """Release every claim of this process, for one that ends while its main thread is elsewhere."""
    here = _here().items()
    for path in (Path(root) / FOLDER).glob("*.claim"):
        if here <= _read(path).items():
            path.unlink(missing_ok=True)


def _here() -> dict[str, Any]:
    """What tells this process from every other one, now and after a reboot."""
    return {
        "host": socket.gethostname(),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "namespace": _link("/proc/self/ns/pid"),  # containers of one machine share its boot, not its process numbers
        "process": os.getpid(),
        "started": _started(os.getpid()),
    }


def _started(process: int) -> str | None:
    """When a process of this machine started, in ticks since the boot; None when there is none."""
    stat = _text(f"/proc/{process}/stat")
    fields = stat.rpartition(")")[2].split()
    if not stat:
        return None
    return None if fields[0] == "Z" else fields[19]


def _read(path: Path) -> dict:
    """A claim, or nothing where there is none: gone, not written yet, or something else under its name."""
    try:
        content = foreign.parsed(disk.read(path, MOST_BYTES))
        foreign.check(content, FORM)
    except (OSError, ValueError):
        return {}
    return content


def _mark(path: Path) -> Mark | None:
    """None where there is no claim."""
    try:
        return _read(path).get("nonce"), path.lstat().st_mtime_ns
    except FileNotFoundError:
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
