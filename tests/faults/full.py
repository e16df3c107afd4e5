"""A sweep whose disk fills and empties again while it runs, one JSON line per start of it.

    full.py real|injected ROOT SPEC    real: ROOT is a small file system of its own, and a file really fills it;
                                       injected: the calls that write below ROOT are refused instead
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

from jaxrl import cli

cli.prepare_jax(os.environ)

import orbax.checkpoint  # noqa: E402,F401  (before the disk is full)

from jaxrl import checkpoint  # noqa: E402
from jaxrl.results import store  # noqa: E402
from jaxrl.sweep import chunk, claims, run  # noqa: E402

kind, root, spec = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
chunk.SEGMENT_STEPS = 1
chunk.MOST_LOST, chunk.CHECKPOINT_SHARE = 0.0, float("inf")
run.MAX_CHUNK_LANES = 4
ballast, is_full = root / "ballast", False


def fill() -> None:
    global is_full
    is_full = True
    if kind == "real":
        with open(ballast, "wb", buffering=0) as file:
            for size in (2**16, 2**12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\1" * size)


def empty() -> None:
    global is_full
    is_full = False
    ballast.unlink(missing_ok=True)


def refusing(real):
    def call(*arguments, **keywords):
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **keywords)

    return call


if kind == "injected":
    for module, name in ((checkpoint, "_write_with_orbax"), (store, "_write"), (claims.json, "dump")):
        setattr(module, name, refusing(getattr(module, name)))


def start(name: str, fill_at: tuple[str, int], empty_at: tuple[str, int] = ("never", 0)) -> dict:
    """Run the sweep under ROOT/NAME; the disk fills, or empties, when so many events of a kind have been told."""
    out, counts, notes = root / name, {}, []
    told = chunk.Ledger.__init__

    def listening(ledger, total, tell):
        def also(event):
            tell(event)
            counts[event["kind"]] = counts.get(event["kind"], 0) + 1
            if event["kind"] == "note":
                notes.append(event["text"])
            for moment, change in ((fill_at, fill), (empty_at, empty)):
                if moment == (event["kind"], counts[event["kind"]]):
                    change()

        told(ledger, total, also)

    chunk.Ledger.__init__ = listening
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = cli.main(["sweep", spec, "--out", str(out)])
    finally:
        chunk.Ledger.__init__ = told
    folders = [folder for folder in (out / claims.FOLDER).iterdir() if folder.is_dir()]
    return {
        "code": code,
        "said": said.getvalue(),
        "notes": notes,
        "events": counts,
        "checkpoints": [checkpoint.steps(folder) for folder in folders],
        "left": sorted(path.name for path in [*out.rglob(".unfinished-*"), *out.rglob("*.claim")]),
        "numbers": {
            f"{manifest['chunk']}/{file}": hashlib.sha256(
                store.read_file(out / manifest["chunk"], file, manifest)
            ).hexdigest()
            for manifest in store.chunks(out)
            for file in store.FILES
        },
    }


say = lambda answer: print(json.dumps(answer), flush=True)
say(start("stays full", ("checkpoint", 3)))
empty()
say(start("stays full", ("never", 0)))
shutil.rmtree(root / "stays full")
say(start("empties", ("checkpoint", 2), ("note", 3)))
fill()
say(start("full at a claim", ("never", 0)))
