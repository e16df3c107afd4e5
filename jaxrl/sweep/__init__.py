"""Sweeps: `plan` divides a spec into lanes, `program` and `lanes` compile them, `chunk` runs some, `run` all of them.

`sweep`, `load_policy` and `evaluate` are imported on first use, because they need jax and a spec does not.
"""

from importlib import import_module

_EXPORTS = {"sweep": "run", "load_policy": "policy", "evaluate": "policy"}


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
