"""Page: an accelerometer's calibration in a terminal. The only file of `accel` that imports rich.

In: a task at its end, checks. Out: at most 80 columns on standard output. Never: says what `--json`
does not.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_agent.calibrate.accel.grading import Result
from edge_agent.calibrate.accel.task import AccelTask
from edge_agent.calibrate.compass.page import COLOURS, WIDTH
from edge_agent.checkup.findings import Finding

LEVELS = {"well": "green", "note": "yellow", "wrong": "red"}


def accel_page(
    title: str | None, task: AccelTask, found: Result, notes: tuple[str, ...], last: str
) -> None:
    """Numbers, then the verdict, then what to do next, then what became of it."""
    console = _console(title)
    table = _table()
    for note in notes:
        table.add_row("", escape(note))
    for name, text in _rows(task, found):
        table.add_row(name, escape(text))
    console.print(table)
    console.print(f"[{COLOURS[found.verdict]}]{found.verdict.upper()}[/]  {escape(found.reason)}")
    if found.next_move:
        console.print(f"[cyan]next[/]  {escape(found.next_move)}")
    console.print(escape(last), style="dim")


def checks_page(title: str | None, findings: list[Finding]) -> None:
    """A line each: what was seen, what was expected, what to do."""
    console = _console(title)
    table = _table()
    for finding in findings:
        told = [finding.seen]
        told += [f"expected {finding.expected}"] if finding.expected else []
        told += [f"do: {finding.do}"] if finding.do else []
        level = f"[{LEVELS[finding.level]}]{finding.level}[/]"
        table.add_row(f"{level} {finding.about}", escape("; ".join(told)))
    console.print(table)


def _rows(task: AccelTask, found: Result) -> list[tuple[str, str]]:
    rows = [("poses", f"{len(task.poses.kept)} taken, {task.poses.again} were as earlier ones, "
             f"largest gap {found.gap_deg:.0f}°")]  # fmt: skip
    rows += [("", each.words) for each in task.dropped]
    if found.error_mg is not None:
        rows.append(("worst error", f"{found.error_mg:.2f} mg predicted, {found.before_mg:.0f} mg "
                     "without the calibration"))  # fmt: skip
    if found.fit is not None:
        rows.append(("noise", f"{1e3 * found.fit.noise_g:.3f} mg of a mean of 1 s"))
        rows.append(("bias, g", "  ".join(f"{value:9.6f}" for value in found.fit.bias)))
        rows += [("matrix" if i == 0 else "", "  ".join(f"{value:9.6f}" for value in each))
                 for i, each in enumerate(found.fit.matrix)]  # fmt: skip
    rows.append(("gravity", f"{task.gravity_g:.6f} g here" if task.gravity_g != 1.0 else
                 "1 g (--latitude and --height make it that of the site)"))  # fmt: skip
    return rows


def _console(title: str | None) -> Console:
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH)
    if title is not None:
        console.print(escape(title), style="dim", soft_wrap=True)
    return console


def _table() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    return table
