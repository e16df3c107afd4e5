"""The events of a run as lines or, on a terminal, above a progress bar."""

import sys
import time
from collections.abc import Callable

LINE_EVERY = 10.0  # seconds between progress lines where there is no terminal


def fitting() -> Callable[[dict], None]:
    """Shows events as standard output allows."""
    return on_terminal() if sys.stdout.isatty() else in_lines()


def in_lines() -> Callable[[dict], None]:
    """Shows events as plain lines, progress at most every `LINE_EVERY` seconds."""
    last = time.monotonic()

    def show(event: dict) -> None:
        nonlocal last
        if event["kind"] == "progress":
            if time.monotonic() - last < LINE_EVERY:
                return
            last = time.monotonic()
        if line := _line(event):
            print(line, flush=True)

    return show


def on_terminal() -> Callable[[dict], None]:
    """Shows events above a progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns)
    task = progress.add_task("starting", total=None)
    progress.start()

    def show(event: dict) -> None:
        if event["kind"] == "progress":
            rate = f"{event['steps_per_s']:,.0f} steps/s, mean return {event['mean_return']:.3g}, left"
            progress.update(task, description=rate, completed=event["done_steps"], total=event["total_steps"])
        elif event["kind"] == "end":
            progress.stop()
        elif line := _line(event):
            progress.console.print(line, markup=False, highlight=False)

    return show


def _line(event: dict) -> str:
    kind = event["kind"]
    if kind == "plan":
        text = f"plan: {event['programs']} programs, {event['lanes']} lanes, {event['skipped']} committed before"
        return f"{text}, {event['bytes'] / 2**20:,.1f} MiB of state" if event["bytes"] else text
    if kind == "compile":
        return f"compiled program {event['program']} in {event['seconds']:.1f} s"
    if kind == "chunk":
        diverged = f", diverged: {', '.join(event['diverged'])}" if event["diverged"] else ""
        return f"committed {event['lanes']} lanes in {event['path']}{diverged}"
    if kind == "progress":
        share = event["done_steps"] / event["total_steps"]
        left = (event["total_steps"] - event["done_steps"]) / max(event["steps_per_s"], 1e-9)
        rate = f"{event['steps_per_s']:,.0f} steps/s, {left:,.0f} s left"
        return f"{share:4.0%}  {rate}, mean return {event['mean_return']:.3g}"
    return f"note: {event['text']}" if kind == "note" else ""
