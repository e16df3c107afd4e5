"""Agents, one file per method. This module names them and imports none; `check_agent` tests any."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl.agents.check import check_agent as check_agent

CATALOGUE = {
    "ppo": "jaxrl.agents.ppo:ppo",
    "ppo_rnn": "jaxrl.agents.ppo_rnn:ppo_rnn",
    "random": "jaxrl.agents.random:random",
}
# Of an agent that asks for `iterations`: the field that, at 0, makes it blind to them.
SCHEDULES = {"ppo": "anneal", "ppo_rnn": "anneal"}


def __getattr__(name: str) -> Any:
    if name == "check_agent":
        return importlib.import_module("jaxrl.agents.check").check_agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
