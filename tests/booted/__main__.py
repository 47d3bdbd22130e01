"""`python -m tests.booted [BED...]`: boots, checks, prints the table; 1 if one of them fails.

In: the working tree, root's rights, the first time a mirror of Debian. Out: a table, or with
`--json` a line a check and a last one that sums up.
Never: touches the host's systemd, network or clock; what it builds lies in build/booted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.booted import frozen, gateway, power
from tests.booted.layer import AGENT, lay
from tests.booted.machine import Machine, booted
from tests.booted.root import root
from tests.booted.update import update
from tests.booted.verdict import Verdict
from tests.conftest import ROOT

TABLE_CELLS = 150
NEEDED = ("mmdebstrap", "unshare", "nsenter", "setpriv", "mosquitto_passwd")


def bookworm(source: Path) -> Iterator[Verdict]:
    """One day of the service on Debian 12."""
    yield from _machine("bookworm", source, (AGENT,), gateway.verdicts)


def threads(source: Path) -> Iterator[Verdict]:
    """Each thread frozen, all at the same time."""
    agents = tuple(frozen.unit(thread) for thread in frozen.THREADS)
    yield from _machine("bookworm", source, agents, lambda m, _: frozen.verdicts(m, "threads"))


def trixie(source: Path) -> Iterator[Verdict]:
    """What systemd 257 sees differently, with the drop-in that install.sh gives it."""
    checks = partial(gateway.verdicts, names=gateway.OF_SYSTEMD)
    yield from _machine("trixie", source, (AGENT,), checks)


def vm(source: Path) -> Iterator[Verdict]:
    """Two boots of a virtual machine, and a power cut; minutes, for it is emulated."""
    with tempfile.TemporaryDirectory(prefix="otolith-vm-") as folder:
        layer = lay(Path(folder) / "layer", "bookworm", source)
        power.prepare(layer)
        (Path(folder) / "disks").mkdir()
        yield from power.verdicts(layer, Path(folder) / "disks")


BEDS: dict[str, Callable[[Path], Iterator[Verdict]]] = {
    "bookworm": bookworm, "threads": threads, "trixie": trixie, "vm": vm,
    "update": update,
}  # fmt: skip
# The virtual machine only where it is asked for, and updates, which fetch wheels.
USUAL = ("bookworm", "threads", "trixie")


def impossible() -> str:
    """Why no machine can be booted here; empty if it can."""
    if os.geteuid() != 0:
        return "needs root: sudo python -m tests.booted"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return f"needs {', '.join(missing)}: apt-get install mmdebstrap mosquitto" if missing else ""


def main() -> int:
    """0 all checks passed, 1 one did not, 2 usage or not here."""
    parser = argparse.ArgumentParser(prog="python -m tests.booted", description=__doc__)
    parser.add_argument("beds", nargs="*", choices=[*BEDS, []], help="these; not given: all but vm")
    parser.add_argument("--source", type=Path, default=ROOT, help="another working tree")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    args = parser.parse_args()
    if reason := impossible():
        sys.stderr.write(f"skipped: {reason}\n")
        return 2
    begun_s = time.monotonic()
    verdicts = _all(args.beds or list(USUAL), args.source.resolve())
    failed = sum(not verdict.ok for verdict in verdicts)
    summary = {"checks": len(verdicts), "failed": failed,
               "seconds": round(time.monotonic() - begun_s, 1)}  # fmt: skip
    if args.json:
        lines = [*(verdict.as_dict() for verdict in verdicts), summary]
        sys.stdout.writelines(json.dumps(line) + "\n" for line in lines)
    else:
        console = Console(width=max(Console().width, TABLE_CELLS))
        console.print(_table(verdicts))
        console.print(summary)
    return 1 if failed else 0


def _all(beds: list[str], source: Path) -> list[Verdict]:
    """Roots are built one after the other, beds run side by side: mostly they wait."""
    for suite in dict.fromkeys("trixie" if bed == "trixie" else "bookworm" for bed in beds):
        sys.stderr.write(f"{suite}: building what is not there yet\n")
        root(suite)
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda bed: _told(BEDS[bed](source), bed), beds)
        return [verdict for verdicts in results for verdict in verdicts]


def _told(verdicts: Iterator[Verdict], bed: str) -> list[Verdict]:
    """What comes, said as it comes; a machine that doesn't boot is a verdict, too."""
    done: list[Verdict] = []
    try:
        for verdict in verdicts:
            done.append(verdict)
            sign = "ok" if verdict.ok else "FAILED"
            sys.stderr.write(f"{bed}: {verdict.check}: {sign}, {verdict.seconds:.1f} s\n")
    except RuntimeError as error:
        done.append(Verdict(bed, "boots", False, 0.0, str(error)))
    return done


def _machine(
    suite: str,
    source: Path,
    agents: tuple[str, ...],
    checks: Callable[[Machine, str], Iterator[Verdict]],
) -> Iterator[Verdict]:
    with tempfile.TemporaryDirectory(prefix="otolith-layer-") as folder:
        layer = lay(Path(folder) / "layer", suite, source, agents)
        with booted(layer, root(suite)) as machine:
            yield from checks(machine, suite)


def _table(verdicts: list[Verdict]) -> Table:
    grid = Table(title="Under a real systemd")
    for heading in ("bed", "check", "ok", "s", "seen"):
        grid.add_column(heading, justify="right" if heading == "s" else "left")
    for each in verdicts:
        grid.add_row(
            each.bed, each.check, "yes" if each.ok else "NO", f"{each.seconds:.1f}",
            each.seen.replace("[", "\\["),
        )  # fmt: skip
    return grid


if __name__ == "__main__":
    raise SystemExit(main())
