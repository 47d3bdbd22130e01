"""Feedback command: `edge-converter feedback DIR --out DIR2`.

In: a folder of evidence, copied from a gateway. Out: recordings with labels, sorted by asset and by
what they are good for, and a table of what operators said. Never: changes the evidence.

    DIR2/ASSET/normal/ID.rec   for `build --normal`     DIR2/ASSET/faulty/ID.rec   for `--evaluate`
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from converter.console import print_json, print_line, print_table
from converter.errors import ConverterError, FileError
from converter.feedback import lesson, read_case
from converter.files import read_file, write_file
from converter.labels import labels_document, labels_path
from edge_agent.boards.evidence.case import DOCUMENT, RECORDING, Case

HEADER = ("event", "asset", "verdict", "seconds", "anomalous", "becomes")
WORDS = ("false_alarm", "confirmed", "missed", "unsure", "unjudged", "unreadable")
NO_VERDICT = "unjudged"


class Row(NamedTuple):
    """One case: what was said, and what became of it (`recording`, or the reason in `said`)."""

    event_id: str
    asset: str
    verdict: str
    said: str = ""
    recording: str | None = None
    rows: int = 0
    seconds: float = 0.0
    anomalous_rows: int = 0


def add_feedback(commands: Any) -> None:
    """The command line of `feedback`."""
    parser = commands.add_parser("feedback", help="a gateway's judged alarms to recordings")
    parser.set_defaults(run=run_feedback)
    parser.add_argument("evidence", type=Path, metavar="DIR", help="a copy of STATE_DIR/evidence")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR2")
    parser.add_argument("--asset", help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON object a case, the sums last")


def run_feedback(options: argparse.Namespace) -> int:
    """Every case in turn; a bad one is told and doesn't end it. Exit 1 if there is none."""
    rows = [
        row
        for path in _documents(options.evidence)
        for row in [_read(path, options.out, options.asset)]
        if row is not None
    ]
    if not rows:
        whose = f" of asset {options.asset}" if options.asset else ""
        raise ConverterError(
            f"{options.evidence} has no case{whose}: give a copy of the evidence folder in the "
            "gateway's state_dir"
        )
    counts = Counter(row.verdict for row in rows)
    written = [row for row in rows if row.recording]
    summary = {"cases": len(rows), **{word: counts[word] for word in WORDS},
               "written": len(written)}  # fmt: skip
    if options.json:
        for row in rows:
            print_json(row._asdict())
        print_json(summary)
    else:
        _show(rows, summary)
        if written:
            asset = f"{options.out / 'ASSET'}"
            print_line(f"build --normal {asset}/normal/*.rec --evaluate {asset}/faulty/*.rec")
    return 0


def _documents(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.name.endswith(DOCUMENT)]
    except OSError as error:
        raise FileError(f"can't read {folder}: {error.strerror}") from None
    return sorted(found)


def _read(path: Path, out: Path, asset: str | None) -> Row | None:
    """What becomes of one case; None if it is another asset's."""
    try:
        case = read_case(path.name, read_file(path))
    except ConverterError as error:
        return Row(path.name.removesuffix(DOCUMENT), "", "unreadable", str(error))
    if asset not in (None, case.asset):
        return None
    row = Row(case.event_id, case.asset or "", case.verdict or NO_VERDICT)
    if case.verdict in (None, "unsure"):
        return row
    recording = path.with_name(case.event_id + RECORDING)
    if not recording.exists():
        return row._replace(said="no recording")
    try:
        return _write(case, row, read_file(recording), out)
    except FileError:
        raise
    except ConverterError as error:
        return row._replace(said=str(error))


def _write(case: Case, row: Row, content: bytes, out: Path) -> Row:
    learnt = lesson(case, content)
    owner = case.asset or case.board or "unknown"
    target = out / owner / learnt.role / f"{case.event_id}{RECORDING}"
    write_file(target, content)
    write_file(labels_path(target), labels_document(learnt.anomalous))
    return row._replace(
        recording=str(target), rows=learnt.rows, seconds=learnt.seconds,
        anomalous_rows=int(learnt.anomalous.sum()),
    )  # fmt: skip


def _show(rows: list[Row], summary: dict[str, int]) -> None:
    table: list[tuple[str, ...]] = []
    for row in rows:
        share = f"{row.anomalous_rows / row.rows:.0%}" if row.rows else "-"
        seconds = f"{row.seconds:.1f}" if row.rows else "-"
        becomes = Path(row.recording).parent.name if row.recording else row.said or "-"
        table.append((row.event_id, row.asset or "-", row.verdict, seconds, share, becomes))
    print_table(HEADER, table)
    said = ", ".join(f"{summary[word]} {word}" for word in WORDS if summary[word])
    print_line(f"{summary['cases']} cases: {said}; {summary['written']} recordings written")
