"""What more devices bring: the same lanes on one and on two host devices, and on eight: `make bench-scale`.

Medians of three pairs of processes, one after the other, both pinned to the same two cores; compilation is not
counted. Eight devices on fewer cores bring nothing more: what is shown of them is that the same program runs.
"""

import os
from typing import Any

from benchmarks.bench import median, ours, row

CORES = 2
RUN: dict[str, Any] = {"lanes": 16, "iterations": 5, "calls": 3}


def main() -> None:
    if hasattr(os, "sched_setaffinity"):  # children inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    pairs = [(ours(**RUN, devices=1), ours(**RUN, devices=2)) for _ in range(3)]
    one, two = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratio = sorted(more["steps_per_s"] / less["steps_per_s"] for less, more in pairs)[1]
    row(
        "lanes-16-devices-2", ratio >= 1.8,
        steps_per_s=f"{median(two, 'steps_per_s'):.0f}", reference=f"{median(one, 'steps_per_s'):.0f}",
        ratio=f"{ratio:.2f}x", bound=">=1.8x",
    )  # fmt: skip
    eight = ours(**RUN, devices=8)
    row("lanes-16-devices-8", eight["steps_per_s"] > 0, steps_per_s=f"{eight['steps_per_s']:.0f}", bound="runs")


if __name__ == "__main__":
    main()
