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

from edge_agent.calibrate.reading.headers import (
    ACCELERATION_WORDS,
    FIELD_WORDS,
    second_in,
    time_place,
    triple,
    unit_in,
)
from edge_agent.calibrate.reading.readings import Columns, ReadingsError
from edge_agent.calibrate.reading.wire import WIDE
from edge_agent.calibrate.sphere import Floats

LIMIT_ROWS = 2_000_000
LIMIT_COLUMNS = 64
COMMENTS = ("#", "%", "//", "!")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)\b", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"^[-+]?\d+,\d+(?:[eE][-+]?\d+)?$")
LABEL = re.compile(r"^\s*[A-Za-z]\w*\s*:\s*(?=[-+.\d])")
UNREADABLE_SHARE = 0.05
QUOTES = " \t\"'"
HEADER_LINES = 2
# Number and time, or two clocks.
MOST_CLOCKS = 3


class _Table(NamedTuple):
    """Lines of equal length; `header` are their names, if there were any."""

    values: Floats
    header: tuple[str, ...]
    skipped: int


def read_text(content: bytes) -> Columns:
    """Field, and acceleration and time where there are columns of them. Raises `ReadingsError`."""
    text = _decoded(content)
    odd = sum(
        1
        for letter in text[:4096]
        if letter == "\ufffd" or (not letter.isprintable() and letter not in "\t\r\n\f")
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


def _decoded(content: bytes) -> str:
    """As Windows writes it, too: two bytes a letter, or `µ` as one."""
    if content.startswith(WIDE):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _table(text: str) -> _Table:
    every = [line.strip() for line in text.splitlines()]
    lines = [line for line in every if line and not line.startswith(COMMENTS)]
    if len(lines) > LIMIT_ROWS:
        raise ReadingsError(f"{len(lines)} lines; up to {LIMIT_ROWS} are read")
    delimiter = _delimiter(lines[:200])
    rows = [_numbers(_cells(line, delimiter), delimiter) for line in lines]
    lengths = Counter(len(row) for row in rows if _numeric(row) >= 3)
    if not lengths:
        return _loose(lines)
    length = min(lengths.most_common(1)[0][0], LIMIT_COLUMNS)
    taken = [i for i, row in enumerate(rows) if len(row) == length and _numeric(row) >= 3]
    header, above = _header(every, lines[taken[0]], delimiter, length)
    values = np.array([[np.nan if cell is None else cell for cell in rows[i]] for i in taken])
    return _Table(values, header, len(lines) - len(taken) - above)


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
    cells = line.split(delimiter) if delimiter else line.split()
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


def _header(
    every: list[str], first: str, delimiter: str | None, length: int
) -> tuple[tuple[str, ...], int]:
    """The names just before the numbers, be it in a comment, with the units of a line between
    them; and how many of these lines are no comments."""
    found: list[tuple[str, ...]] = []
    read = 0
    for line in reversed([line for line in every[: every.index(first)] if line][-HEADER_LINES:]):
        cells = _names(line, delimiter)
        if len(cells) == length - 1:
            cells.append("")  # the numbers end with a delimiter
        if len(cells) != length or any(_number(cell, delimiter) is not None for cell in cells):
            break
        found.append(tuple(cells))
        read += not line.startswith(COMMENTS)
        if triple(found[-1], (*FIELD_WORDS, *ACCELERATION_WORDS, "")):
            break
    if len(found) == 2:
        pairs = zip(*reversed(found), strict=True)
        return tuple(f"{name} [{unit}]" if unit else name for name, unit in pairs), read
    return (found[0] if found else ()), read


def _names(line: str, delimiter: str | None) -> list[str]:
    line = line.lstrip("".join(COMMENTS)).strip()
    if delimiter is None:
        # A unit in brackets belongs to the name before it.
        line = re.sub(r"\s+(?=[\[(])", "", line)
        return [cell.strip(QUOTES) for cell in line.split()]
    return [cell.strip(QUOTES) for cell in line.split(delimiter)]


def _by_header(table: _Table) -> Columns | None:
    """Columns by their names."""
    header = table.header
    field = triple(header, FIELD_WORDS) or triple(header, ("",))
    acceleration, time = triple(header, ACCELERATION_WORDS), time_place(header)
    taken = field or acceleration
    if taken is None:
        return None
    beside = acceleration if field else None
    return Columns(
        table.values[:, taken],
        table.values[:, beside] if beside else None,
        table.values[:, time] if time is not None else None,
        unit_in(header[taken[0]]),
        notes=(f"columns {', '.join(header[i] for i in taken)} by the header",),
        gravity_only=field is None,
        second=second_in(header[time]) if time is not None else None,
    )


def _by_place(table: _Table) -> Columns | None:
    """Columns by what they look like."""
    full = np.isfinite(table.values).mean(axis=0) > 0.5
    if not full.any():
        raise ReadingsError(f"{len(table.values)} rows, and hardly any of them is of numbers")
    places = [i for i in range(table.values.shape[1]) if full[i]]
    seconds, notes, counted = None, [], 0
    while len(places) > 3 and counted < MOST_CLOCKS and _rises(table.values[:, places[0]]):
        clock = places.pop(0)
        counted += 1
        notes.append(f"column {clock + 1} only rises: it is taken for time")
        seconds = table.values[:, clock]
    if len(places) < 3:
        return None
    if len(places) < 6:
        if table.values.shape[1] > 3:
            notes.append(f"columns {places[0] + 1} to {places[2] + 1} are taken for x y z")
        return Columns(table.values[:, places[:3]], None, seconds, notes=tuple(notes))
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
