"""jaxrl: exploration in reinforcement learning, compiled and vmapped end to end.

`jaxrl.sweep` runs specs, `jaxrl.results` reads them back, `jaxrl.intrinsic`, `jaxrl.agents` and `jaxrl.envs` hold the
methods. Importing a name costs what that name needs: this package itself imports neither jax nor an environment.
"""

__version__ = "0.1.0"
