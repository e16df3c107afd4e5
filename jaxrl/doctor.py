"""`jaxrl doctor`: what is installed, what it runs on, and every known clash with its one-line cure."""

import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxrl.envs.catalogue import UNSOLVABLE
from jaxrl.signatures import installed

CORE = (
    "jax", "jaxlib", "flax", "optax", "chex", "numpy", "brax", "gymnax", "six", "flashbax", "orbax-checkpoint",
    "safetensors", "tyro", "rich", "scipy", "pyarrow", "duckdb", "xarray", "pandas", "matplotlib",
)  # fmt: skip
SUSPECTS = ("tensorflow-probability", "tfp-nightly")
# At least the first, below the second: outside of these jaxrl is known to break, for the reason given.
RANGES = {
    "jax": ("0.10.2", "0.12", "jaxrl is written for the sharding and random-number APIs of these versions"),
    "gymnax": ("1.0.1", "2", "gymnax before 1 has another step API, without final observations"),
    "numpy": ("2", "3", "jax 0.10 and the compiled packages beside it are built for NumPy 2"),
}


class Clash(NamedTuple):
    problem: str
    cure: str
    breaks: bool  # jaxrl itself does not work until it is cured


def clashes(versions: Mapping[str, str | None]) -> list[Clash]:
    """The known clashes that these versions (None: absent) have, the ones that break jaxrl first."""
    found = [
        Clash(f"{name} is not installed", f"pip install '{_requirement(name)}'", True)
        for name in CORE
        if versions.get(name) is None
    ]
    for name, (low, high, reason) in RANGES.items():
        version = versions.get(name)
        if version is not None and not _release(low) <= _release(version) < _release(high):
            problem = f"{name} {version} is outside [{low}, {high}): {reason}"
            found.append(Clash(problem, f"pip install '{_requirement(name)}'", True))
    if all(versions.get(name) for name in SUSPECTS):
        problem = "tensorflow-probability and tfp-nightly install the same files; whichever came last wins"
        cure = "pip uninstall -y tensorflow-probability tfp-nightly && pip install tfp-nightly"
        found.append(Clash(problem, cure, False))
    if versions.get("navix") and _release(versions["navix"] or "0") < (4,):
        problem = (
            f"navix {versions['navix']} has worlds whose goal cannot be reached; jaxrl does not offer {_families()}"
        )
        found.append(Clash(problem, "use the grid/ environments of the same names", False))
    if versions.get("brax") and _release(versions.get("jax") or "0") >= (0, 10):
        problem = "brax.training does not run on jax >= 0.10, which has no device_put_replicated"
        found.append(Clash(problem, "use brax's environments with jaxrl's agents; do not import brax.training", False))
    return found


def _families() -> str:
    *most, last = sorted({re.sub(r"S\d+R\d+$", "*", name) for name in UNSOLVABLE})
    return f"{', '.join(most)} and {last}"


def directories(environ: Mapping[str, str]) -> dict[str, Path]:
    """The directories that a run writes to, by purpose."""
    found = {"current directory": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}
    if cache := environ.get("JAX_COMPILATION_CACHE_DIR"):
        found["compilation cache"] = Path(cache)
    return found


def writable(path: Path) -> bool:
    """True if a file can be made in the directory, or in the nearest parent that exists."""
    while not path.exists():
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK)


def report() -> int:
    """Print the diagnosis; 1 when something breaks jaxrl, else 0."""
    versions = installed((*CORE, *SUSPECTS, "navix"))
    print(f"python {platform.python_version()} on {platform.platform()} ({sys.executable})")
    print("\n".join(f"  {name} {version or '-'}" for name, version in versions.items()))
    broken = _print_devices()
    for purpose, path in directories(os.environ).items():
        print(f"{purpose}: {path} ({'writable' if writable(path) else 'NOT WRITABLE'})")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        print("compilation cache: none; set JAX_COMPILATION_CACHE_DIR to a private directory to keep compiled programs")
    found = clashes(versions)
    for clash in found:
        print(f"{'BROKEN' if clash.breaks else 'note'}: {clash.problem}\n  cure: {clash.cure}")
    broken |= any(clash.breaks for clash in found)
    print("jaxrl will not work until this is cured" if broken else "jaxrl is ready")
    return int(broken)


def _print_devices() -> bool:
    try:
        import jax

        devices = jax.devices()
        hosts = jax.local_device_count("cpu")
    except Exception as error:
        print(f"BROKEN: jax does not start: {error}")
        return True
    print(f"devices: {', '.join(f'{device.platform}:{device.id} ({device.device_kind})' for device in devices)}")
    print(f"host devices: {hosts} (XLA_FLAGS={os.environ.get('XLA_FLAGS', '')!r})")
    return False


def _requirement(name: str) -> str:
    low, high, _ = RANGES.get(name, ("", "", ""))
    return f"{name}>={low},<{high}" if low else name


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
