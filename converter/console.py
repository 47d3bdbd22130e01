"""Console: the one place that writes to the terminal.

In: results as data, tables, progress. Out: JSON lines and tables on standard output, everything
that moves on standard error. Never: decides anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable


class Steps(Protocol):
    """Where a long command tells how far it is."""

    def begin(self, what: str, total: int | None = None) -> None:
        """A new step of `total` parts; None = unknown."""
        ...

    def advance(self, done: int, note: str = "") -> None:
        """`done` parts of the step are finished."""
        ...


class Silent:
    """Steps that nobody watches."""

    def begin(self, what: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, what: str, total: int | None = None) -> None:
        self._finish()
        self._task = self._progress.add_task(what, total=total, note="")

    def advance(self, done: int, note: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, note=note)

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._task]
            total = task.total if task.total is not None else 1
            self._progress.update(self._task, total=total, completed=total)


@contextmanager
def steps() -> Iterator[Steps]:
    """A progress bar on standard error for as long as the block lasts."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = _Bar(progress)
        yield bar
        bar._finish()


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON object, one line, standard output."""
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One line of result on standard output."""
    sys.stdout.write(text + "\n")


def print_note(text: str) -> None:
    """One line for people on standard error."""
    sys.stderr.write(text + "\n")


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]], title: str = "") -> None:
    """A table on standard output; the first column is text, the rest numbers."""
    table = RichTable(title=title, title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
