"""Faulty disk: a folder whose disk is full, broken, read-only or silent while a test says so.

In: the folder. Out: the environment for a child process below which real SQLite and real files
meet the trouble (`faulty_disk.c`, preloaded), and the switch. Never: touches this process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

Trouble: TypeAlias = Literal["ENOSPC", "EIO", "EROFS", "HANG"]
SOURCE = Path(__file__).with_name("faulty_disk.c")
MISSING = "gcc is not installed: apt-get install gcc" if shutil.which("gcc") is None else ""


class FaultyDisk:
    """The disk under `folder`, which must exist; `control` is a file outside of it."""

    def __init__(self, folder: Path, control: Path) -> None:
        self.folder, self.control = folder.resolve(), control.resolve()
        assert self.folder not in self.control.parents, "the switch must not be below the folder"

    def environment(self) -> dict[str, str]:
        """This process's, with the disk in between: `subprocess.Popen(..., env=...)`."""
        return {
            **os.environ,
            "LD_PRELOAD": str(library()),
            "FAULTY_DISK": str(self.control),
            "FAULTY_DISK_UNDER": str(self.folder),
        }

    def fails(self, trouble: Trouble) -> None:
        """From now on every write fails like this; `HANG` is one that does not come back."""
        fresh = self.control.with_name(self.control.name + ".new")
        fresh.write_text(trouble)
        fresh.replace(self.control)

    def heals(self) -> None:
        """The disk is well again."""
        self.control.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def library() -> Path:
    """The compiled shim; built once a process."""
    made = Path(tempfile.mkdtemp(prefix="faulty-disk-")) / "faulty_disk.so"
    command = ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return made
