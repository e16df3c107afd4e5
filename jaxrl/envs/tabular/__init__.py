"""Finite MDPs with exact values: RiverSwim, the double chain, combination locks, Garnets, four rooms, any table.

``make(...).env.mdp(params)`` gives the tables of a task, and ``planning`` what they are worth.
"""

import inspect
from typing import Any

import jax

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import Task
from jaxrl.envs.tabular.chains import DoubleChain, RiverSwim
from jaxrl.envs.tabular.garnet import Garnet
from jaxrl.envs.tabular.lock import CombinationLock
from jaxrl.envs.tabular.mdp import Table as Table
from jaxrl.envs.tabular.mdp import Tabular
from jaxrl.envs.tabular.planning import TabularMDP as TabularMDP
from jaxrl.envs.tabular.rooms import FourRooms
from jaxrl.errors import UserError

_TASKS: dict[str, type[Tabular]] = {
    "tabular/RiverSwim": RiverSwim,
    "tabular/DoubleChain": DoubleChain,
    "tabular/CombinationLock": CombinationLock,
    "tabular/Garnet": Garnet,
    "tabular/FourRooms": FourRooms,
}
NAMES = tuple(_TASKS)


def make(name: str, **kwargs: Any) -> Task:
    """The task of a name ``tabular/<name>``; a ``length`` without a ``capacity`` is its own capacity.

    Raises UserError for unknown arguments, for numbers out of their range (where they are not traced), and for a traced
    length without a capacity.
    """
    source = _TASKS[name]
    if "length" in kwargs and "capacity" not in kwargs and "capacity" in inspect.signature(source).parameters:
        if isinstance(kwargs["length"], jax.core.Tracer):
            raise UserError(f"{name}: a length that differs between lanes needs a capacity, the largest of them")
        kwargs["capacity"] = kwargs["length"]
    return construct(name, source, kwargs)
