"""Worlds to be covered: MarsExplorer, the warehouse of an automated guided vehicle, and a grid seen as a picture."""

import functools
from collections.abc import Callable
from typing import Any

from jaxrl.envs.construct import construct
from jaxrl.envs.contract import Task
from jaxrl.envs.coverage.agv_warehouse import AGVWarehouse
from jaxrl.envs.coverage.mars_explorer import MarsExplorer, with_capacity
from jaxrl.envs.coverage.visual_grid import VisualGrid

# Name: (class, its arguments, numbers of its params). What is given to `make` replaces these.
_TASKS: dict[str, tuple[Callable, dict[str, Any], dict[str, Any]]] = {
    "MarsExplorer": (MarsExplorer, {}, {}),
    "AGVWarehouse": (AGVWarehouse, {}, {"moving_obstacles": 4}),
    # The four scenes of Yin et al. (2024) with their step limits; the map of shelves is ours.
    "AGVWarehouse-SimpleStatic": (AGVWarehouse, {"layout": "open", "max_steps": 2000}, {}),
    "AGVWarehouse-SimpleDynamic": (AGVWarehouse, {"layout": "open", "max_steps": 2000}, {"target_speed": 0.3}),
    "AGVWarehouse-ComplexStatic": (AGVWarehouse, {"max_steps": 3000}, {}),
    "AGVWarehouse-ComplexDynamic": (
        AGVWarehouse,
        {"max_steps": 4000},
        {"target_speed": 0.3, "moving_obstacles": 4},
    ),
    "AGVWarehouse-UShape": (AGVWarehouse, {"layout": "u"}, {}),
    "VisualGrid": (VisualGrid, {}, {}),
    "VisualGrid-42": (VisualGrid, {"size": 42, "goal": True}, {}),  # as in CFN (Lobel et al. 2023)
}
NAMES: tuple[str, ...] = tuple(f"coverage/{name}" for name in _TASKS)


def make(name: str, **kwargs: Any) -> Task:
    """The task of a name ``coverage/<task>``; ``kwargs`` are its constructor's arguments or fields of its params.

    MarsExplorer makes room for as many obstacles as ``kwargs`` ask for. Raises UserError for unknown arguments and for
    numbers out of their range (where they are not traced).
    """
    source, arguments, numbers = _TASKS[name.removeprefix("coverage/")]
    kwargs = numbers | kwargs
    if source is MarsExplorer:
        kwargs = with_capacity(kwargs)
    return construct(name, functools.partial(source, **arguments), kwargs)
