"""`python -m tests.chaos [NAME...]`: makes trouble, prints what came of it; 1 if a loss."""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.rig import Setting
from tests.chaos.row import Row

MODULES = ("kills", "publisher_kills", "outage", "flaky", "power", "full", "corrupt")
TABLE_CELLS = 140
QUIET_SECONDS = 20.0


def table(rows: list[Row]) -> Table:
    """What is printed."""
    grid = Table(title="What was done to the gateway, and what was lost by it", show_lines=True)
    for heading in ("trouble", "times", "alerts", "lost", "twice", "s", "measured", "note", "ok"):
        grid.add_column(heading, justify="right" if heading in _NUMBERS else "left")
    for row in rows:
        grid.add_row(
            row.name, f"{row.tries:,}", f"{row.alerts:,}", f"{row.lost:,}", f"{row.doubled:,}",
            f"{row.seconds:.0f}", row.words(), row.note, "yes" if row.ok else "NO",
        )  # fmt: skip
    return grid


_NUMBERS = ("times", "alerts", "lost", "twice", "s")


def summary(rows: list[Row], seed: int) -> dict[str, object]:
    """The last line."""
    return {
        "troubles": len(rows), "times": sum(row.tries for row in rows),
        "alerts": sum(row.alerts for row in rows), "lost": sum(row.lost for row in rows),
        "doubled": sum(row.doubled for row in rows),
        "not_ok": [row.name for row in rows if not row.ok],
        "seconds": round(sum(row.seconds for row in rows), 1), "seed": seed,
        "ok": all(row.ok for row in rows),
    }  # fmt: skip


class Progress:
    """A line on standard error: one that changes, or, where that is no terminal, one now and
    then."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._status = console.status(name)
        self._due_s = 0.0

    def __enter__(self) -> Progress:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def say(self, text: str) -> None:
        """How far it is."""
        told, now_s = f"{self._name}: {text}", time.monotonic()
        if self._console.is_terminal:
            self._status.update(told)
        elif now_s >= self._due_s:
            self._due_s = now_s + QUIET_SECONDS
            self._console.print(told)


def suffer(name: str, seed: int, long: bool, console: Console) -> list[Row]:
    """One kind of trouble, in a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, Progress(console, name) as progress:
        began_s = time.monotonic()
        setting = Setting(Path(folder), seed, long, progress.say)
        try:
            rows: list[Row] = importlib.import_module(f"tests.chaos.{name}").trouble(setting)
        except (OSError, RuntimeError) as error:  # the others are made all the same
            rows = [Row(name, 0, 0, 0, broken=(str(error),), seconds=time.monotonic() - began_s)]
        progress.say(f"done in {time.monotonic() - began_s:.0f} s")
    return rows


def main() -> int:
    """1 if something was lost or another promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MODULES, []], help="only these")
    parser.add_argument("--short", action="store_true", help="the form of `make test`")
    parser.add_argument("--seed", type=int, help="of every choice; by chance if not given")
    parser.add_argument("--json", action="store_true", help="a JSON object a row, summary last")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if args.seed is None else args.seed
    console, rows = Console(stderr=True), list[Row]()
    console.print(f"seed {seed}")
    for name in args.names or MODULES:
        new = suffer(name, seed, not args.short, console)
        rows += new
        if args.json:
            sys.stdout.writelines(json.dumps(row.as_dict()) + "\n" for row in new)
            sys.stdout.flush()
    last = summary(rows, seed)
    if args.json:
        sys.stdout.write(json.dumps(last) + "\n")
    else:
        out = Console(width=max(Console().width, TABLE_CELLS))
        out.print(table(rows))
        out.print(" ".join(f"{key}={value}" for key, value in last.items()), soft_wrap=True)
    return 0 if last["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
