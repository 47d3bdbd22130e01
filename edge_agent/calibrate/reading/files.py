"""Files: a path to readings, whatever the format.

In: a path. Out: `Readings`. Never: runs code from a file, goes by its name: the content decides
whether it is the wire of a board, NPZ or NPY, or text.
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.calibrate.reading.arrays import is_arrays, read_arrays
from edge_agent.calibrate.reading.readings import (
    LIMIT_BYTES,
    Columns,
    Readings,
    ReadingsError,
    finite,
)
from edge_agent.calibrate.reading.text_columns import read_text
from edge_agent.calibrate.reading.wire import is_wire, read_wire


def read_readings(path: Path, stream: str | None = None) -> Readings:
    """Everything in a file. Raises `ReadingsError`, `OSError`."""
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise ReadingsError(
            f"{path.name}: {size >> 20} MiB; up to {LIMIT_BYTES >> 20} MiB are read: a few minutes "
            "of turning are enough"
        )
    content = path.read_bytes()
    try:
        columns = _columns(content, stream)
    except ReadingsError as error:
        raise ReadingsError(f"{path.name}: {error}") from None
    return finite(path.name, columns)


def _columns(content: bytes, stream: str | None) -> Columns:
    if not content:
        raise ReadingsError("the file is empty")
    if is_arrays(content):
        return read_arrays(content)
    if is_wire(content):
        return read_wire(content, stream)
    return read_text(content)
