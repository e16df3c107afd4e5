"""The disk: where results may go, files that are on it when a function returns, and what may be read from it."""

import contextlib
import errno
import os
import shutil
import stat
import weakref
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from jaxrl.errors import UserError


def write(path: Path, content: bytes) -> None:
    """Make a new file; raises OSError if there is one."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


class Directory:
    """A directory that is known by what it is and not by its name, so that it is noticed when it was moved."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, self._descriptor)

    def identity(self) -> list[int]:
        """Device and inode, as this machine numbers them."""
        found = os.fstat(self._descriptor)
        return [found.st_dev, found.st_ino]

    def is_gone(self) -> bool:
        """Whether its name is nobody's any more, or another directory's."""
        try:
            found = os.stat(self.path)
        except OSError:
            return True
        return [found.st_dev, found.st_ino] != self.identity()

    def now(self) -> Path:
        """Where it lies now; its old name where it was deleted, and where the system cannot tell."""
        with contextlib.suppress(OSError):
            if self.is_gone() and (found := Path(f"/proc/self/fd/{self._descriptor}").readlink()).is_dir():
                return found
        return self.path

    def is_lost(self) -> bool:
        """Whether nothing can be written to it any more."""
        return self.is_gone() and self.now() == self.path

    def moved(self) -> UserError:
        """The end of a run whose results are no longer where it was told to write them."""
        if self.is_lost():
            return UserError(f"{self.path} was deleted or replaced while it was written to: what was running is lost")
        text = f"{self.path} was moved to {self.now()} while it was written to: everything, also what was running, is"
        return UserError(f"{text} there; run the same with out = {str(self.now())!r} to go on")


class Refused(ValueError):
    """Why a file is not read, as the end of a sentence that begins with its name."""


def opened(path: Path, most: int | None = None) -> BufferedReader:
    """A regular file of at most `most` bytes, by default of the machine's memory, for reading. It never waits.

    Raises:
        Refused: a link, a folder, a pipe, a socket, a device, or a larger file.
        OSError: it is not there, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused("is a symbolic link: results are read from real files only") from None
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device without a driver
            raise Refused("is no regular file") from None
        raise
    try:
        found = os.fstat(descriptor)
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if most is None else most
        if not stat.S_ISREG(found.st_mode):
            raise Refused("is no regular file")
        if found.st_size > most:
            raise Refused(f"is damaged: it holds {found.st_size:,} bytes, {most:,} are the most")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read(path: Path, most: int | None = None) -> bytes:
    """The content of a file; raises as `opened` does."""
    with opened(path, most) as file:
        return file.read()


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
