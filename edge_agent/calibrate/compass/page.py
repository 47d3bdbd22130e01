"""Page: the calibration in a terminal. The only file here that imports rich.

In: what was found. Out: at most 80 columns on standard output. Never: says what `--json` does not.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.site import Site
from edge_agent.calibrate.compass.turning import Check
from edge_agent.calibrate.reading.readings import Readings

COLOURS = {"pass": "bold green", "marginal": "bold yellow", "fail": "bold red"}
WIDTH = 80


def compass_page(
    title: str,
    readings: Readings | None,
    found: Calibration,
    site: Site,
    turned: Check | str | None,
    last: str = "Nothing was stored: the calibration in use, if any, stays.",
) -> None:
    """Numbers, then the verdict, then what to do next, then what became of it."""
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, text in _rows(readings, found, site, turned):
        table.add_row(name, escape(text))
    console.print(escape(title), style="dim", soft_wrap=True)
    console.print(table)
    console.print(f"[{COLOURS[found.verdict]}]{found.verdict.upper()}[/]  {escape(found.reason)}")
    if found.next_move:
        console.print(f"[cyan]next[/]  {escape(found.next_move)}")
    console.print(escape(last), style="dim")


def _rows(
    readings: Readings | None, found: Calibration, site: Site, turned: Check | str | None
) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if readings is not None:
        rows.append(("readings", _readings(readings, found)))
        rows += [("", note) for note in readings.notes]
    if found.error is not None:
        rows.append(("heading error", f"{found.error.sigma_deg:.2f}° predicted, "
                     f"{found.error.worst_deg:.2f}° at the worst heading"))  # fmt: skip
        rows.append(("coverage", f"{found.coverage} of 100 sections"))
        rows.append(("method", _method(found)))
    if found.bias is not None and found.matrix is not None:
        rows.append(("bias", "  ".join(f"{value:.6g}" for value in found.bias)))
        rows += [("matrix" if i == 0 else "", "  ".join(f"{value:9.6f}" for value in row))
                 for i, row in enumerate(found.matrix)]  # fmt: skip
        rows.append(("field", f"{found.radius:.6g}, constant to {found.radius_cv:.2%}"))
    if site.field is not None:
        rows.append(("this place", f"{site.field.strength_ut:.2f} uT, dip "
                     f"{site.field.dip_deg:.1f}°, declination {site.field.declination_deg:+.2f}° "
                     "(true heading = magnetic + declination)"))  # fmt: skip
    if isinstance(turned, Check):
        how = "tilt compensated" if turned.tilt_compensated else "as if level"
        rows.append(("check", f"net turn {turned.net_turn_deg:.1f}° ({how}), field constant to "
                     f"{turned.norm_cv:.2%}"))  # fmt: skip
    elif turned is not None:
        rows.append(("check", turned))
    return rows


def _readings(readings: Readings, found: Calibration) -> str:
    text = f"{len(readings.field)} read, {found.kept} used, {found.rejected} rejected"
    if readings.dropped:
        text += f", {readings.dropped} were no numbers"
    return text + ("" if readings.acceleration is None else ", with an accelerometer")


def _method(found: Calibration) -> str:
    if found.rotation_deg is None:
        return found.method
    return f"{found.method} (its axes are turned by {found.rotation_deg:.1f}°)"
