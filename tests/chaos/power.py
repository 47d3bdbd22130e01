"""Power: the power goes at every single write of a session.

In: a recorded session (`recorded_disk.py`). Out: a row. Never: checks only that it opens: every
alert that was confirmed and not acknowledged has to be there, byte by byte, every other file is the
old one or the new one.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_agent.boards.evidence.shelf import Shelf as EvidenceShelf
from edge_agent.broker.outbox import Outbox
from edge_agent.bundles.shelf import FOLDER as BUNDLES
from edge_agent.bundles.shelf import POINTER_NAME, SERIALS_NAME, bundle_of
from edge_agent.calibrate.shelf.shelf import Shelf
from tests.chaos.power_session import ASSET, BOARD, CASE, EVIDENCE, NOTE, PADDING
from tests.chaos.publishing import alert
from tests.chaos.recorded_disk import Disk, Step, record, untraceable
from tests.chaos.rig import MANY_ROWS, Setting
from tests.chaos.row import Row

# In memory: thousands of folders are made and opened.
FAST = Path("/dev/shm")
STATE = "state"
NO_BUNDLE = Path("none.otolith")
NOTE_WORDS = (
    "replayed after every write, fsync, rename, unlink and truncate: all of it on the disk, and "
    "what no fsync has confirmed lost or torn at sectors of 512 or 4096 bytes"
)


class Due:
    """What has to be there, by what the session has said so far."""

    def __init__(self) -> None:
        self.safe = 0
        self.gone: set[int] = set()
        self.newest = {"serial": 0, "calibration": 0, "bundle": 0}

    def hear(self, line: Mapping[str, int]) -> None:
        """A line of the session."""
        self.safe = line.get("safe", self.safe)
        self.gone |= {line["gone"]} if "gone" in line else set()
        self.newest |= {name: line[name] for name in self.newest if name in line}

    @property
    def alerts(self) -> set[int]:
        """Their numbers."""
        return set(range(1, self.safe + 1)) - self.gone


class Findings:
    """Counts, and what was wrong in words."""

    def __init__(self) -> None:
        self.cuts = self.alerts = self.lost = 0
        self.broken: list[str] = []

    def look(self, folder: Path, due: Due, where: str) -> None:
        """Starts on the disk as the power cut has left it; where it can't, all is lost."""
        self.cuts += 1
        self.alerts += len(due.alerts)
        try:
            lost = _outbox(folder, due)
            self.broken += [f"{where}: {text}" for text in _files(folder, due)]
        except (OSError, ValueError, AssertionError) as error:
            self.broken.append(f"{where}: {error!r}")
            lost = due.alerts
        self.lost += len(lost)


def trouble(setting: Setting) -> list[Row]:
    """All prefixes of 600 alerts, torn in 3 ways each; or of 48, torn in one."""
    began_s = time.monotonic()
    steps = session(setting, setting.either(600, 48))
    found = replay(steps, setting, setting.either(3, 1))
    return [
        Row(
            "power cut", found.cuts, found.alerts, found.lost, broken=tuple(found.broken),
            figures={"recorded steps": len(steps)}, note=NOTE_WORDS,
            seconds=time.monotonic() - began_s,
        )
    ]  # fmt: skip


def session(setting: Setting, alerts: int) -> list[Step]:
    """Of so many alerts, recorded. Raises `RuntimeError` where nothing can be traced."""
    reason = untraceable()
    if reason:
        raise RuntimeError(reason)
    state = setting.folder / STATE
    state.mkdir()
    trace = setting.folder / "trace"
    return record(state, trace, "tests.chaos.power_session", state, alerts)


def replay(steps: Sequence[Step], setting: Setting, torn_ways: int) -> Findings:
    """Cuts the power after each of the steps."""
    chance, disk, due = random.Random(f"power {setting.seed}"), Disk(), Due()
    found, state = Findings(), setting.folder / STATE
    for number, step in enumerate(steps):
        if step.call == "said":
            due.hear(json.loads(step.data))
        elif disk.take(step):
            where = f"step {number} ({step.call})"
            with _folder(disk.whole(), state) as folder:
                found.look(folder, due, where)
            for way in range(torn_ways):
                with _folder(disk.torn(chance), state) as folder:
                    found.look(folder, due, f"{where}, torn {way}")
            setting.say(f"step {number} of {len(steps)}, {found.cuts:,} power cuts")
    return found


@contextmanager
def _folder(files: Mapping[str, bytes], state: Path) -> Iterator[Path]:
    """The disk as it was, somewhere else."""
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as place:
        for name, content in files.items():
            path = Path(place) / Path(name).relative_to(state)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield Path(place)


def _outbox(folder: Path, due: Due) -> set[int]:
    """Opens it as the service would; what is missing of what has to be there."""
    outbox = Outbox(folder)
    try:
        assert outbox.set_aside is None, f"set aside as {outbox.set_aside}"
        rows = outbox.pending(0, MANY_ROWS)
        numbers = [json.loads(row.message.payload)["n"] for row in rows]
        assert numbers == sorted(set(numbers)), "out of order, or twice"
        for n, row in zip(numbers, rows, strict=True):
            assert row.message == alert(n, padding=PADDING), f"alert {n} has changed"
        noted = json.loads(outbox.notes.get(NOTE, b'{"n": 0}'))["n"]
        assert noted >= max(due.safe, *numbers, 0), f"the note is that of {noted}"
    finally:
        outbox.close()
    return due.alerts - set(numbers)


def _files(folder: Path, due: Due) -> Iterator[str]:
    """What is wrong with the other files."""
    serials = folder / SERIALS_NAME
    serial = json.loads(serials.read_bytes())[ASSET] if serials.exists() else 0
    if serial < due.newest["serial"]:
        yield f"serial {serial}, had {due.newest['serial']}"
    shelf = Shelf(folder, BOARD)
    current = shelf.current("compass")
    made = int(current.reason) if current else 0
    if made < due.newest["calibration"]:
        yield f"calibration {made}, had {due.newest['calibration']}"
    is_chosen = (folder / BUNDLES / ASSET / POINTER_NAME).exists()
    bundle = bundle_of(folder, ASSET, NO_BUNDLE).manifest.serial if is_chosen else 0
    if bundle < due.newest["bundle"]:
        yield f"bundle {bundle}, had {due.newest['bundle']}"
    EvidenceShelf(folder / EVIDENCE, 10_000_000)
    case = folder / EVIDENCE / f"{CASE}.json"
    if case.exists():
        document = json.loads(case.read_bytes())
        if len(document["more"]) != document["n"] % 700:
            yield f"evidence {document['n']} is mixed"
    for recording in (folder / EVIDENCE).glob("*.rec"):
        if recording.read_bytes() != b"head\x00" + b"frame\x00" * 900:
            yield f"{recording.name} is not whole"
