"""Agents, one file per method. This module names them and imports none."""

CATALOGUE = {
    "ppo": "jaxrl.agents.ppo:ppo",
    "ppo_rnn": "jaxrl.agents.ppo_rnn:ppo_rnn",
    "random": "jaxrl.agents.random:random",
}
