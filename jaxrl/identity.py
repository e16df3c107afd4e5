"""Settings of jax and XLA that change numbers, which are therefore part of a lane's id. No jax here.

The generator is none of them: jaxrl fixes it (`jaxrl.keys`).
"""

import os
import sys

# Each with what it is where nobody set it, as `_word` writes it.
DEFAULTS = {
    "jax_enable_x64": "false",
    "jax_threefry_partitionable": "true",
    "jax_random_seed_offset": "false",
    "jax_high_dynamic_range_gumbel": "false",
    "jax_default_matmul_precision": "none",
    "jax_numpy_dtype_promotion": "standard",
    "jax_explicit_x64_dtypes": "warn",
}
FLAGS = ("fast_math", "fast_min_max", "precision", "bf16")  # parts of the names of XLA's flags that change numbers
WORDS = {**dict.fromkeys(("1", "y", "yes", "t", "on"), "true"), **dict.fromkeys(("0", "n", "no", "f", "off"), "false")}


def settings() -> str:
    """What differs from the defaults, as "jax_enable_x64=true xla_allow_excess_precision=false"; or "defaults".

    The same before jax is imported, from the environment's variables, and after, from `jax.config`.
    """
    jax = sys.modules.get("jax")
    found = {}
    for name, default in DEFAULTS.items():
        value = getattr(jax.config, name, default) if jax else os.environ.get(name.upper(), default)
        if (word := _word(value)) != default:
            found[name] = word
    for text in f"{os.environ.get('XLA_FLAGS', '')} {os.environ.get('LIBTPU_INIT_ARGS', '')}".split():
        name, _, value = text.lstrip("-").partition("=")
        if any(part in name for part in FLAGS):
            found[name] = _word(value or True)
    return " ".join(f"{name}={word}" for name, word in sorted(found.items())) or "defaults"


def _word(value: object) -> str:
    """A value of an enumeration by its name, yes and 1 as true: in the words of jax's variables."""
    word = str(getattr(value, "name", value)).lower()
    return WORDS.get(word, word)
