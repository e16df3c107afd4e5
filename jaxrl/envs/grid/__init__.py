"""MiniGrid's tasks, and those of exploration papers, on one fast engine: names here, without jax."""

import functools
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl.envs.contract import Task

# Name: (module and class, the constructor's arguments). Arguments given to `make` replace these.
_TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"Empty-{n}x{n}": ("rooms:Empty", {"size": n}) for n in (5, 6, 8, 16)},
    **{f"Empty-Random-{n}x{n}": ("rooms:Empty", {"size": n, "random_start": True}) for n in (5, 6, 8, 16)},
    "FourRooms": ("rooms:FourRooms", {}),
    **{f"DoorKey-{n}x{n}": ("rooms:DoorKey", {"size": n}) for n in (5, 6, 8, 16)},
    **{f"LavaGapS{n}": ("rooms:LavaGap", {"size": n}) for n in (5, 6, 7)},
    **{
        f"{kind}CrossingS{size}N{n}": ("rooms:Crossing", {"size": size, "crossings": n, "lava": kind == "Lava"})
        for kind in ("Lava", "Simple")
        for size, n in ((9, 1), (9, 2), (9, 3), (11, 5))
    },
    **{f"MemoryS{n}": ("memory:Memory", {"size": n}) for n in (7, 9, 11, 13)},
    **{f"MemoryS{n}Random": ("memory:Memory", {"size": n, "random_length": True}) for n in (13, 17)},
    "MultiRoom": ("multiroom:MultiRoom", {}),
    **{
        f"MultiRoom-N{n}" + (f"-S{size}" if n != 6 else ""): (
            "multiroom:MultiRoom",
            {"max_rooms": n, "max_room_size": size},
        )
        for n, size in ((2, 4), (4, 5), (6, 10), (7, 4), (7, 8), (10, 10), (12, 10))
    },
    "MultiRoomAB": ("noisy_rooms:MultiRoomAB", {}),
    **{
        f"KeyCorridorS{size}R{rows}": ("keycorridor:KeyCorridor", {"room_size": size, "num_rows": rows})
        for size, rows in ((3, 1), (3, 2), (3, 3), (4, 3), (5, 3), (6, 3))
    },
    **{
        f"ObstructedMaze-1D{kind}": ("obstructedmaze:ObstructedMaze1D", {"boxed": "h" in kind, "blocked": "b" in kind})
        for kind in ("l", "lh", "lhb")
    },
    **{
        f"ObstructedMaze-{name}": (
            "obstructedmaze:ObstructedMazeFull",
            {
                "quarters": quarters,
                "boxed": name != "2Dl",
                "blocked": name not in ("2Dl", "2Dlh"),
                "from_middle": name in ("1Q", "Full"),
                "rooms_visited": visited,
            },
        )
        for name, quarters, visited in (
            ("2Dl", 1, 4),
            ("2Dlh", 1, 4),
            ("2Dlhb", 1, 4),
            ("1Q", 1, 5),
            ("2Q", 2, 11),
            ("Full", 4, 25),
        )
    },
    "Maze": ("maze:Maze", {}),
    **{f"RandomDiscoMaze-{n}x{n}": ("maze:RandomDiscoMaze", {"size": n}) for n in (11, 21)},
    "Corridors": ("contexts:Corridors", {}),
    "ContextRooms": ("contexts:ContextRooms", {}),
    "Map": ("text_map:Map", {}),
}
NAMES: tuple[str, ...] = tuple(f"grid/{name}" for name in _TASKS)


def make(name: str, **kwargs: Any) -> "Task":
    """The task of a name ``grid/<task>``; ``kwargs`` are its constructor's arguments or fields of its params."""
    from jaxrl.envs.construct import construct

    reference, arguments = _TASKS[name.removeprefix("grid/")]
    module, _, attribute = reference.partition(":")
    source = getattr(importlib.import_module(f"jaxrl.envs.grid.{module}"), attribute)
    return construct(name, functools.partial(source, **arguments), kwargs)
