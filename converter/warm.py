"""Warm: a process that has loaded TensorFlow, and forks a child for each job.

In: on standard input a JSON line a job: module, folder, timeout_seconds. Out: a JSON line for each
when it is over: folder and code (negative: the signal). What the job printed is in its folder.
Never: does anything with TensorFlow itself: forking is safe only as long as none of its threads
has worked.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

READ_BYTES = 65_536
POLL_SECONDS = 0.02


def _run(job: dict[str, Any]) -> None:
    """The child's side; never returns."""
    folder, code = Path(job["folder"]), 1
    for name, descriptor in (("out", 1), ("log", 2)):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(folder / f"{job['module']}.{name}", flags), descriptor)
    # What TensorFlow leaves behind, it leaves in the job's own folder.
    tempfile.tempdir = str(folder)
    # Dies of it: a job that hangs in TensorFlow listens to nothing else.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, job["timeout_seconds"])
    try:
        importlib.import_module(job["module"]).main(folder)
        code = 0
    except Exception:  # noqa: BLE001 - whatever it was, the log has it, and the parent its code
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _collect(folders: dict[int, str]) -> None:
    """Tells which children have ended."""
    while folders:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        line = {"folder": folders.pop(pid), "code": os.waitstatus_to_exitcode(status)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Until standard input ends."""
    for module in ("keras", "tensorflow", "tf_keras"):
        importlib.import_module(module)
    folders: dict[int, str] = {}
    pending = b""
    while True:
        _collect(folders)
        ready, _, _ = select.select([0], [], [], POLL_SECONDS)
        if not ready:
            continue
        chunk = os.read(0, READ_BYTES)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            job = json.loads(line)
            pid = os.fork()
            if not pid:
                _run(job)
            folders[pid] = job["folder"]


if __name__ == "__main__":
    main()
