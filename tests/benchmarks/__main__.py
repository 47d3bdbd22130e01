"""`python -m tests.benchmarks [NAME...]`: measures, prints the table, writes build/bench.json."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.row import Row

MODULES = (
    "decoder", "agent_cpu", "latency", "memory", "scaling", "replay_speed", "firmware",
)  # fmt: skip
TABLE_CELLS = 130
OUT = Path(__file__).resolve().parents[2] / "build" / "bench.json"


def table(rows: list[Row]) -> Table:
    """What is printed."""
    grid = Table(title="Speed and cost, beside the floor of the same run")
    for heading in ("name", "value", "unit", "against", "floor", "ratio", "goal", "ok"):
        grid.add_column(heading, justify="right" if heading in ("value", "floor") else "left")
    for row in rows:
        sign = "<=" if row.better == "low" else ">="
        grid.add_row(
            row.name, f"{row.value:,.3g}", row.unit, row.against, f"{row.floor:,.3g}",
            f"{row.ratio:.3g}", f"{sign} {row.goal:g}", "yes" if row.ok else "NO",
        )  # fmt: skip
    return grid


def main() -> int:
    """0 whatever the figures are: they are reported, not judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MODULES, []], help="only these")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--json", action="store_true", help="a JSON object a row")
    args = parser.parse_args()
    progress, rows = Console(stderr=True), list[Row]()
    for name in args.names or MODULES:
        with progress.status(f"measuring {name}"):
            rows += importlib.import_module(f"tests.benchmarks.{name}").measure()
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")
    if args.json:
        sys.stdout.writelines(json.dumps(row.as_dict()) + "\n" for row in rows)
    else:
        Console(width=max(Console().width, TABLE_CELLS)).print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
