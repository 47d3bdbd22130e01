"""Tables: CSV, NPZ and Parquet files to named columns of numbers. The only file that knows pandas.

In: a path. Out: a `Table`. Never: guesses a rate, drops a row, unpickles anything.
"""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.errors import ConverterError, UsageError

Floats = NDArray[np.float64]

SEPARATORS = (";", ",", "\t")
RATE_NAMES = ("rate_hz", "fs", "sample_rate", "sampling_rate")
TIME_NAMES = ("time", "timestamp", "datetime", "date", "t", "t_s")
SNIFF_CHARACTERS = 65_536
# Numbers this large are milli-, micro- or nanoseconds since 1970.
EPOCH_UNITS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))


class Table(NamedTuple):
    """Columns of equal length. `time_s` is seconds (any origin) if there is a time column,
    `rate_hz` what the file itself says."""

    columns: dict[str, Floats]
    time_s: Floats | None
    rate_hz: float | None


def read_table(path: Path, time_column: str | None = None, array: str | None = None) -> Table:
    """Reads by the file's ending. Raises `ConverterError` for content, `OSError` for the file."""
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".npz"):
            return _from_npz(path, time_column, array)
        if array is not None:
            raise UsageError(f"{path.name}: --array is for .npz files")
        if name.endswith((".parquet", ".pq")):
            return _from_parquet(path, time_column)
        if name.endswith((".csv", ".txt", ".tsv")):
            return _from_csv(path, time_column)
    except (ValueError, EOFError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise ConverterError(f"{path.name} can't be read as a table: {_one_line(error)}") from None
    raise UsageError(f"{path.name}: expected a .csv, .csv.gz, .npz or .parquet file")


def _from_csv(path: Path, time_column: str | None) -> Table:
    import pandas

    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace") as file:
        first, second = file.readline(SNIFF_CHARACTERS), file.readline(SNIFF_CHARACTERS)
    if not second.strip():
        raise ConverterError(f"{path.name} has no rows: expected a header and rows of numbers")
    separator = max(SEPARATORS, key=first.count)
    # Where `;` separates, a comma is a decimal comma.
    decimal = "," if separator == ";" and "," in second else "."
    frame = pandas.read_csv(path, sep=separator, decimal=decimal, encoding="utf-8-sig")
    return _from_frame(frame, path.name, time_column)


def _from_parquet(path: Path, time_column: str | None) -> Table:
    import pandas

    return _from_frame(pandas.read_parquet(path), path.name, time_column)


def _from_frame(frame: Any, name: str, time_column: str | None) -> Table:
    import pandas

    if time_column is not None and time_column not in frame.columns:
        raise UsageError(f"{name} has no column {time_column!r}; it has: {_list(frame.columns)}")
    if time_column is None and isinstance(frame.index, pandas.DatetimeIndex):
        frame = frame.reset_index(names="time")
    time_column = time_column or next(
        (str(c) for c in frame.columns if str(c).lower() in TIME_NAMES), None
    )
    time_s = None if time_column is None else _seconds(frame.pop(time_column), time_column, name)
    columns = {}
    for column in frame.columns:
        if not pandas.api.types.is_numeric_dtype(frame[column]):
            where = frame[column].first_valid_index()
            raise ConverterError(
                f"{name}: column {column!r} holds {frame[column].get(where)!r}, expected numbers: "
                "choose columns with --columns or name the --time-column"
            )
        columns[str(column)] = frame[column].to_numpy(np.float64, na_value=np.nan)
    return Table(columns, time_s, None)


def _seconds(column: Any, time_column: str, name: str) -> Floats:
    import pandas

    if not pandas.api.types.is_numeric_dtype(column):
        try:
            column = pandas.to_datetime(column, utc=True)
        except ValueError as error:
            raise ConverterError(f"{name}: {time_column}: {_one_line(error)}") from None
        since = column - column.iloc[0]
        return np.asarray(since.dt.total_seconds(), dtype=np.float64)
    return _scaled(np.asarray(column))


def _scaled(time: NDArray[Any]) -> Floats:
    """Seconds from the first row on, exact for whole numbers however large."""
    first = float(time[0])
    unit_s = next((unit for limit, unit in EPOCH_UNITS if first > limit), 1.0)
    return np.asarray((time - time[0]) * unit_s, dtype=np.float64)


def _from_npz(path: Path, time_column: str | None, array: str | None) -> Table:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {str(key): archive[key] for key in archive.files}
    rate_hz = next((float(arrays[n]) for n in RATE_NAMES if n in arrays and not arrays[n].ndim), 0)
    arrays = {key: a for key, a in arrays.items() if a.ndim and a.dtype.kind in "fiub"}
    for wanted in (array, time_column):
        if wanted is not None and wanted not in arrays:
            raise UsageError(f"{path.name} has no array {wanted!r}; it has: {_list(arrays)}")
    time = time_column or next((key for key in arrays if key.lower() in TIME_NAMES), None)
    time_s = None if time is None else _scaled(arrays.pop(time))
    if array is not None:
        arrays = {array: arrays[array]}
    columns: dict[str, Floats] = {}
    for key, values in arrays.items():
        columns.update(_columns_of(key, values, path.name))
    lengths = {len(values) for values in columns.values()}
    if time_s is not None:
        lengths.add(len(time_s))
    if len(lengths) > 1:
        raise UsageError(
            f"{path.name}: arrays of {len(lengths)} different lengths ({_list(arrays)}): "
            "choose one with --array"
        )
    return Table(columns, time_s, rate_hz or None)


def _columns_of(key: str, values: NDArray[Any], name: str) -> dict[str, Floats]:
    if values.ndim == 1:
        return {key: values.astype(np.float64)}
    if values.ndim == 2:
        return {f"{key}_{i}": values[:, i].astype(np.float64) for i in range(values.shape[1])}
    raise UsageError(f"{name}: {key} has {values.ndim} dimensions, expected [n] or [n, channels]")


def _list(names: Any) -> str:
    return ", ".join(str(name) for name in names)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def rows_of(table: Table, rows: slice) -> Table:
    """Part of a table; its time goes on where it was."""
    return table._replace(
        columns={name: values[rows] for name, values in table.columns.items()},
        time_s=None if table.time_s is None else table.time_s[rows],
    )
