"""Sweeps: `plan` divides a spec into lanes, `program` and `lanes` compile them, `chunk` runs some, `run` all of them.

`sweep`, `load_policy`, `evaluate` and `export` are imported on first use, because they need jax and a spec does not.
The package may itself be called, as `sweep` may: `from jaxrl import sweep` and `from jaxrl.sweep import sweep` do the
same.
"""

import sys
from importlib import import_module
from types import ModuleType

_EXPORTS = {"sweep": "run", "load_policy": "policy", "evaluate": "policy", "export": "exported"}


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(_EXPORTS)


class _Callable(ModuleType):
    def __call__(self, *arguments, **keywords):
        return __getattr__("sweep")(*arguments, **keywords)


sys.modules[__name__].__class__ = _Callable
