"""Stored results: ``store`` writes and verifies, ``query`` loads, then ``stats``, ``table``, ``plot``, ``report``.

Everything is inert data (JSON, Parquet, safetensors) and nothing here imports jax. Names are imported on first use.
"""

from importlib import import_module

_MODULES = ("plot", "query", "report", "stats", "store", "table")
_EXPORTS = {
    "Chunk": "store",
    "chunks": "store",
    "committed": "store",
    "load_params": "store",
    "read_chunk": "store",
    "unfinished": "store",
    "write_chunk": "store",
    "curves": "query",
    "final": "query",
    "importance": "variance",
    "lanes": "query",
    "nearest": "query",
    "paired": "query",
    "sql": "query",
    "summary": "table",
    "write_report": "report",
}


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*_MODULES, *_EXPORTS])
