"""Text columns: CSV and whatever else a logger prints, to columns.

In: the bytes of a text file. Out: `Columns`. Never: raises for a line that it does not understand
(most must be understood), takes a column for a sensor without saying so in `notes`.

Comments (# % // !), a header, brackets, labels (`Raw:`, `x=`) and any usual delimiter are allowed.
Without a header a column that only rises is time, three others are x y z, six are an accelerometer
and a magnetometer, nine have a gyroscope between them (as MotionCal and most loggers print).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.reading.readings import Columns, ReadingsError
from edge_agent.calibrate.sphere import Floats

LIMIT_ROWS = 2_000_000
LIMIT_COLUMNS = 64
COMMENTS = ("#", "%", "//", "!")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)\b", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"^[-+]?\d+,\d+(?:[eE][-+]?\d+)?$")
LABEL = re.compile(r"^\s*[A-Za-z]\w*\s*:\s*(?=[-+.\d])")
UNIT = re.compile(r"[\[(]\s*([^\])]+?)\s*[\])]")
TIMES = (
    "t",
    "time",
    "timestamp",
    "seconds",
    "s",
    "ms",
    "millis",
    "us",
    "micros",
    "sec",
    "datetime",
)
FIELD_WORDS, ACCELERATION_WORDS = ("mag", "b", "m", "h", "field", "compass"), ("acc", "a")
UNREADABLE_SHARE = 0.05


class _Table(NamedTuple):
    """Lines of equal length; `header` are their names, if there were any."""

    values: Floats
    header: tuple[str, ...]
    skipped: int


def read_text(content: bytes) -> Columns:
    """Field, and acceleration and time where there are columns of them. Raises `ReadingsError`."""
    text = content.decode("utf-8-sig", errors="replace")
    odd = sum(
        1
        for letter in text[:4096]
        if letter == "\ufffd" or (letter < " " and letter not in "\t\r\n\f")
    )
    if odd > UNREADABLE_SHARE * min(len(text), 4096):
        raise ReadingsError("neither text nor NPZ nor a recording of a board")
    table = _table(text)
    columns = _by_header(table) or _by_place(table)
    if columns is None:
        raise ReadingsError(
            f"{table.values.shape[1]} columns; expected x y z, with or without a time before them, "
            "or a header that names them"
        )
    if table.skipped:
        note = f"{table.skipped} lines are not like the others and were left out"
        columns = columns._replace(notes=(*columns.notes, note))
    return columns


def _table(text: str) -> _Table:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(COMMENTS)]
    if len(lines) > LIMIT_ROWS:
        raise ReadingsError(f"{len(lines)} lines; up to {LIMIT_ROWS} are read")
    delimiter = _delimiter(lines[:200])
    rows = [_numbers(_cells(line, delimiter), delimiter) for line in lines]
    lengths = Counter(len(row) for row in rows if _numeric(row) >= 3)
    if not lengths:
        return _loose(lines)
    length = min(lengths.most_common(1)[0][0], LIMIT_COLUMNS)
    taken = [i for i, row in enumerate(rows) if len(row) == length and _numeric(row) >= 3]
    header = _header(lines, delimiter, taken[0], length)
    values = np.array([[np.nan if cell is None else cell for cell in rows[i]] for i in taken])
    return _Table(values, header, len(lines) - len(taken) - bool(header))


def _loose(lines: list[str]) -> _Table:
    """Lines whose numbers stand between words: all numbers of a line are its columns."""
    rows = [[float(number) for number in NUMBER.findall(line)] for line in lines]
    lengths = Counter(len(row) for row in rows if 3 <= len(row) <= LIMIT_COLUMNS)
    if not lengths:
        raise ReadingsError("no line with three numbers; expected columns x y z")
    length = lengths.most_common(1)[0][0]
    values = np.array([row for row in rows if len(row) == length])
    return _Table(values, (), len(lines) - len(values))


def _delimiter(lines: list[str]) -> str | None:
    """What splits most lines into three or more; None is white space."""
    for delimiter in (";", "\t", ",", "|"):
        split = sum(line.count(delimiter) >= 2 for line in lines)
        if lines and split > 0.6 * len(lines):
            return delimiter
    return None


def _cells(line: str, delimiter: str | None) -> list[str]:
    line = LABEL.sub("", line)
    cells = line.rstrip(delimiter).split(delimiter) if delimiter else line.split()
    return [cell.strip(" \t\"'[](){}") for cell in cells]


def _numbers(cells: list[str], delimiter: str | None) -> list[float | None]:
    return [_number(cell, delimiter) for cell in cells]


def _number(cell: str, delimiter: str | None) -> float | None:
    cell = cell.rpartition("=")[2].strip()
    if delimiter != "," and DECIMAL_COMMA.match(cell):
        cell = cell.replace(",", ".")
    try:
        return float(cell.rstrip(",")) if "_" not in cell else None
    except ValueError:
        return None


def _numeric(row: list[float | None]) -> int:
    return sum(cell is not None for cell in row)


def _header(lines: list[str], delimiter: str | None, first: int, length: int) -> tuple[str, ...]:
    """The line just before the numbers, if it has as many names."""
    if first == 0:
        return ()
    cells = _cells(lines[first - 1].lstrip("".join(COMMENTS)), delimiter)
    named = len(cells) == length and all(_number(cell, delimiter) is None for cell in cells)
    return tuple(cells) if named else ()


def _by_header(table: _Table) -> Columns | None:
    """Columns by their names."""
    field = _triple(table.header, FIELD_WORDS) or _triple(table.header, ("",))
    if field is None:
        return None
    acceleration = _triple(table.header, ACCELERATION_WORDS)
    time = next((i for i, name in enumerate(table.header) if _plain(name) in TIMES), None)
    units = UNIT.findall(table.header[field[0]])
    return Columns(
        table.values[:, field],
        table.values[:, acceleration] if acceleration else None,
        table.values[:, time] if time is not None else None,
        units[0] if units else None,
        notes=(f"columns {', '.join(table.header[i] for i in field)} by the header",),
    )


def _triple(header: tuple[str, ...], words: tuple[str, ...]) -> list[int] | None:
    """The columns x, y and z whose other letters begin with one of the words."""
    found: dict[str, int] = {}
    for i, name in enumerate(header):
        plain = _plain(name)
        for axis in (plain[-1:], plain[:1]):
            rest = plain.removesuffix(axis) if plain.endswith(axis) else plain.removeprefix(axis)
            fits = any(rest == word or (len(word) > 1 and rest.startswith(word)) for word in words)
            if axis in ("x", "y", "z") and fits:
                found.setdefault(axis, i)
    return [found[axis] for axis in "xyz"] if len(found) == 3 else None


def _plain(name: str) -> str:
    """Letters only, without the unit."""
    return re.sub(r"[^a-z]", "", UNIT.sub("", name).lower())


def _by_place(table: _Table) -> Columns | None:
    """Columns by what they look like."""
    full = np.isfinite(table.values).mean(axis=0) > 0.5
    if not full.any():
        raise ReadingsError(f"{len(table.values)} rows, and hardly any of them is of numbers")
    places = [i for i in range(table.values.shape[1]) if full[i]]
    time = next((i for i in places if len(places) > 3 and _rises(table.values[:, i])), None)
    places = [i for i in places if i != time]
    if len(places) < 3:
        return None
    seconds = None if time is None else table.values[:, time]
    note = "" if time is None else f"column {time + 1} only rises: it is taken for time"
    notes = (note,) if note else ()
    if len(places) < 6:
        return Columns(table.values[:, places[:3]], None, seconds, notes=notes)
    first, last = places[:3], places[6:9] if len(places) >= 9 else places[3:6]
    if len(places) < 9 and _swing(table.values[:, first]) > _swing(table.values[:, last]):
        first, last = last, first
    told = (
        f"columns {first[0] + 1} to {first[2] + 1} are taken for an accelerometer, "
        f"{last[0] + 1} to {last[2] + 1} for a magnetometer"
    )
    return Columns(table.values[:, last], table.values[:, first], seconds, notes=(*notes, told))


def _rises(column: Floats) -> bool:
    steps = np.diff(column[np.isfinite(column)])
    return bool(len(steps) > 2 and (steps >= 0).all() and (steps > 0).mean() > 0.3)


def _swing(rows: Floats) -> float:
    """How much the length changes: little for gravity, more for a field with iron beside it."""
    lengths = np.linalg.norm(rows[np.isfinite(rows).all(axis=1)], axis=1)
    return float(lengths.std() / max(lengths.mean(), np.finfo(float).tiny)) if len(lengths) else 0.0
