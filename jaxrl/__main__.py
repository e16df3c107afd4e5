"""The command `jaxrl`, also as `python -m jaxrl`: guarded before anything is imported that takes a while."""

import sys

from jaxrl.executors import signals


def main() -> int:
    """Run the command that the process was called with; returns its exit code."""
    signals.guard()
    from jaxrl import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
