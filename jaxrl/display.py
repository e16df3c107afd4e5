"""The events of a run as lines or, on a terminal, above a progress bar; and quantities as a person would say them."""

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
        text += f", {event['steps']:,} steps to make" if event.get("steps") else ""
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


def duration(seconds: float) -> str:
    """As a person would say it: "40 s", "12 min", "3.5 h", "9 days", "20 years"."""
    for unit, length in (("years", 365 * 86_400), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.3g} {unit}" if seconds < 1000 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes, as a person would say it."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count / 2**10:,.1f} KiB"
