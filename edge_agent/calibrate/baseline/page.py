"""Page: a baseline in a terminal. The only file of `baseline` that imports rich.

In: what was concluded of a capture. Out: at most 80 columns on standard output. Never: says what
`--json` does not.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.document import FalseAlarms
from edge_agent.calibrate.baseline.drafting import Subject
from edge_agent.calibrate.baseline.verdict import Concluded
from edge_agent.calibrate.compass.page import COLOURS, WIDTH


def baseline_page(
    subject: Subject, found: Concluded, capture: Capture | None, minutes: float, last: str
) -> None:
    """States, checks, false alarms before and after, then the verdict and what became of it."""
    console = Console(width=WIDTH, highlight=False)
    manifest = subject.bundle.manifest
    console.print(f"[bold]baseline[/] of {escape(subject.asset)}, bundle {manifest.name} "
                  f"serial {manifest.serial}")  # fmt: skip
    table = Table.grid(padding=(0, 2))
    for state in found.states:
        table.add_row(escape(state.name), f"{state.minutes:.1f} of {minutes:g} minutes, "
                      f"{state.windows} windows that count")  # fmt: skip
    for check in found.checks:
        word = "[green]ok[/]" if check.ok else "[red]no[/]"
        told = f"{check.observed:.4g}, limit {check.limit:g}"
        table.add_row(f"{word} {check.name}", told if check.ok else escape(check.sentence))
    console.print(table)
    if found.result is not None:
        console.print(_alarms(found, manifest.threshold.value))
    console.print(f"[{COLOURS[found.verdict]}]{found.verdict.upper()}[/]  {escape(found.reason)}")
    if found.next_move:
        console.print(f"[cyan]next[/]  {escape(found.next_move)}")
    console.print(escape(last), style="dim")


def _alarms(found: Concluded, shipped: float) -> Table:
    assert found.result is not None
    estimate = found.result.estimate
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in (f"held out {estimate.hours:.2f} h", "threshold", "false episodes",
                 "a day (95 %)", "in alarm"):  # fmt: skip
        table.add_column(name, no_wrap=True)
    rows = (("shipped", shipped, estimate.shipped),
            ("now", found.result.threshold.value, estimate.now))  # fmt: skip
    for name, threshold, alarms in rows:
        table.add_row(name, f"{threshold:.4g}", str(alarms.episodes), _a_day(alarms),
                      f"{alarms.share:.1%}")  # fmt: skip
    return table


def _a_day(alarms: FalseAlarms) -> str:
    return f"{alarms.a_day:.3g} ({alarms.low:.2g} to {alarms.high:.2g})"
