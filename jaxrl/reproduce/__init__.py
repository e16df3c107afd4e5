"""Claims of papers, decided by one command: `jaxrl reproduce NAME`.

A claim is a file in experiments/: its docstring says what is claimed, `DIFFERENCES` registers what would show it,
`SCALES` says how much is spent, `measure` spends it. `catalogue` finds claims, `lab` runs them, `verdict` decides,
`record` keeps what was measured, `figure` and `report` show it, `reproduce` is all of it in order.
"""

from jaxrl.reproduce.verdict import Difference

__all__ = ["Difference"]
