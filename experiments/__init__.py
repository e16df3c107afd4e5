"""One file per claim of a paper, and other experiments that this project shows."""
