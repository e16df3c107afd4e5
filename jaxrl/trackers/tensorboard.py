"""TensorBoard: event files in OUT/trackers/tensorboard/<chunk id>, written with tensorboardX."""

import json
import time
from pathlib import Path
from typing import Any

from jaxrl.trackers.feed import Run, Start

FLUSH_SECONDS = 10  # ours: how old what TensorBoard shows may be


def tensorboard(out: Path) -> Start:
    """A resumed chunk continues in its directory; TensorBoard then hides what was written beyond the resumed step."""

    def start(chunk: str, configuration: dict[str, Any], step: int | None) -> Run:
        from tensorboardX import SummaryWriter

        folder = out / "trackers" / "tensorboard" / chunk
        writer = SummaryWriter(
            str(folder),
            purge_step=step if folder.is_dir() else None,
            flush_secs=FLUSH_SECONDS,
            filename_suffix=f".{time.time_ns()}",  # its own names repeat within a second, and overwrite
        )
        listing = json.dumps(configuration, indent=1, sort_keys=True)
        writer.add_text("configuration", "\n".join(f"    {line}" for line in listing.splitlines()), 0)

        def write(values: dict[str, float], step: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        return Run(write, lambda committed: writer.close())

    return start
