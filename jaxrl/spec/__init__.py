"""Specs: what a run is made of, and which of it is swept. `spec` reads one, `settings` says what it stands for.

Nothing here imports jax, so that whatever a user can mistype is refused within a second.
"""
