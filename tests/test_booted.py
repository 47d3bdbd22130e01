"""The bed of `make booted`: its own parts, and a short boot where a Debian is there already."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.booted import gateway
from tests.booted.__main__ import impossible
from tests.booted.freeze import freeze, wait_for_end
from tests.booted.layer import AGENT, lay
from tests.booted.machine import booted
from tests.booted.powercut import DISCARD, FLUSH, MAGIC, Cut, after_cut, copied
from tests.booted.root import ready, root
from tests.booted.verdict import judged
from tests.conftest import ROOT

SECTOR = 512
SLEEPER = """
import threading, time
def count(numbers):
    while True:
        numbers[0] += 1
        time.sleep(0.01)
numbers = [0]
threading.Thread(target=count, args=(numbers,), daemon=True).start()
print(threading.enumerate()[1].native_id, flush=True)
while True:
    input()
    print(numbers[0], flush=True)
"""


def log_of(*writes: tuple[int, bytes, int]) -> bytes:
    """QEMU's log: (sector, data, flags); a discard has a length in place of data."""
    log = struct.pack("<QQQI", MAGIC, 1, 0, SECTOR).ljust(SECTOR, b"\0")
    for place, data, flags in writes:
        log += struct.pack("<QQQQ", place, len(data) // SECTOR, flags, 0).ljust(SECTOR, b"\0")
        log += b"" if flags & DISCARD else data
    return log


def test_a_power_cut_keeps_what_was_flushed_and_nothing_after_it(tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.write_bytes(b"o" * 4 * SECTOR)
    log.write_bytes(
        log_of((0, b"a" * SECTOR, 0), (1, b"b" * SECTOR, 0), (2, bytes(SECTOR), DISCARD),
               (0, b"", FLUSH), (1, b"c" * SECTOR, 0), (3, b"d" * SECTOR, 0))
    )  # fmt: skip
    assert after_cut(disk, log) == Cut(kept=4, lost=2)
    kept = b"".join(letter * SECTOR for letter in (b"a", b"b", b"\0", b"o"))
    assert disk.read_bytes() == kept


def test_a_log_that_ends_in_the_middle_of_a_write_ends_there(tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.write_bytes(b"o" * SECTOR)
    log.write_bytes(log_of((0, b"", FLUSH), (0, b"a" * SECTOR, FLUSH))[:-1])
    assert after_cut(disk, log) == Cut(kept=1, lost=0)
    assert disk.read_bytes() == b"o" * SECTOR
    log.write_bytes(bytes(SECTOR))
    with pytest.raises(ValueError, match="no log of blklogwrites"):
        after_cut(disk, log)


def test_a_copy_of_a_disk_has_its_holes(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.seek(8 << 20)
        file.write(b"data" * 1024)
        file.truncate(32 << 20)
    copy = copied(disk, tmp_path / "copy")
    assert copy.read_bytes() == disk.read_bytes()
    assert copy.stat().st_blocks <= disk.stat().st_blocks


def test_one_thread_stands_still_and_the_others_do_not() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    tid = int(child.stdout.readline())
    freeze(tid)
    try:
        answers = []
        for _ in range(3):
            child.stdin.write("\n")
            child.stdin.flush()
            answers.append(child.stdout.readline())
        assert len(set(answers)) == 1
    finally:
        child.kill()
        wait_for_end(tid)
        child.communicate()


def test_the_shell_script_is_understood() -> None:
    subprocess.run(["sh", "-n", ROOT / "tests" / "booted" / "boot.sh"], check=True)


@pytest.mark.skipif(bool(impossible()), reason=impossible())
@pytest.mark.skipif(not ready("bookworm"), reason="no Debian in build/booted: make booted")
def test_the_unit_starts_under_a_real_systemd_and_takes_its_configuration_anew(
    tmp_path: Path,
) -> None:
    layer = lay(tmp_path / "layer", "bookworm", agents=(AGENT,))
    with booted(layer, root("bookworm")) as machine:
        for verdict in gateway.verdicts(machine, "bookworm", gateway.OF_SYSTEMD):
            assert verdict.ok, f"{verdict.check}: {verdict.seen}"
    shutil.rmtree(layer)


def test_an_answer_that_is_not_as_expected_is_a_verdict() -> None:
    def wrong() -> str:
        raise AssertionError("saw this")

    verdict = judged("bed", "check", wrong)
    assert (verdict.ok, verdict.seen) == (False, "saw this")
    assert judged("bed", "check", lambda: "all well").ok
