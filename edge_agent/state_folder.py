"""State folder: where a service keeps what must outlive it, or a stand-in while it can't.

In: the configured folder. Out: one that can be written, and what is wrong if it is another one.
Never: lets a card that has become read-only or full keep a gateway from telling alerts.

The stand-in begins with what can still be read: calibrations, bundles, what they were last, and
the alerts that wait. It ends with the run: an alert that was sent from it is sent again when the
folder is well, under the same name and number.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PROBE_NAME = "probe.tmp"
PROBE_BYTES = 65_536
# A stand-in lies in memory: large things stay behind.
MAX_COPIED_BYTES = 16 << 20
PREFIX = "otolith-"
# Where /tmp is on the card, it is no better than the state folder.
MEMORY = Path("/dev/shm")
DISK_TROUBLE = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def writable(state_dir: Path) -> tuple[Path, str | None]:
    """The folder, or a stand-in and the reason in one line. Raises `OSError` for what a person has
    to put right: a file in the way, a right that is missing."""
    try:
        _probe(state_dir)
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        memory = MEMORY if os.access(MEMORY, os.W_OK) else None
        stand_in = Path(tempfile.mkdtemp(prefix=PREFIX, dir=memory))
        _copy(state_dir, stand_in)
        told = f"{state_dir}: {error.strerror or error}: alerts go on, but what waits is lost if "
        return stand_in, told + f"the agent ends ({stand_in} stands in); mend it and restart"
    return state_dir, None


def _probe(state_dir: Path) -> None:
    """Whether the folder takes a few pages. Raises `OSError` if it doesn't."""
    state_dir.mkdir(parents=True, exist_ok=True)
    probe = state_dir / PROBE_NAME
    try:
        with probe.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _copy(state_dir: Path, stand_in: Path) -> None:
    """All that is small enough, as far as it can be read; links and sockets are left behind."""
    left = MAX_COPIED_BYTES
    for folder, _, names in os.walk(state_dir):
        for name in names:
            source = Path(folder) / name
            with suppress(OSError):
                if source.is_symlink() or not source.is_file():
                    continue
                size = source.stat().st_size
                if size <= left:
                    target = stand_in / source.relative_to(state_dir)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
                    left -= size
