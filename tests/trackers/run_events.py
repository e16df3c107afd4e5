"""Events as `jaxrl.sweep.run` emits them."""

from pathlib import Path

CHUNK = "0123456789abcdef0123"
PROGRAM = {"env": "DeepSea-bsuite", "env_args": {"size": 4, "api_key": "hunter2"}, "hidden": [8], "steps": 128}


def begin(chunk=CHUNK, coefs=(0.1, 0.1, 1.0)):
    lanes = [{"lane": f"lane{i}", "seed": i, "values": {"coef": c, "lr": 0.01}} for i, c in enumerate(coefs)]
    return {"kind": "begin", "chunk": chunk, "program": PROGRAM, "lanes": lanes}


def metrics(iteration, chunk=CHUNK, **values):
    values = values or {"return": iteration / 4, "rnd/loss": 1.0 / iteration}
    return {"kind": "metrics", "chunk": chunk, "step": 32 * iteration, "iteration": iteration, "values": values}


def committed(chunk=CHUNK):
    return {"kind": "chunk", "path": Path("results") / chunk, "lanes": 3, "diverged": ()}


def whole(count, chunk=CHUNK):
    """A chunk of `count` events that trackers get, and some that they do not."""
    silent = [{"kind": "plan"}, {"kind": "note", "text": "hello"}, {"kind": "compile"}, {"kind": "progress"}]
    return [*silent, begin(chunk), *(metrics(i, chunk) for i in range(1, count)), committed(chunk)]
