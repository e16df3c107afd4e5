"""`jaxrl sweep` in a process that can be killed: segments of one iteration, a checkpoint after each, and pauses.

    drive.py LANES PAUSE LOG ARGUMENTS...    lanes of a chunk, seconds after a segment, JSON lines of events
"""

import json
import os
import sys
import time

from jaxrl import cli

cli.prepare_jax(os.environ)

from jaxrl.sweep import chunk, run  # noqa: E402  (the line before sets the devices)

lanes, pause, log, *arguments = sys.argv[1:]
chunk.SEGMENT_STEPS = 1
chunk.MOST_LOST, chunk.CHECKPOINT_SHARE = 0.0, float("inf")
run.MAX_CHUNK_LANES, run.POLL = int(lanes), 0.1
told = chunk.Ledger.__init__


def logged(ledger, total, tell):
    def also(event):
        with open(log, "a") as file:
            file.write(json.dumps({**event, "process": os.getpid()}, default=str) + "\n")
        tell(event)
        if event["kind"] == "progress":
            time.sleep(float(pause))

    told(ledger, total, also)


chunk.Ledger.__init__ = logged
sys.exit(cli.main(arguments))
