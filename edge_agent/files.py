"""Files: written whole or not at all, whenever the power goes.

In: a path, its content. Out: the file, on the disk. Never: leaves half a file under its name, nor
one in a service's folder that the service could not read; lets root follow a link that the
service's user has laid.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = 0


def write_atomically(file: Path, content: bytes) -> None:
    """The file is the old one or the new one. Written by root, it belongs to whom its folder does.
    Raises `OSError`."""
    draft = file.with_name(file.name + ".new")
    # A link that somebody has put there would lead root's pen elsewhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o666), "wb") as stream:
        stream.write(content)
        stream.flush()
        if os.geteuid() == ROOT:
            owner = os.stat(file.parent)
            os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
        os.fsync(stream.fileno())
    draft.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """What was renamed in the folder is so after a power cut, too. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def other_owner(folder: Path) -> tuple[int, int] | None:
    """User and group of the folder's owner, if root asks and is not the owner."""
    status = folder.stat()
    return (status.st_uid, status.st_gid) if os.geteuid() == ROOT != status.st_uid else None


@contextmanager
def as_owner(folder: Path) -> Iterator[tuple[int, Path]]:
    """The folder, open, and by a path that leads there with the rights of its owner alone. Root
    has no more than these here: a link that the service's user could have laid leads nowhere that
    it could not go itself, and what is written is the service's."""
    owner = other_owner(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    inside = f"/proc/self/fd/{descriptor}"
    try:
        if owner:
            os.setegid(owner[1])
            os.seteuid(owner[0])
        yield descriptor, Path(inside)
    except OSError as error:
        if isinstance(error.filename, str):
            error.filename = error.filename.replace(inside, str(folder))
        raise
    finally:
        if owner:
            os.seteuid(ROOT)
            os.setegid(ROOT)
        os.close(descriptor)
