"""Child: one job in a process of its own.

In: a module of this package and a folder with its job. Out: its JSON lines as they come.
Never: lets TensorFlow's death, chatter or memory into this process.

The TFLite converter may end its process by a signal, without an exception, so nothing that calls
it may live here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

from converter.errors import ConverterError

PROJECT = Path(__file__).resolve().parent.parent
LAST_CHARACTERS = 300

Line = Callable[[dict[str, Any]], None]


def run_child(
    module: str, folder: Path, what: str, timeout_seconds: float, on_line: Line | None = None
) -> None:
    """Runs `python -m module folder`. `what` is the job's name for people.

    Raises `ConverterError` that says how it ended, if not well.
    """
    log = folder / f"{module}.log"
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, str(folder)],
            stdout=subprocess.PIPE, stderr=errors, env=_environment(),
        )  # fmt: skip
        timer = Timer(timeout_seconds, child.kill)
        timer.start()
        try:
            _listen(child, on_line)
            code = child.wait()
        finally:
            timed_out = not timer.is_alive()
            timer.cancel()
            child.kill()
            child.wait()
    if code:
        raise ConverterError(f"{what} {_ending(code, timed_out, timeout_seconds, log)}")


def _listen(child: subprocess.Popen[bytes], on_line: Line | None) -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            # Keras prints to standard output too; only our lines are objects.
            if on_line is not None and line.startswith(b"{"):
                on_line(json.loads(line))


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "",
        # The same sums in the same order on every run.
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def _ending(code: int, timed_out: bool, timeout_seconds: float, log: Path) -> str:
    if code < 0 and timed_out:
        return f"took more than {timeout_seconds:g} s and was stopped: use fewer windows"
    if code < 0:
        return (
            f"died by signal {signal.Signals(-code).name} without a message: TensorFlow can't "
            "convert or train this network here"
        )
    lines = log.read_text(errors="replace").strip().splitlines()
    return (
        f"failed with exit code {code}: {lines[-1][-LAST_CHARACTERS:] if lines else 'no message'}"
    )
