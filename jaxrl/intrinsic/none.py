"""No bonus: the control every other bonus is compared with.

Kind: lifelong.
Memory: none.
Knows: nothing.
"""

import jax.numpy as jnp

from jaxrl.intrinsic.base import stateless
from jaxrl.types import IntrinsicReward


def none() -> IntrinsicReward:
    """Zero for every transition; no state, no memory."""
    return stateless(lambda batch: jnp.zeros_like(batch.reward))
