"""What jax is told before it is imported: how many CPU devices to make, and where to keep what it compiled."""

import contextlib
import os
from collections.abc import MutableMapping
from pathlib import Path


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_jax(environ: MutableMapping[str, str], devices: int | None = None) -> None:
    """One CPU device per core and a compilation cache, unless the user chose otherwise; call before importing jax.

    The cache is private to the user, because whoever writes to it runs code.
    """
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrl" / "xla"
    if "JAX_COMPILATION_CACHE_DIR" not in environ:
        with contextlib.suppress(OSError):  # no cache is slower, not wrong
            cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    flags = environ.get("XLA_FLAGS", "")
    elsewhere = environ.get("JAX_PLATFORMS", "cpu").split(",")[0] != "cpu"
    if "xla_force_host_platform_device_count" not in flags and not elsewhere:
        environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices or cores()}".strip()
