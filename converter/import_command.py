"""Import command: `edge-converter import FILE... --out DIR`.

In: tables on disk. Out: `NAME.rec` and, where something is known about it, `NAME.labels.json`.
Never: trains, needs TensorFlow.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from converter.console import print_json, print_line
from converter.errors import FileError, UsageError
from converter.files import read_file, write_file
from converter.importing import ImportSettings, content_sha256, import_table
from converter.labels import labels_document, labels_path
from converter.tables import read_table, rows_of

ENDINGS = (".gz", ".csv", ".tsv", ".txt", ".npz", ".parquet", ".pq")


def add_import(commands: Any) -> None:
    """The command line of `import`."""
    parser = commands.add_parser("import", help="CSV, NPZ and Parquet to recordings")
    parser.set_defaults(run=run_import)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rate-hz", type=positive, help="default: the median step of the time")
    parser.add_argument("--time-column", help="default: time, timestamp, datetime, date, t")
    parser.add_argument("--columns", type=words, default=(), help="which columns, a,b,c")
    parser.add_argument("--channels", type=words, default=(), help="their names from now on")
    parser.add_argument("--unit", default="mixed")
    parser.add_argument("--format", choices=("f4", "i2", "i4"), default="f4")
    parser.add_argument("--scale", type=positive, default=1.0, help="unit of one raw count")
    parser.add_argument("--label-column", default="anomaly", help="rows with a value other than 0")
    parser.add_argument("--gap-seconds", type=positive, help="a longer step is a gap (10 periods)")
    parser.add_argument("--faulty", action="store_true", help="every row is anomalous")
    parser.add_argument("--array", help="one array of an .npz file")
    parser.add_argument("--noise-rms", type=numbers, default=(), help="adds noise, one a channel")
    parser.add_argument("--noise-seed", type=int, default=0)
    parser.add_argument("--stream", default="samples", help="name of the stream")
    parser.add_argument("--rows", type=row_range, default=slice(None), metavar="FIRST:END",
                        help="only these rows, END excluded")  # fmt: skip
    parser.add_argument("--name", help="of the recording; default: that of the file")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")


def run_import(options: argparse.Namespace) -> int:
    """Every file in turn; the first that can't be read ends it."""
    if options.name and len(options.files) > 1:
        raise UsageError("--name is for one file")
    names = {path: options.name or name for path, name in _names(options.files).items()}
    settings = ImportSettings(
        **{field: getattr(options, field) for field in ImportSettings.__slots__}
    )
    for path in options.files:
        try:
            whole = read_table(path, options.time_column, options.array)
        except OSError as error:
            raise FileError(f"can't read {path}: {error.strerror or error}") from None
        table = rows_of(whole, options.rows)
        # The same content with other noise, or another part of it, is another board.
        seed = f"{settings.noise_rms}{settings.noise_seed}" if settings.noise_rms else ""
        seed += "" if options.rows == slice(None) else str(options.rows)
        sha256 = content_sha256(read_file(path) + seed.encode())
        imported = import_table(table, path.name, sha256, settings)
        target = options.out / f"{names[path]}.rec"
        write_file(target, imported.recording)
        if imported.anomalous is not None:
            write_file(labels_path(target), labels_document(imported.anomalous))
        _tell(target, imported.summary, options.json)
    return 0


def _tell(target: Path, summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"recording": str(target), **summary})
        return
    parts = [
        f"{summary['rows']} rows at {summary['rate_hz']:g} Hz",
        f"{len(summary['channels'])} channels",
        f"{summary['gaps']} gaps",
    ]
    if summary["rows_left_out"]:
        parts.append(f"{summary['rows_left_out']} rows without a value left out")
    if summary["anomalous_rows"] is not None:
        parts.append(f"{summary['anomalous_rows']} anomalous")
    if summary["clipped"]:
        parts.append(f"{summary['clipped']} values clipped: choose a larger --scale")
    print_line(f"{target}: {', '.join(parts)}")


def _names(paths: list[Path]) -> dict[Path, str]:
    """A name for each file; where two would share one, the folder comes in front of all."""
    names = {path: _stem(path) for path in paths}
    if len(set(names.values())) < len(names):
        names = {path: f"{path.resolve().parent.name}-{stem}" for path, stem in names.items()}
    taken = list(names.values())
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise UsageError(f"two files would both become {', '.join(twice)}: import them apart")
    return names


def _stem(path: Path) -> str:
    name = path.name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def row_range(text: str) -> slice:
    """`1000:2000`, `:2000` or `1000:`."""
    first, colon, end = text.partition(":")
    rows = slice(int(first) if first else None, int(end) if end else None)
    if not colon or min(rows.start or 0, rows.stop or 0) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST:END, counted from 0")
    return rows


def words(text: str) -> tuple[str, ...]:
    """`a,b,c`."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(text: str) -> tuple[float, ...]:
    """`1.5,2`."""
    return tuple(float(word) for word in words(text))
