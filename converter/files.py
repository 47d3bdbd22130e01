"""Files: bytes to disk and back, whole or not at all.

In: a path and bytes. Out: a file that is either the old one or the new one. Never: half a file.
"""

from __future__ import annotations

import os
from pathlib import Path

from converter.errors import FileError


def read_file(path: Path) -> bytes:
    """The content. Raises `FileError` in one line."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"can't read {path}: {error.strerror}") from None


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replaces the file at once; folders are made. Raises `FileError` in one line."""
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise FileError(f"can't write {path}: {error.strerror}") from None
