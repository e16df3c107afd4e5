"""Several processes, one a host, that share the lanes of one spec and exchange nothing while they compute.

Each takes its own lanes, runs them on its own devices and commits them to the shared results directory. What
`jax.distributed` is for: who is who, that all end when one has died, and that all save and end when one is told to.
Its own preemption service is switched off: it names a step that all have to reach by counting, which processes with
lanes of their own reach minutes apart, and it falls silent once one of them is done.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.errors import UserError
from jaxrl.executors.signals import Told, Wish
from jaxrl.spec.settings import Spec

HEARTBEAT = 100  # seconds, jax's own default: a process that was not heard of for so long is dead, and ends all
END, AT, DONE = "jaxrl/end", "jaxrl/at", "jaxrl/done"  # notices: all shall end; how far each is; who has no lane left
LEAVING = 25.0  # ours, seconds that one which was told to end waits for the others to save: leaving ends them
PATIENCE = 8.0  # ours, seconds to wait for the others to say how far they are: longer than a segment
POLL = 1.0  # ours, seconds between two looks at whether the others are done
UNTIL_ALL_ARE_DONE = 10**7  # seconds that a process which failed waits for the others, because leaving would end them
NAME_SECONDS = 120.0  # ours: a cluster can take that long to publish the name of a pod


class Hosts(NamedTuple):
    """The processes of one run."""

    process: int  # this one, from 0
    processes: int


class Wanted(NamedTuple):
    """What the command line says of them; what is None is asked of the cluster."""

    processes: int | None = None
    coordinator: str | None = None  # HOST:PORT of process 0
    process: int | None = None
    heartbeat: int = HEARTBEAT


def wanted(
    hosts: str | None, coordinator: str | None = None, process: int | None = None, heartbeat: int = HEARTBEAT
) -> Wanted | None:
    """The flags --hosts, --coordinator, --process and --heartbeat, checked without jax; None for a single process.

    Raises:
        UserError: a value out of range, or flags that do not go together.
    """
    if hosts is None:
        for flag, value in (("coordinator", coordinator), ("process", process)):
            if value is not None:
                raise UserError(f"{flag} = {value!r} needs --hosts COUNT")
        return None
    if heartbeat < 1:
        raise UserError(f"heartbeat = {heartbeat}: must be at least 1 second")
    if hosts == "auto":
        if coordinator is not None or process is not None:
            raise UserError("hosts = 'auto' asks the cluster: leave --coordinator and --process out, or give a count")
        return Wanted(heartbeat=heartbeat)
    if not hosts.isdecimal() or int(hosts) < 1:
        raise UserError(f"hosts = {hosts!r}: expected 'auto' or the number of processes")
    count = int(hosts)
    if count == 1 and coordinator is None and process in (None, 0):
        return None
    if coordinator is None or process is None:
        raise UserError(f"hosts = {count} needs --coordinator HOST:PORT, of process 0, and --process 0 to {count - 1}")
    if not 0 <= process < count:
        raise UserError(f"process = {process}: must be in [0, {count - 1}], because hosts = {count}")
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"coordinator = {coordinator!r}: expected HOST:PORT, as in 10.0.0.1:8476")
    return Wanted(count, coordinator, process, heartbeat)


def connect(wanted: Wanted) -> Hosts:
    """Join the other processes, waiting up to five minutes for them; call before anything that asks jax for a device.

    Process 0 listens on the coordinator's address and on no other; where the cluster names the coordinator, jax
    listens on every interface unless JAX_COORDINATOR_BIND_ADDRESS says otherwise.

    Raises:
        UserError: no cluster to ask, or a coordinator's address that process 0 cannot listen on.
    """
    import jax

    bind = _own_address(wanted.coordinator) if wanted.coordinator and wanted.process == 0 else None
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", None)  # it would listen, unused, on the host's address
    try:
        jax.distributed.initialize(
            wanted.coordinator,
            wanted.processes,
            wanted.process,
            coordinator_bind_address=bind,
            heartbeat_timeout_seconds=wanted.heartbeat,
            shutdown_timeout_seconds=UNTIL_ALL_ARE_DONE,
        )
    except ValueError as error:
        if wanted.coordinator is not None:
            raise
        text = "hosts = 'auto': neither a TPU pod nor SLURM nor Open MPI started this process"
        raise UserError(f"{text}; say --hosts COUNT --coordinator HOST:PORT --process I") from error
    return Hosts(jax.process_index(), jax.process_count())


def share(lanes: Sequence[Any], hosts: Hosts) -> list[Any]:
    """The lanes of one process: of every program, and of all, as many as any other's or one more or less.

    It depends on nothing that is committed, so a restarted process finds its own checkpoints.
    """
    return list(lanes[hosts.process :: hosts.processes])


def told_anywhere(told: Callable[[], bool]) -> Callable[[], bool]:
    """`stop()`: True once `told` says so in any process; without a coordinator to ask, in this one."""

    def stop() -> bool:
        if told():
            _tell(END)
        return told() or _told_of(END)

    return stop


def agree(hosts: Hosts, done: int) -> int:
    """The furthest iteration among the processes that were told to end, of which this one has made `done`.

    Processes that run the same program in step so end after the same iteration, each with checkpoints of its own.
    """
    _tell(f"{AT}/{hosts.process}", str(done))
    give_up = time.monotonic() + PATIENCE
    while len(said := _all_told(AT)) < hosts.processes and time.monotonic() < give_up:
        time.sleep(0.02)
    return max((int(iteration) for iteration in said), default=done)


def run_share(
    place: Wanted,
    spec: Spec,
    out: Path,
    at_once: int | None,
    wish: Wish,
    on_event: Callable[[dict], None],
    keep_state: bool = False,
) -> int:
    """Join the others, run this process's lanes of `spec` and wait until they are done too.

    Returns:
        The number of the signal that ended it, SIGTERM if another process was told; 0 if all lanes were run.
    """
    hosts = connect(place)
    from jaxrl.sweep.plan import lanes
    from jaxrl.sweep.run import run

    stop, number = told_anywhere(wish), 0
    wish.farewells = [lambda: _leave(hosts), wish.say, *wish.farewells]  # from the last on; the first one waits
    wish.patience = LEAVING
    try:
        mine = {lane.id for lane in share(lanes(spec), hosts)}
        agreed = lambda done: agree(hosts, done)
        with _passing_on(wish):
            done = run(
                spec, out, at_once=at_once, only=mine, keep_state=keep_state, stop=stop, agree=agreed, on_event=on_event
            )
        if not done.stopped:
            here = f"process {hosts.process} of {hosts.processes}"
            on_event({"kind": "note", "text": f"{here} has no lane left to run, and waits for the others"})
        if done.stopped or not _others_are_done(hosts, stop):
            number = wish.number or signal.SIGTERM
    except Told as told:
        number = told.number
    finally:
        # Whether it failed or not: the others must not wait for this process, and shall end if it was told to.
        if number:
            wish.saving = True  # what the others have not saved
            _leave(hosts)
            wish.saving = False
        else:
            _have_no_lane_left(hosts)
    return number


def _leave(hosts: Hosts) -> None:
    """Tell all to end, and leave with them once they have saved; alone if one takes too long for that."""
    import jax

    _tell(END)
    _have_no_lane_left(hosts)
    give_up = time.monotonic() + LEAVING
    while time.monotonic() < give_up:
        if len(_all_told(DONE)) >= hosts.processes:
            jax.distributed.shutdown()
            return
        time.sleep(0.1)


@contextlib.contextmanager
def _passing_on(wish: Wish) -> Iterator[None]:
    """This process is signalled once another one was told to end, also while it compiles."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(POLL) and not wish():
            if _told_of(END):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _others_are_done(hosts: Hosts, stop: Callable[[], bool]) -> bool:
    """Wait for the other processes, whom leaving first would end; False if one was told to end."""
    _have_no_lane_left(hosts)
    while len(_all_told(DONE)) < hosts.processes:
        if stop():
            return False
        time.sleep(POLL)
    return True


def _have_no_lane_left(hosts: Hosts) -> None:
    _tell(f"{DONE}/{hosts.process}")
    _tell(f"{AT}/{hosts.process}", "0")


def _tell(name: str, value: str = "yes") -> None:
    import jax

    with contextlib.suppress(jax.errors.JaxRuntimeError):  # told before; or there is no coordinator any more
        _store().key_value_set(name, value)


def _told_of(name: str) -> bool:
    import jax

    try:
        return bool(_store().key_value_try_get(name))
    except jax.errors.JaxRuntimeError:
        return False


def _all_told(folder: str) -> list[str]:
    import jax

    try:
        return [value for _, value in _store().key_value_dir_get(folder)]
    except jax.errors.JaxRuntimeError:
        return []


def _store() -> Any:
    """The words that the coordinator keeps for all; jax has no public name for them."""
    from jax._src.distributed import global_state

    return global_state.client


def _own_address(coordinator: str) -> str:
    """ADDRESS:PORT to listen on, in numbers."""
    host, _, port = coordinator.rpartition(":")
    give_up = time.monotonic() + NAME_SECONDS
    while True:
        try:
            family, _, _, _, found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            break
        except socket.gaierror as error:
            if time.monotonic() > give_up or not host[-1].isalpha():
                raise UserError(f"coordinator = {coordinator!r}: {error.strerror}") from None
            time.sleep(1)
    try:
        socket.create_server((found[0], int(port)), family=family).close()
    except OSError as error:
        text = f"coordinator = {coordinator!r}: process 0, this one, cannot listen there: {error.strerror}"
        raise UserError(text) from None
    return f"[{found[0]}]:{port}" if family == socket.AF_INET6 else f"{found[0]}:{port}"
