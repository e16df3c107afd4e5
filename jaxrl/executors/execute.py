"""A spec run as the command line does it: here, on several hosts or on Ray, with progress, signals and a last table."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxrl import disk, display, trackers
from jaxrl.devices import prepare_jax
from jaxrl.errors import UserError
from jaxrl.executors import ray_cluster
from jaxrl.executors.hosts import Wanted, run_share
from jaxrl.executors.signals import Told, importing, listening
from jaxrl.spec.settings import Spec
from jaxrl.sweep import trials, tune
from jaxrl.sweep.claims import leave


def execute(
    made: Spec,
    out: Path,
    at_once: int | None = None,
    track: Sequence[str] = (),
    place: Wanted | None = None,
    on_ray: ray_cluster.Wanted | None = None,
    keep_state: bool = False,
) -> int:
    """Run a spec as `jaxrl sweep` does, progress and closing table included; returns the exit code.

    `place` says where this process is among others that run the same spec, `on_ray` which Ray cluster runs it.
    """
    if place and on_ray:
        raise UserError("--executor ray and --hosts exclude each other: Ray has its own hosts")
    if at_once is not None and at_once < 1:
        raise UserError(f"at_once = {at_once}: must be at least 1")
    trackers.check(track)
    if made.optuna:
        tune.check_installed()
        if place:
            raise UserError("a study of [optuna] is run by one process: leave --hosts out")
    if made.halving and place:
        raise UserError("[halving] judges the lanes of one process: leave --hosts out")
    if made.halving and on_ray:
        raise UserError("[halving] judges the lanes of one process: leave --executor ray out")
    if on_ray is None:  # else every worker does, for its own machine
        prepare_jax(os.environ)
    # Only from here on is jax imported.
    show = display.fitting()
    kept: list[int] = []

    def on_event(event: dict) -> None:
        if event["kind"] == "chunk":
            kept.append(event["lanes"])
        wish.follow(event)
        show(event)
        follow(event)

    def words() -> None:
        print(f"interrupted: {len(kept)} chunks, {sum(kept)} lanes committed in {out}; ", end="")
        print("run the same command again to go on", flush=True)

    number = 0  # of the signal that ended it
    with disk.place(out), listening(unwind=bool(track or on_ray)) as wish:
        wish.words = words
        wish.farewells += [functools.partial(leave, out), lambda: show({"kind": "end"})]
        try:
            with importing():
                from jaxrl.sweep.halving import halve

                run, connection = _executor(on_ray, made, show)
            with trackers.tracking(track, out, show) as follow, connection:
                start = functools.partial(
                    run, out=out, at_once=at_once, keep_state=keep_state, stop=wish, on_event=on_event
                )
                if made.optuna:
                    tried = tune.tune(made, out, start, on_event)
                    number = wish.number
                elif made.halving:
                    number = 0 if halve(made, out, start, on_event) else wish.number
                elif place:
                    number = run_share(place, made, out, at_once, wish, on_event, keep_state)
                else:
                    number = wish.number if start(made).stopped else 0
        except Told as told:
            number = told.number
        finally:
            show({"kind": "end"})  # the bar first, or it would be drawn over the sentence
    if number:
        wish.say()
        return 128 + number
    from jaxrl import results

    if made.optuna:
        print(trials.text(tried, made.optuna, made.seeds, out))
    else:
        print(results.table.text(results.summary(results.lanes(out))))
    return 0


def rehearse(made: Spec, out: Path, at_once: int | None = None) -> int:
    """Say what running a spec would take here; returns the exit code. Writes nothing."""
    if at_once is not None and at_once < 1:
        raise UserError(f"at_once = {at_once}: must be at least 1")
    prepare_jax(os.environ)
    from jaxrl.sweep.forecast import forecast, text

    tell = lambda sentence: print(sentence, file=sys.stderr, flush=True)
    print(text(forecast(made, out, at_once=at_once, tell=tell), made.name))
    return 0


def _executor(on_ray: ray_cluster.Wanted | None, made: Spec, show: Callable[[dict], None]) -> tuple[Callable, Any]:
    """What runs a spec, and what to hold open around all its calls, which are many where points are searched."""
    if on_ray is None:
        from jaxrl.sweep.run import run

        return functools.partial(run, kept={}), contextlib.nullcontext()
    import jaxrl.executors.ray

    connection = ray_cluster.connected(on_ray.address, show) if made.optuna else contextlib.nullcontext()
    return functools.partial(jaxrl.executors.ray.run, **on_ray._asdict()), connection
