"""Run one stored lane again, alone, and name the operation that made its first NaN."""

import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from jaxrl.spec.fields import iterations
from jaxrl.sweep.lanes import keys_of
from jaxrl.sweep.policy import manifest_of, stored_lanes, warn_if_foreign
from jaxrl.sweep.program import build


def replay(
    directory: str | Path,
    lane: str,
    *,
    debug: bool = False,
    allow: Collection[str] = (),
    objects: Mapping[str, Callable] | None = None,
) -> str:
    """Run `lane` from its seed to its first bad iteration (to the end if it had none) and say what happened.

    Alone on one device the last bits may differ from the run in which it diverged, so the iteration may too; the
    sentence gives both. With `debug` every floating-point operation is checked and the first that made a NaN out of
    numbers that were none is named, with the line of code that called it; and so is an action outside of its space.
    `allow` and `objects` as for `load_policy`.

    Raises:
        UserError: no such lane, damaged files, or code that is not allowed.
    """
    manifest = manifest_of(directory, lane)
    static, lanes = stored_lanes(directory, manifest, allow, objects)
    row = next(row for row in lanes if row["lane"].startswith(lane))
    program = build(static, objects)
    values = {name: jnp.float32(value) for name, value in row["values"].items()}
    trainer = program.make(values).trainer
    last = row["first_bad_iteration"] or iterations(static)
    init, step = jax.jit(trainer.init), jax.jit(checkify.checkify(trainer.step, errors=checkify.user_checks))
    checked = jax.jit(checkify.checkify(trainer.step, errors=checkify.nan_checks)) if debug else None

    warn_if_foreign(manifest)
    said = f"lane {row['lane']}, seed {row['seed']}: " + (
        f"stored as diverged at iteration {last}\n" if row["first_bad_iteration"] else "stored as finite\n"
    )
    state = init(keys_of([row["seed"]])[0])
    for iteration in range(1, iterations(static) + 1 if debug else last + 1):
        before = state
        error, (state, metrics) = step(state)
        if debug and error.get() is not None:
            return said + f"iteration {iteration}: {error.get()}\n"
        if metrics["finite"] > 0:
            continue
        said += f"alone, it turns bad at iteration {iteration}\n"
        if checked is not None:
            # The fast step found the iteration; the checked one, slower, repeats just that one.
            error, _ = checked(before)
            said += where_it_broke(error) or (
                "no operation of this iteration made a NaN: an infinity, or a NaN that the environment returned\n"
            )
        return said
    return said + f"alone, it stays finite to iteration {iteration}\n"


def where_it_broke(error: checkify.Error) -> str:
    """The operation that made a NaN and the lines of code, outermost first, that led to it; "" if there was none."""
    try:
        error.throw()
    except Exception as raised:
        frames = traceback.extract_tb(raised.__cause__.__traceback__) if raised.__cause__ else []
        lines = [f"  {Path(frame.filename).name}:{frame.lineno}, in {frame.name}" for frame in frames[-4:]]
        return "\n".join([str(raised), *lines]) + "\n"
    return ""
