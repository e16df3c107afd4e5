"""The command `jaxrl`, also as `python -m jaxrl`: guarded before anything is imported that takes a while."""

import os
import sys

# `-m` puts the current directory first, where a stray xarray.py would be imported for the installed one. Where jaxrl
# itself lies there, it stays.
if not sys.flags.safe_path and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

from jaxrl.executors import signals


def main() -> int:
    """Run the command that the process was called with; returns its exit code."""
    signals.guard()
    from jaxrl import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
