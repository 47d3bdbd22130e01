"""`python -m tests.booted.freeze TID`: one thread of a program stands still, all others run on.

In: a thread's number. Out: one line when it stands; the program then ends when its thread has.
Never: lets it go on. (SIGSTOP would stop the whole process; a debugger stops one thread.)
"""

from __future__ import annotations

import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000  # __WALL: waits for threads, too


def freeze(tid: int) -> None:
    """Stops the thread. Raises `OSError` if this user may not, or it is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, tid, None, None) < 0:
            raise OSError(ctypes.get_errno(), f"thread {tid} can't be stopped")
    os.waitpid(tid, WALL)


def wait_for_end(tid: int) -> None:
    """Until the thread has died: its process was killed. Every other stop is held."""
    while True:
        _, status = os.waitpid(tid, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return


if __name__ == "__main__":
    freeze(int(sys.argv[1]))
    sys.stdout.write("frozen\n")
    sys.stdout.flush()
    wait_for_end(int(sys.argv[1]))
