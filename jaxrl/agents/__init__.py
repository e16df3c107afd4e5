"""Agents, one file per method. This module names them and imports none."""

CATALOGUE = {"ppo": "jaxrl.agents.ppo:ppo", "random": "jaxrl.agents.random:random"}
