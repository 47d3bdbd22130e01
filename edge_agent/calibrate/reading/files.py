"""Files: a path to readings, whatever the format.

In: a path. Out: `Readings`. Never: runs code from a file, goes by its name: the content decides
whether it is the wire of a board, NPZ or NPY, or text.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from edge_agent.calibrate.reading.arrays import is_arrays, read_arrays
from edge_agent.calibrate.reading.readings import (
    LIMIT_BYTES,
    Columns,
    Readings,
    ReadingsError,
    beside,
    clocked,
    finite,
)
from edge_agent.calibrate.reading.text_columns import read_text
from edge_agent.calibrate.reading.wire import is_wire, read_wire

GZIP = b"\x1f\x8b"


def read_readings(path: Path, stream: str | None = None) -> Readings:
    """Everything in a file. Raises `ReadingsError`, `OSError`."""
    content = content_of(path)
    try:
        columns = _columns(content, stream)
    except ReadingsError as error:
        raise ReadingsError(f"{path.name}: {error}") from None
    return finite(path.name, columns)


def content_of(path: Path) -> bytes:
    """The bytes of a file that is not too long, unpacked if it is gzip's. Raises `ReadingsError`,
    `OSError`."""
    size = path.stat().st_size
    content = b"" if size > LIMIT_BYTES else path.read_bytes()
    if content.startswith(GZIP):
        unpacked = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            content = unpacked.decompress(content, LIMIT_BYTES + 1)
        except zlib.error as error:
            raise ReadingsError(f"{path.name}: a damaged gzip file ({error})") from None
        size = len(content)
    if size > LIMIT_BYTES:
        raise ReadingsError(
            f"{path.name}: {size >> 20} MiB; up to {LIMIT_BYTES >> 20} MiB are read: a few minutes "
            "are enough"
        )
    return content


def _columns(content: bytes, stream: str | None) -> Columns:
    if not content:
        raise ReadingsError("the file is empty")
    if is_arrays(content):
        return read_arrays(content)
    if is_wire(content):
        return read_wire(content, stream)
    return beside(clocked(read_text(content)))
