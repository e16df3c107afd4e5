"""The Ray cluster that chunks run on: found or started, how much of it one task takes. Neither Ray nor jax here.

A cluster started here listens on the loopback interface only, asks for a token that is made for it and kept in the
environment of its processes, and has its sockets and logs in a directory that other users cannot enter.
"""

import contextlib
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxrl.errors import UserError
from jaxrl.executors.signals import importing

LOOPBACK = ("127.0.0.1", "localhost")
REACH = 5.0  # ours, seconds: what does not answer until then would keep Ray itself trying for minutes
RETRIES = 10  # ours: of a chunk whose worker died; each goes on from its newest checkpoint
STORE_BYTES = 80 * 2**20  # nothing large travels through Ray
PRIVATE = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class Wanted(NamedTuple):
    """What the command line says; what is None is decided by the cluster's machines."""

    address: str | None = None  # of a cluster; None starts one here
    cpus: int | None = None  # of a task
    gpus: int | None = None


class Workers(NamedTuple):
    """What a task takes, and how many fit the cluster at a time."""

    cpus: int
    gpus: int
    slots: int


def wanted(executor: str, address: str | None, cpus: int | None, gpus: int | None) -> Wanted | None:
    """The flags --executor, --address, --worker-cpus and --worker-gpus, checked; None for this process alone.

    Raises:
        UserError: a value out of range, flags that do not go together, or Ray is not installed.
    """
    if executor != "ray":
        for flag, value in (("address", address), ("worker-cpus", cpus), ("worker-gpus", gpus)):
            if value is not None:
                raise UserError(f"{flag} = {value!r} needs --executor ray")
        return None
    if cpus is not None and cpus < 1:
        raise UserError(f"worker-cpus = {cpus}: must be at least 1")
    if gpus is not None and gpus < 0:
        raise UserError(f"worker-gpus = {gpus}: must be at least 0")
    if address not in (None, "auto") and not re.fullmatch(r"[^:/\s]+:\d{1,5}", address):
        raise UserError(f"address = {address!r}: expected 'auto' or HOST:PORT, as in 10.0.0.1:6379")
    if importlib.util.find_spec("ray") is None:
        raise UserError("executor 'ray' needs ray: pip install 'jaxrl[sweep]'")
    return Wanted(address, cpus, gpus)


@contextlib.contextmanager
def connected(address: str | None, tell: Callable[[dict], None]) -> Iterator[None]:
    """Ray, connected for as long as this lasts; one that this process is connected to already is left as it is.

    Raises UserError when there is no cluster at the address, it does not know our token, or Ray was imported before
    it could be told to stay private.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    if address is not None:
        _reach(address)
    _prepare(address)
    with importing():
        import ray

    folder: str | None = None
    started: dict[str, Any] = {}
    if address is None:
        from jaxrl.devices import cores

        tell({"kind": "note", "text": "starting Ray on this machine, for this run"})
        folder = tempfile.mkdtemp(prefix="jaxrl-", dir="/tmp")  # there is no room for more in the path of a socket
        # Ray would look for GPUs that the user has told jax to leave alone.
        gpus = 0 if os.environ.get("JAX_PLATFORMS") == "cpu" else None
        started = {"num_cpus": cores(), "num_gpus": gpus, "include_dashboard": False}
        started["_temp_dir"] = f"{folder}/ray"  # Ray opens it to everybody, but not the folder above it
        started["object_store_memory"] = STORE_BYTES
    with _signals_kept():
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **started)
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            raise UserError(f"address = {address!r}: {_first_sentence(error)}") from error
    try:
        yield
    except Exception:
        if folder:
            tell({"kind": "note", "text": f"the logs of Ray and of its workers are in {folder}"})
            folder = None
        raise
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def workers(cpus: int | None, gpus: int | None) -> Workers:
    """What a task takes of the connected cluster: a machine's CPUs (the smallest one's), or a GPU if there are any.

    Raises UserError when no machine has as much.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    sizes = [(int(machine.get("CPU", 0)), int(machine.get("GPU", 0))) for machine in machines]
    if gpus is None:
        gpus = int(any(has for _, has in sizes))
    if cpus is None:
        cpus = 1 if gpus else min((has for has, _ in sizes if has), default=1)
    slots = sum(min(has_cpus // cpus, has_gpus // gpus if gpus else has_cpus) for has_cpus, has_gpus in sizes)
    if slots == 0:
        most = ", ".join(f"{has_cpus} CPUs and {has_gpus} GPUs" for has_cpus, has_gpus in sorted({*sizes}))
        raise UserError(f"worker-cpus = {cpus}, worker-gpus = {gpus}: no machine has both, only {most}")
    return Workers(cpus, gpus, slots)


def _prepare(address: str | None) -> None:
    """What Ray reads of the environment when it is imported, and its processes after it."""
    chosen = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    chosen |= {"RAY_task_oom_retries": str(RETRIES)}  # by default it tries for ever
    if address is None:
        chosen |= PRIVATE | {"RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)}
    elif address.rpartition(":")[0] in LOOPBACK:
        chosen |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # or Ray would replace the address by a public one
    if "ray" in sys.modules and any(os.environ.get(name) != value for name, value in chosen.items()):
        raise UserError(
            "ray was imported before it could be told to stay private: "
            "do not import it before the sweep, or call ray.init yourself and the sweep will run there"
        )
    os.environ.update(chosen)


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    if address == "auto":
        return  # Ray knows at once
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"address = {address!r}: no Ray cluster answers there: {error}") from None


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; the caller's handler is put back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
