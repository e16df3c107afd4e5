"""Random keys: of one generator, whatever jax's default is, so that equal seeds are equal numbers everywhere.

jaxrl makes its keys with `key_of`. Code of others, an environment of a library or of the user, asks jax for them: what
jaxrl runs of it runs inside `with_generator`.
"""

import functools
from collections.abc import Callable

import jax

from jaxrl.types import Array, Key

GENERATOR = "threefry2x32"  # lanes that are vmapped together draw what each would draw alone; of "rbg" they do not


def key_of(seed: int | Array) -> Key:
    """The typed key of a seed."""
    return jax.random.key(seed, impl=GENERATOR)


def with_generator(function: Callable) -> Callable:
    """`function`, inside of which `jax.random.key(seed)` and `PRNGKey(seed)` too are of the one generator."""

    @functools.wraps(function)
    def generating(*arguments, **keywords):
        with jax.default_prng_impl(GENERATOR):
            return function(*arguments, **keywords)

    return generating
