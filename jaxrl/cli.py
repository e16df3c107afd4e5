"""The command line. Everything a user can mistype is refused here, before jax is imported."""

import ast
import dataclasses
import importlib.util
import os
import sys
import time
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import tyro

import jaxrl.agents
import jaxrl.envs
import jaxrl.intrinsic
from jaxrl.errors import UserError
from jaxrl.signatures import Signature, installed, signature
from jaxrl.sweep.spec import BOUNDS, CONFIG, Field, Spec, agent_signature, load_toml, spec

LINE_EVERY = 10.0  # seconds between progress lines where there is no terminal
INTERRUPTED = 130  # 128 + SIGINT

Pairs = Annotated[
    tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE ...", constructor=None)
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 (not healthy), 2 (the user's mistake), 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if os.getcwd() not in sys.path:  # a user's own package usually lies where the command is called
        sys.path.insert(0, os.getcwd())
    try:
        if arguments == ["--version"]:
            print(f"jaxrl {installed(('jaxrl',))['jaxrl'] or '(not installed)'}")
            return 0
        command = tyro.extras.subcommand_cli_from_dict(
            {
                "train": train_command(_agent_named_in(arguments)),
                "sweep": sweep,
                "evaluate": evaluate,
                "report": report,
                "list": list_,
                "replay": replay,
                "doctor": doctor,
            },
            prog="jaxrl",
            description="Exploration in reinforcement learning: sweep, evaluate, read.",
            args=arguments,
        )
        return command if isinstance(command, int) else train(command)
    except UserError as error:
        print(f"jaxrl: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has left: nothing to complain about
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
