"""The command line. Everything a user can mistype is refused here, before jax is imported."""

import dataclasses
import functools
import io
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxrl import disk, listing, trackers
from jaxrl.devices import prepare_jax
from jaxrl.errors import UserError, unknown
from jaxrl.executors import ray_cluster
from jaxrl.executors.execute import execute, rehearse
from jaxrl.executors.hosts import HEARTBEAT, wanted
from jaxrl.executors.signals import ended_by, guard, listening
from jaxrl.flags import Whole, check_flags, kind_of, pairs_flag, read_pairs
from jaxrl.intrinsic.expression import parse
from jaxrl.signatures import installed
from jaxrl.spec.fields import CONFIG, agent_fields
from jaxrl.spec.spec import load_toml, spec
from jaxrl.spec.tables import MAX_SEED, parse_seeds

AT_ONCE = "lanes that one device runs together; by default one on a CPU, all on an accelerator"
KEEP_STATE = "keep the states that lanes end with, so that the same run with more steps goes on from them"
TRACK = f"also write the curves to these, as the run goes: {', '.join(trackers.CATALOGUE)}"
HOSTS = "processes, one a host, that share the lanes: auto on a TPU pod or under SLURM, or how many there are"
COORDINATOR = "address of process 0, HOST:PORT, where --hosts is a number"
PROCESS = "which of them this is, from 0, where --hosts is a number"
SILENCE = "seconds of silence after which a process counts as dead, and all end"
EXECUTOR = "where chunks run: here, in this process, or as tasks of a Ray cluster"
ADDRESS = "auto, or HOST:PORT, of the Ray cluster; by default one is started on this machine for the run"
WORKER_CPUS = "of a Ray task; by default all of a machine's, or one beside its GPUs"
DRY_RUN = "say what the run would take, in lanes, steps, memory and time, and run nothing"
WORKER_GPUS = "of a Ray task; by default one if the cluster has any"
ALLOW = "code, package.module:name, that the results may name and have run; by default jaxrl's own alone"
Allowed = Annotated[tuple[str, ...], tyro.conf.arg(help=ALLOW, metavar="REF ...")]
SEEDS = "a count, start:stop, or a list, as in 1,5,7"
READER_LEFT = 141  # 128 + SIGPIPE


def _with_notes(command: Callable) -> Callable:
    """What is left out of results, a warning in Python, is told as a note here, each once."""

    @functools.wraps(command)
    def noted(*arguments: Any) -> int:
        said: set[str] = set()

        def show(message, category, *place: Any, **more: Any) -> None:
            if category is not UserWarning:
                before(message, category, *place, **more)
            elif str(message) not in said:
                said.add(str(message))
                print(f"note: {message}", file=sys.stderr)

        with warnings.catch_warnings():
            before = warnings.showwarning
            warnings.showwarning = show  # type: ignore[assignment]
            return command(*arguments)

    return noted


@_with_notes
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 (not healthy), 2 (the user's mistake), 130 (interrupted), 141."""
    if arguments is None:
        guard()
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its code instead
            stream.reconfigure(errors="backslashreplace")
    try:
        if arguments == ["--version"]:
            print(f"jaxrl {installed(('jaxrl',))['jaxrl'] or '(not installed)'}")
            return 0
        train_flags = train_command(_agent_named_in(arguments))
        if arguments[:1] == ["train"]:
            check_flags(arguments, [field.name for field in dataclasses.fields(train_flags)])
        command = tyro.extras.subcommand_cli_from_dict(
            {
                "train": train_flags,
                "sweep": sweep,
                "confirm": confirm,
                "evaluate": evaluate,
                "report": report,
                "calibrate": calibrate,
                "reproduce": reproduce,
                "list": list_,
                "watch": watch,
                "replay": replay,
                "export": export,
                "doctor": doctor,
                "launch": launch,
            },
            prog="jaxrl",
            description="Exploration in reinforcement learning: sweep, evaluate, read.",
            args=arguments,
        )
        code = command if isinstance(command, int) else train(command)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"jaxrl: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has left; nothing more is to be said, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT
    except BaseException as error:
        if code := ended_by(error):
            return code
        raise


def train_command(agent: str) -> type:
    """The dataclass behind `jaxrl train`: a flag for every field of a run with this agent."""
    flags: list[tuple[str, Any, Any]] = [
        ("out", Annotated[Path, tyro.conf.arg(help="directory of the results")], Path("results/train")),
        ("seeds", Annotated[str, tyro.conf.arg(help=SEEDS)], "1"),
        ("at_once", Annotated[Whole | None, tyro.conf.arg(help=AT_ONCE)], None),
        ("keep_state", Annotated[bool, tyro.conf.arg(help=KEEP_STATE)], False),
        ("track", Annotated[tuple[str, ...], tyro.conf.arg(help=TRACK, metavar="NAME ...")], ()),
        ("hosts", Annotated[str | None, tyro.conf.arg(help=HOSTS)], None),
        ("coordinator", Annotated[str | None, tyro.conf.arg(help=COORDINATOR)], None),
        ("process", Annotated[Whole | None, tyro.conf.arg(help=PROCESS)], None),
        ("heartbeat", Annotated[Whole, tyro.conf.arg(help=SILENCE)], HEARTBEAT),
        ("executor", Annotated[Literal["here", "ray"], tyro.conf.arg(help=EXECUTOR)], "here"),
        ("address", Annotated[str | None, tyro.conf.arg(help=ADDRESS)], None),
        ("worker_cpus", Annotated[Whole | None, tyro.conf.arg(help=WORKER_CPUS)], None),
        ("worker_gpus", Annotated[Whole | None, tyro.conf.arg(help=WORKER_GPUS)], None),
        ("dry_run", Annotated[bool, tyro.conf.arg(help=DRY_RUN)], False),
        ("set", pairs_flag("parameters of bonuses and any other field, as in rnd.lr=1e-3"), ()),
    ]
    for name, field in {**agent_fields(agent, {}), **CONFIG}.items():
        if name == "env_args":
            flags.append((name, pairs_flag(field.help), ()))
        else:
            flags.append((name, Annotated[kind_of(field), tyro.conf.arg(help=field.help)], field.default))
    made = dataclasses.make_dataclass(
        "Train", [(n, kind, dataclasses.field(default=value)) for n, kind, value in flags]
    )
    made.__doc__ = "Run one configuration on several seeds."
    return made


def train(flags: Any) -> int:
    fields = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    out, seeds, given = fields.pop("out"), fields.pop("seeds"), read_pairs("set", fields.pop("set"))
    at_once, track, keep_state = (fields.pop(flag) for flag in ("at_once", "track", "keep_state"))
    dry_run = fields.pop("dry_run")
    place = wanted(*(fields.pop(flag) for flag in ("hosts", "coordinator", "process", "heartbeat")))
    on_ray = ray_cluster.wanted(*(fields.pop(key) for key in ("executor", "address", "worker_cpus", "worker_gpus")))
    fields["env_args"] = read_pairs("env-args", fields.pop("env_args"))
    made = spec(name="train", seeds=seeds, **{**fields, **given})
    if dry_run:
        return rehearse(made, out, at_once)
    return execute(made, out, at_once, track, place, on_ray, keep_state)


def sweep(
    file: tyro.conf.Positional[Path],
    out: Path | None = None,
    at_once: Whole | None = None,
    keep_state: Annotated[bool, tyro.conf.arg(help=KEEP_STATE)] = False,
    track: Annotated[tuple[str, ...], tyro.conf.arg(help=TRACK, metavar="NAME ...")] = (),
    hosts: Annotated[str | None, tyro.conf.arg(help=HOSTS)] = None,
    coordinator: Annotated[str | None, tyro.conf.arg(help=COORDINATOR)] = None,
    process: Annotated[Whole | None, tyro.conf.arg(help=PROCESS)] = None,
    heartbeat: Annotated[Whole, tyro.conf.arg(help=SILENCE)] = HEARTBEAT,
    executor: Annotated[Literal["here", "ray"], tyro.conf.arg(help=EXECUTOR)] = "here",
    address: Annotated[str | None, tyro.conf.arg(help=ADDRESS)] = None,
    worker_cpus: Annotated[Whole | None, tyro.conf.arg(help=WORKER_CPUS)] = None,
    worker_gpus: Annotated[Whole | None, tyro.conf.arg(help=WORKER_GPUS)] = None,
    dry_run: Annotated[bool, tyro.conf.arg(help=DRY_RUN)] = False,
) -> int:
    """Run every lane of a TOML spec that is not committed yet.

    Args:
        file: the spec: name, seeds, [fixed], and [grid], [zip], [random] or [optuna], and [halving].
        out: directory of the results; by default results/NAME.
        at_once: lanes that one device runs together; by default one on a CPU, all on an accelerator.
    """
    place = wanted(hosts, coordinator, process, heartbeat)
    on_ray = ray_cluster.wanted(executor, address, worker_cpus, worker_gpus)
    made = load_toml(file)
    if dry_run:
        return rehearse(made, out or Path("results") / made.name, at_once)
    return execute(made, out or Path("results") / made.name, at_once, track, place, on_ray, keep_state)


def confirm(
    directory: tyro.conf.Positional[Path],
    seeds: str | None = None,
    metric: str = "eval_return",
    direction: Literal["maximize", "minimize"] = "maximize",
    out: Path | None = None,
    at_once: Whole | None = None,
    allow: Allowed = (),
) -> int:
    """Run the best point of a sweep or a search on fresh seeds.

    Args:
        directory: of the results.
        seeds: start:stop, none of them used in the results; by default as many as the point has, after the largest.
        metric: what is best: its last value, mean over the seeds.
        direction: of the metric.
        out: directory of the fresh results; by default beside the results, under their name and -confirmed.
        at_once: lanes that one device runs together; by default one on a CPU, all on an accelerator.
    """
    _existing(directory)
    from jaxrl.sweep.confirm import again, best, sentence

    point = best(directory, metric, direction)
    made = again(point, seeds, allow=allow)
    print(sentence(point, metric))
    beside = directory.resolve()
    return execute(made, out or beside.with_name(f"{beside.name}-confirmed"), at_once)


def evaluate(
    directory: tyro.conf.Positional[Path],
    episodes: Whole = 128,
    seed: Whole = 0,
    allow: Allowed = (),
    strict: bool = False,
) -> int:
    """Evaluate the final policy of every lane on fresh episodes.

    Args:
        directory: of the results.
        episodes: per lane, greedy and sampled each.
        seed: chooses the episodes.
        strict: end at a damaged chunk instead of leaving it out with a note.
    """
    _existing(directory)
    _check_episodes(episodes, seed)
    prepare_jax(os.environ)
    from jaxrl.sweep.policy import evaluate as evaluate_lanes

    print(evaluate_lanes(directory, episodes=episodes, seed=seed, allow=allow, strict=strict).to_string(index=False))
    return 0


def report(
    directories: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None, strict: bool = False
) -> int:
    """Write one self-contained HTML page on one or several results directories.

    Args:
        directories: of results.
        out: the page; by default report.html in the first directory.
        strict: end at a damaged chunk instead of leaving it out with a note.
    """
    if not directories:
        raise UserError("report: name at least one results directory")
    for directory in directories:
        _existing(directory)
    from jaxrl.results.report import write_report

    print(write_report(*directories, out=out or directories[0] / "report.html", strict=strict))
    return 0


def calibrate(
    bonuses: tyro.conf.Positional[tuple[str, ...]] = (),
    out: Path = Path("results/calibration"),
    seeds: str = "10",
    torso: Literal["mlp", "conv"] = "mlp",
) -> int:
    """Compare bonuses with exact visit counts along scripted walks, without an agent.

    Args:
        bonuses: expressions, as in train --bonus; by default every bonus of the catalogue.
        out: directory of the table, calibration.csv and .md, and the figure, calibration.png.
        seeds: a count, start:stop, or a list, as in 1,5,7.
        torso: what looks at the picture of the grid; conv takes half as long again as mlp on a CPU.
    """
    walks = parse_seeds(seeds)
    for bonus in bonuses:
        parse(bonus)
    prepare_jax(os.environ)
    with disk.place(out):
        return _calibrate(bonuses, walks, out, torso)


def _calibrate(bonuses: Sequence[str], walks: Sequence[int], out: Path, torso: Literal["mlp", "conv"]) -> int:
    from jaxrl import calibrate as calibration

    chosen = list(bonuses) or calibration.default_bonuses()
    done: list[Any] = []
    clock, code = time.monotonic(), 0
    with listening() as wish:
        wish.words = lambda: print(f"interrupted: {len(done)} of {len(chosen)} bonuses done", flush=True)
        try:
            for calibrated in calibration.run(chosen, walks, out, calibration.Protocol(torso=torso)):
                done.append(calibrated)
                seconds, clock = time.monotonic() - clock, time.monotonic()
                print(f"{len(done)}/{len(chosen)} {calibration.line(calibrated)}, {seconds:.0f} s", flush=True)
        except KeyboardInterrupt as interruption:
            wish.say()
            code = 128 + (getattr(interruption, "number", 0) or signal.SIGINT)
        if done:
            print(calibration.text(calibration.table(done)))
            print(f"table and figure: {out / 'calibration.csv'}, .md, {out / 'calibration.png'}")
    return code


def reproduce(
    claim: tyro.conf.Positional[str] = "",
    scale: Literal["smoke", "cpu", "gpu"] = "cpu",
    all: bool = False,
    out: Path = Path("results/reproduce"),
    record: bool = False,
) -> int:
    """Decide a claim of a paper: train, compare, draw; `jaxrl list claims` says which there are.

    Args:
        claim: its name.
        scale: cpu, at most 12 minutes on two cores; gpu, an hour on one; smoke, seconds, to try the machinery.
        all: every claim that has no fresh record in `out` yet, then one report.
        out: directory of records, figures, tables and what was trained.
        record: also keep the record in experiments/records.
    """
    from jaxrl.reproduce import catalogue

    if all == bool(claim):
        raise UserError("reproduce: name one claim, or pass --all; there are " + ", ".join(catalogue.names()))
    if record and scale == "smoke":
        raise UserError("reproduce: --record keeps what was measured, and at the scale smoke nothing is")
    if claim:
        catalogue.path(claim)
    prepare_jax(os.environ)
    with disk.place(out):
        from jaxrl.reproduce import command

        return command.every(scale, out, record) if all else command.one(claim, scale, out, record)


def watch(
    directory: tyro.conf.Positional[Path],
    lane: str,
    out: Path | None = None,
    episodes: Whole = 64,
    seed: Whole = 0,
    greedy: bool = False,
    allow: Allowed = (),
) -> int:
    """Draw what a stored policy does: a GIF of one episode and a map of the states that many episodes visit.

    Args:
        directory: of the results.
        lane: its id, or as much of its beginning as no other lane has.
        out: directory of the pictures; by default watch/ in the results.
        episodes: counted in the map; the first is drawn.
        seed: chooses the episodes.
        greedy: take the likeliest action instead of a sampled one.
    """
    _existing(directory)
    _check_episodes(episodes, seed)
    prepare_jax(os.environ)
    from jaxrl.sweep.watch import watch as watch_lane

    pictures = out or directory / "watch"
    with disk.place(pictures):
        seen = watch_lane(directory, lane, pictures, episodes=episodes, seed=seed, greedy=greedy, allow=allow)
    print(f"{seen.episode or 'no picture: the environment cannot draw itself'}", end=": ")
    print(f"{seen.steps} steps, return {seen.episode_return:.3g}")
    print(seen.visits or "no map: the environment does not name its states")
    return 0


def export(
    directory: tyro.conf.Positional[Path], lane: str, out: Path | None = None, allow: Allowed = ()
) -> int:
    """Write a stored policy as plain JAX: its weights, and ten lines that act with them and need jaxrl no more.

    Args:
        directory: of the results.
        lane: its id, or as much of its beginning as no other lane has.
        out: directory of weights.safetensors and act.py; by default export/LANE in the results.
    """
    _existing(directory)
    prepare_jax(os.environ)
    from jaxrl.sweep.exported import export as export_policy

    print(export_policy(directory, lane, out, allow=allow))
    return 0


def replay(
    directory: tyro.conf.Positional[Path],
    lane: str,
    debug: bool = False,
    allow: Allowed = (),
) -> int:
    """Run one lane again, alone, to its first bad iteration.

    Args:
        directory: of the results.
        lane: its id, or as much of its beginning as no other lane has.
        debug: check every operation and name the one that made the first NaN.
    """
    _existing(directory)
    from jaxrl.sweep.replay import replay as replay_lane

    print(replay_lane(directory, lane, debug=debug, allow=allow), end="")
    return 0


def list_(
    what: tyro.conf.Positional[str] = "",
    containing: tyro.conf.Positional[str] = "",
) -> int:
    """List what can be named.

    Args:
        what: envs, bonuses, agents, trainers, wrappers, fields, metrics or claims.
        containing: only rows with this word in them, as in `jaxrl list envs doorkey`; the name of a bonus, an agent,
            a trainer or a wrapper also lists its parameters, as in `jaxrl list bonuses rnd`.
    """
    tables = listing.TABLES
    if not what:
        raise UserError(f"list: say what to list, one of {', '.join([*tables, *listing.CATALOGUES])}")
    if what not in {*tables, *listing.CATALOGUES}:
        raise unknown("list", what, [*tables, *listing.CATALOGUES])
    heads, rows = tables[what]() if what in tables else listing.factories(what)
    found = [row for row in rows if containing.lower() in " ".join(row).lower()]
    if not found:
        raise UserError(f"containing = {containing!r}: none of the {what} have this word in their row")
    print(listing.table(heads, found), end="")
    if what not in tables and containing in {name for name, *_ in rows}:
        print(f"\nparameters of {containing}:\n{listing.table(*listing.parameters(what, containing))}", end="")
    return 0


def doctor() -> int:
    """Versions, devices, directories, and every known clash with its cure."""
    prepare_jax(os.environ)
    from jaxrl.doctor import report as diagnose

    return diagnose()


def launch(
    cluster: tyro.conf.Positional[Literal["jobset"]],
    file: tyro.conf.Positional[Path],
    image: str,
    out: str,
    claim: str | None = None,
    name: str | None = None,
    hosts: Whole | None = None,
    gpus: Whole = 0,
    tpu_accelerator: str | None = None,
    tpu_topology: str | None = None,
) -> int:
    """Print what makes a Kubernetes cluster run a sweep on several hosts, for `kubectl apply -f -`.

    Args:
        cluster: jobset, a JobSet (jobset.x-k8s.io) and a ConfigMap with the spec.
        file: the TOML spec; code of your own that it names must be in the image.
        image: container image with jaxrl in it.
        out: directory of the results in the pods, or gs://BUCKET/DIRECTORY of a bucket with a hierarchical namespace.
        claim: persistent volume claim to mount at the directory, ReadWriteMany where there are several hosts.
        name: of the JobSet; by default the spec's.
        hosts: pods; by default one, or as many as a TPU slice has at four chips each.
        gpus: NVIDIA GPUs of a pod.
        tpu_accelerator: label of the nodes, as in tpu-v5-lite-podslice.
        tpu_topology: of the slice, as in 4x4.
    """
    from jaxrl.executors.jobset import jobset, name_from

    made = load_toml(file)
    manifest = jobset(
        file.read_text(encoding="utf-8"),
        name=name or name_from(made.name),
        image=image,
        out=out,
        claim=claim,
        hosts=hosts,
        gpus=gpus,
        tpu_accelerator=tpu_accelerator,
        tpu_topology=tpu_topology,
    )
    print(json.dumps(manifest, indent=2))
    return 0


def _agent_named_in(arguments: Sequence[str]) -> str:
    """The value of --agent, needed before the flags are known, because the agent decides which there are."""
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag == "--agent" or flag.startswith("--agent="):
            return flag.partition("=")[2] or value
    return CONFIG["agent"].default


def _check_episodes(episodes: int, seed: int) -> None:
    if episodes < 1:
        raise UserError(f"episodes = {episodes}: must be at least 1")
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"seed = {seed}: must be in [0, {MAX_SEED}]")


def _existing(directory: Path) -> None:
    if not os.path.isdir(directory):  # unlike the path's own method, False for what cannot be a name
        raise UserError(f"there is no results directory {str(directory)!r}")
