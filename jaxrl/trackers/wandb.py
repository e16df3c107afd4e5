"""W&B: offline runs in OUT/trackers/wandb, for `wandb sync` later; online where the user set WANDB_MODE=online."""

import os
from pathlib import Path
from typing import Any

from jaxrl.errors import UserError
from jaxrl.trackers.feed import Run, Start

SECONDS = 5  # ours: of one request, and of what finishing may take
ENVIRONMENT = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
# Names of code, host, user, command line and packages stay here, and so do the library's own reports.
QUIET: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
BOUNDED: dict[str, Any] = {"finish_timeout": SECONDS, "init_timeout": SECONDS, "x_graphql_timeout_seconds": SECONDS}


def wandb(out: Path) -> Start:
    """A run bears its chunk's id, which continues it when the chunk resumes; project and entity as W&B's variables say.

    Raises UserError where the user is not logged in: nobody is asked for a key while a sweep runs.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    folder = out / "trackers"

    def start(chunk: str, configuration: dict[str, Any], step: int | None) -> Run:
        import wandb as library

        folder.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        if mode == "online" and not library.login(prompt=False, verify=False):
            raise UserError("WANDB_MODE is online, but W&B has no key: run `wandb login`")
        run = library.init(
            project=os.environ.get("WANDB_PROJECT", "jaxrl"),
            group=out.absolute().name,
            id=chunk,
            name=chunk,
            config=configuration,
            dir=folder,
            mode=mode,
            resume="allow",
            reinit="create_new",
            # the default stops the process when somebody presses Stop in the browser
            settings=library.Settings(**QUIET, **BOUNDED, stop_fn=lambda: None),
        )
        write = lambda values, step: run.log(values, step=step)
        return Run(write, lambda committed: run.finish(0 if committed else 1))

    return start
