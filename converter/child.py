"""Child: one job in a process of its own.

In: a module of this package and a folder with its job. Out: its JSON lines as they come.
Never: lets TensorFlow's death, chatter or memory into this process.

The TFLite converter may end its process by a signal, without an exception, so nothing that calls
it may live here. Loading TensorFlow takes longer than most jobs of a benchmark: inside of
`warm_children` a parent that has loaded it is forked for each job (`converter.warm`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Lock, Thread, Timer
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
    if _warm is not None:
        _warm.run(module, folder, what, timeout_seconds, on_line)
        return
    log = folder / f"{module}.log"
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, str(folder)],
            stdout=subprocess.PIPE, stderr=errors, env=_environment(folder),
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


class Warm:
    """The parent of jobs that need not load TensorFlow. Jobs may come from several threads."""

    def __init__(self) -> None:
        self._lock, self._answers = Lock(), dict[str, Queue[int]]()
        self._parent = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "converter.warm"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=_environment(None), text=True,
        )  # fmt: skip
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def run(
        self, module: str, folder: Path, what: str, timeout_seconds: float, on_line: Line | None
    ) -> None:
        """As `run_child`, but the lines come when the job is over."""
        answer = self._answers[str(folder)] = Queue()
        job = {"module": module, "folder": str(folder), "timeout_seconds": timeout_seconds}
        with self._lock:
            assert self._parent.stdin is not None
            self._parent.stdin.write(json.dumps(job) + "\n")
            self._parent.stdin.flush()
        code = answer.get()
        for line in (folder / f"{module}.out").read_bytes().splitlines():
            if on_line is not None and line.startswith(b"{"):
                on_line(json.loads(line))
        if code:
            timed_out = code == -signal.SIGALRM
            log = folder / f"{module}.log"
            raise ConverterError(f"{what} {_ending(code, timed_out, timeout_seconds, log)}")

    def close(self) -> None:
        """No more jobs."""
        self._parent.terminate()
        self._parent.communicate()

    def _read(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            if line.startswith("{"):
                done = json.loads(line)
                self._answers.pop(done["folder"]).put(done["code"])
        for answer in self._answers.values():
            answer.put(1)


_warm: Warm | None = None


@contextmanager
def warm_children() -> Iterator[None]:
    """Jobs inside are forked from one process that has TensorFlow already."""
    global _warm
    _warm = warm = Warm()
    try:
        yield
    finally:
        _warm = None
        warm.close()


def _listen(child: subprocess.Popen[bytes], on_line: Line | None) -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            # Keras prints to standard output too; only our lines are objects.
            if on_line is not None and line.startswith(b"{"):
                on_line(json.loads(line))


def _environment(folder: Path | None) -> dict[str, str]:
    """What TensorFlow leaves behind, it leaves in the job's own `folder`."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        **({"TMPDIR": str(folder)} if folder else {}),
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
