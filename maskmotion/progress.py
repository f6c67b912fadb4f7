"""Progress with rate and time left on a terminal; silence elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _silent(done: int, note: str = "") -> None:
    return None


@contextmanager
def progress_bar(description: str, total: int, show: bool = True) -> Iterator[Callable[[int, str], None]]:
    """A function `advance(done, note)` that moves a bar; without a terminal (or `show=False`) it draws nothing."""
    import sys

    from rich.console import Console

    console = Console(file=sys.stderr)
    if not show or not console.is_terminal:
        yield _silent
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, rate="", note="")

        def advance(done: int, note: str = "") -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, note=note, rate=f"{speed:.1f}/s" if speed else "")

        yield advance
