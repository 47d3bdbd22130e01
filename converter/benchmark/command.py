"""Benchmark command: `edge-converter benchmark NAME --data DIR`.

In: the name of a protocol, a folder laid out like `shared/data`. Out: a table, or JSON whose last
line is the report. Never: fails because a figure is bad; only because it can't be measured.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.child import warm_children
from converter.console import print_json, print_note, print_table, steps
from converter.errors import UsageError

if TYPE_CHECKING:
    from converter.benchmark.report import Protocol, Report

# Each is a module of this package with a function `run(Request) -> Report`.
PROTOCOLS = (
    "skab", "nab", "ims", "femto", "fan", "ucifan", "cwru", "smd", "asd", "tep", "battery",
    "ablation", "thresholds", "nuisance",
)  # fmt: skip
MADE_HERE = ("battery", "thresholds")
FAMILIES = ("dense", "lstm", "memory", "conv")
# All of them where nobody chose.
COMPARES_FAMILIES = ("ablation",)
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "otolith" / "benchmark"
BOUNDS = ("_low", "_high")
HIDDEN_KEYS = ("detector", "shipped", "int8", "seeds")


def add_benchmark(commands: Any) -> None:
    """The command line of `benchmark`."""
    parser = commands.add_parser("benchmark", help="public recordings: our families beside rivals")
    parser.set_defaults(run=run_benchmark)
    parser.add_argument("name", choices=PROTOCOLS)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="thresholds: may be left out; not for battery"
    )
    parser.add_argument(
        "--family", action="append", choices=FAMILIES, help="may be repeated (dense; ablation: all)"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, default=CACHE, help="what was run is kept here")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")


def run_benchmark(options: argparse.Namespace) -> int:
    """Runs one protocol."""
    # scipy and scikit-learn take a second to load, which no other command should wait for.
    from converter.benchmark.report import Request

    if options.seeds < 1 or options.jobs < 1:
        raise UsageError("--seeds and --jobs are at least 1")
    data = options.data or Path()
    if not data.is_dir() or (options.data is None and options.name not in MADE_HERE):
        raise UsageError(f"--data {data}: no such folder: it holds skab/, nab/, ...")
    protocol: Protocol = importlib.import_module(f"converter.benchmark.{options.name}").run
    usual = FAMILIES if options.name in COMPARES_FAMILIES else ("dense",)
    families = tuple(dict.fromkeys(options.family or usual))
    with steps() as progress, warm_children():
        report = protocol(
            Request(
                data, families, options.seeds, options.cache.expanduser(), options.jobs,
                progress,
            )
        )  # fmt: skip
    if options.json:
        print_json({key: value for key, value in report._asdict().items() if key != "notes"})
    else:
        show(report)
    for note in report.notes:
        print_note(note)
    return 0


def show(report: Report) -> None:
    """The table: a line a detector, shipped ones first."""
    measures = [key for key in _shown(report.rows) if key not in HIDDEN_KEYS]
    header = ("detector", "seeds", *measures)
    lines = [
        (_name(row), str(row["seeds"]), *(_with_bounds(row, key) for key in measures))
        for row in report.rows
    ]
    print_table(header, lines, f"{report.protocol}: {len(report.files)} files")
    if report.series:
        keys = _shown(report.series)
        cells = [tuple(_with_bounds(one, key) for key in keys) for one in report.series]
        print_table(tuple(keys), cells)


def _shown(rows: list[dict[str, Any]]) -> list[str]:
    """The columns: the bounds of an interval stand with its middle."""
    return [key for key in rows[0] if not key.endswith(BOUNDS)] if rows else []


def _with_bounds(row: dict[str, Any], key: str) -> str:
    low, high = (row.get(f"{key}{bound}") for bound in BOUNDS)
    cell = _cell(row.get(key))
    return cell if low is None or high is None else f"{cell} [{_cell(low)}, {_cell(high)}]"


def _name(row: dict[str, Any]) -> str:
    """Shipped ones carry a star."""
    return f"{row['detector']} *" if row["shipped"] else str(row["detector"])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
