"""Frozen: each thread of the agent stands still in turn, and systemd starts the agent again.

In: a machine with one copy of the service a thread. Out: verdicts with the time it took and the
line of the journal that says which thread it was.
Never: freezes a second copy's thread in place of the first's: each copy has its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.booted.commands import until
from tests.booted.layer import BOARD, BROKER
from tests.booted.machine import Machine
from tests.booted.verdict import Verdict, judged
from tests.conftest import ROOT

# The main thread reads the ports and judges; whatever it waits for, nothing else does.
MAIN = "main"
THREADS = (MAIN, "outbox", "evidence")
LIMIT_SECONDS = 25.0
START_SECONDS = 30.0
# The agent's own line, or systemd's and where that thread was.
REASONS = {
    MAIN: ("Watchdog timeout", "edge_agent/service.py"),
    "outbox": ("the thread outbox has not moved", "Watchdog timeout"),
    "evidence": ("the thread evidence has not moved", "Watchdog timeout"),
}


def unit(thread: str) -> str:
    """The copy whose thread this is."""
    return f"frozen-{thread}.service"


def verdicts(machine: Machine, bed: str) -> Iterator[Verdict]:
    """All at the same time: each one waits for a watchdog of 20 s."""
    machine.run("systemctl", "start", BROKER, BOARD)
    with ThreadPoolExecutor(len(THREADS)) as pool:
        yield from pool.map(
            lambda thread: judged(bed, f"frozen {thread}", partial(frozen, machine, thread)),
            THREADS,
        )


def frozen(machine: Machine, thread: str) -> str:
    """Freezes it while the agent works; ready again in time, for the reason in the journal."""
    name = unit(thread)

    def works() -> bool:
        return "1/1 boards streaming, broker connected" in machine.show(name, "StatusText")

    until(works, f"{name} works", START_SECONDS)
    process = machine.main_process(name).pid
    before = machine.show(name, "MainPID")
    begun_s = time.monotonic()
    with _standing_still(_thread(process, thread)):

        def anew() -> bool:
            pid, state = machine.show(name, "MainPID"), machine.show(name, "ActiveState")
            return pid not in (before, "0") and state == "active"

        until(anew, f"{name} is started again", 2 * LIMIT_SECONDS)
    took = time.monotonic() - begun_s
    journal = machine.journal(name)
    reasons = [line for line in journal if any(word in line for word in REASONS[thread])]
    assert reasons, f"ready again after {took:.1f} s, but no reason in {journal[-12:]}"
    assert took <= LIMIT_SECONDS, f"ready again after {took:.1f} s; {reasons}"
    assert machine.show(name, "NRestarts") == "1"
    return f"ready again after {took:.1f} s; {'; '.join(reasons)}"


def _thread(process: int, thread: str) -> int:
    """The number of the thread with this name; the kernel calls the main one like the process."""
    if thread == MAIN:
        return process
    names = {
        int(task.name): (task / "comm").read_text().strip()
        for task in Path(f"/proc/{process}/task").iterdir()
    }
    found = [tid for tid, name in names.items() if name == thread]
    assert found, f"no thread is called {thread}: {sorted(names.values())}"
    return found[0]


@contextmanager
def _standing_still(tid: int) -> Iterator[None]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.booted.freeze", str(tid)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout
        assert child.stdout.readline() == "frozen\n", f"thread {tid} could not be frozen"
        yield
    finally:
        child.kill()
        child.communicate()
