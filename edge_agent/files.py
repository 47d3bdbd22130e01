"""Files: written whole or not at all, whenever the power goes.

In: a path, its content. Out: the file, on the disk. Never: leaves half a file under its name, nor
one in a service's folder that the service could not read.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(file: Path, content: bytes) -> None:
    """The file is the old one or the new one. Written by root, it belongs to whom its folder does.
    Raises `OSError`."""
    draft = file.with_name(file.name + ".new")
    # A link that somebody has put there would lead root's pen elsewhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o666), "wb") as stream:
        stream.write(content)
        stream.flush()
        if os.geteuid() == 0:
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
