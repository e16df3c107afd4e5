"""Wrappers by name. An entry names a factory ``wrapper(env, number=..., *, static=...)``; names need no jax.

Episode returns and lengths are no wrapper: the rollout measures them for every environment.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jaxrl.errors import UserError, unknown
from jaxrl.intrinsic.expression import Call, canonical, parse_call
from jaxrl.signatures import signature

if TYPE_CHECKING:
    from jaxrl.envs.wrappers.wrapper import Wrapper as Wrapper

CATALOGUE = {
    "sticky_actions": "jaxrl.envs.wrappers.actions:sticky_actions",
    "frame_stack": "jaxrl.envs.wrappers.observations:frame_stack",
    "flatten_observation": "jaxrl.envs.wrappers.observations:flatten_observation",
    "noisy_tv": "jaxrl.envs.wrappers.noisy_tv:noisy_tv",
    "reward_free": "jaxrl.envs.wrappers.rewards:reward_free",
    "sparse_reward": "jaxrl.envs.wrappers.rewards:sparse_reward",
    "delayed_reward": "jaxrl.envs.wrappers.rewards:delayed_reward",
    "context_seeding": "jaxrl.envs.wrappers.contexts:context_seeding",
    "augment_obs": "jaxrl.envs.wrappers.augment_obs:augment_obs",
}
# Of the parameters above, both included; a pair of ints asks for a whole number. 2^24 is where float32, the type of a
# lane's values, begins to skip some.
BOUNDS: dict[str, tuple[float, float]] = {
    "probability": (0.0, 1.0),
    "frames": (1, 64),
    "size": (1, 4096),
    "levels": (2, 256),
    "channels": (0, 2**24),
    "period": (0, 2**24),
    "contexts": (0, 2**24),
    "context_seed": (0, 2**24),
    "ridge": (1e-6, 1e6),
    "buckets": (1, 2**16),
    "dim": (1, 1024),
}
CHOICES = {"when": ("action", "always"), "statistic": ("counts", "hashed", "ellipsoid")}
_LAZY = {"Wrapper": "wrapper", "wrapped": "wrapper", "flatten": "observations"}


def read(text: str, objects: Mapping[str, Callable] | None = None) -> Call:
    """The call that ``name(keyword=value)`` means; `objects` are the user's own factories by reference.

    Raises UserError naming the nearest wrapper or keyword, a value out of bounds, or what cannot be parsed.
    """
    call = parse_call(text, "wrapper", CATALOGUE, objects)
    takes = signature((objects or {}).get(call.reference, call.reference))
    if len(takes.supplied) != 1:
        raise UserError(
            f"wrapper {call.reference!r} must take one argument without a default, the environment, "
            f"and takes {len(takes.supplied)}: {', '.join(takes.supplied) or 'none'}"
        )
    if call.reference in CATALOGUE.values():
        for keyword, value in call.keywords.items():
            check_value(f"{call.name}.{keyword}", keyword, value)
    return call


def text_of(call: Call) -> str:
    """The one spelling of a call; reading it gives the call back."""
    return canonical(call, CATALOGUE)


def check_value(label: str, name: str, value: Any) -> None:
    """Raises UserError, calling the parameter `label`, for a value that a catalogued wrapper's `name` cannot take."""
    if name in CHOICES and value not in CHOICES[name]:
        raise unknown(label, value, CHOICES[name])
    if name in BOUNDS:
        low, high = BOUNDS[name]
        if not low <= value <= high:
            raise UserError(f"{label} = {value!r}: must be in [{low:g}, {f'{high:,}'.removesuffix('.0')}]")
        if isinstance(low, int) and value != int(value):
            raise UserError(f"{label} = {value!r}: must be a whole number")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
