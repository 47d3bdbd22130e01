"""Applying: the baseline in use to what a pipeline judges by.

In: the shelf of a board, the bundle that judges an asset, who answers. Out: an `InUse`, or why
there is none in one line. Never: applies one to another bundle or another board, reads slots whose
size or hash is not what the calibration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from edge_agent.bundles.bundle import LIMIT_BYTES
from edge_agent.bundles.manifest import MEMORY_NAME, SCALE_NAME, Manifest
from edge_agent.calibrate.baseline.document import Baseline, SlotsFile, baselines_of
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import ShelfError
from edge_agent.files import write_atomically

SLOTS_SUFFIX = ".slots"
MOST_SLOTS_BYTES = LIMIT_BYTES[MEMORY_NAME] + LIMIT_BYTES[SCALE_NAME]


class InUse(NamedTuple):
    """`name` is its id; `members` replace those of the bundle, if its memory has slots of its own;
    `manifest` is the bundle's with its levels."""

    name: str
    manifest: Manifest
    members: Mapping[str, bytes]


def in_use(
    shelf: Shelf, asset: str, manifest: Manifest, bundle_sha256: str, uid: str | None
) -> InUse | None:
    """What an asset is judged by, None if by its bundle alone. `uid`: the board that answers, if
    one has. Raises `ShelfError` for one that is there and can't be applied."""
    stored = shelf.current("baseline")
    baseline = baselines_of(stored).get(asset) if stored else None
    if stored is None or baseline is None:
        return None
    refusal = baseline.refusal(stored.id, bundle_sha256, uid)
    if refusal:
        raise ShelfError(refusal)
    members = read_slots_file(shelf, baseline.slots) if baseline.slots else {}
    return InUse(stored.id, baseline.applied(manifest), members)


def others_of(shelf: Shelf, asset: str, uid: str) -> dict[str, Baseline]:
    """The baselines of the other assets of this board that are in use: a new one takes them
    along. One that can't be read is left behind."""
    try:
        stored = shelf.current("baseline")
        found = baselines_of(stored) if stored else {}
    except ShelfError:
        return {}
    return {name: each for name, each in found.items() if name != asset and each.uid == uid}


def slots_told(members: Mapping[str, bytes]) -> tuple[SlotsFile, bytes]:
    """What the calibration says of its slots, and the content of their file."""
    content = members[MEMORY_NAME] + members[SCALE_NAME]
    told = SlotsFile(
        sha256=sha256(content).hexdigest(), bytes=len(content), memory=len(members[MEMORY_NAME])
    )
    return told, content


def write_slots_file(shelf: Shelf, told: SlotsFile, content: bytes) -> None:
    """Before the calibration that names it. Raises `OSError`."""
    shelf.check_writable()
    write_atomically(_place(shelf, told), content)


def read_slots_file(shelf: Shelf, told: SlotsFile) -> dict[str, bytes]:
    """The members `memory.npy` and `memory_scale.npy`; whoever makes a memory of them checks them
    again. Raises `ShelfError`."""
    place = _place(shelf, told)
    if not told.memory < told.bytes <= MOST_SLOTS_BYTES:
        raise ShelfError(f"{place.name}: {told.bytes} bytes of slots can't be; calibrate again")
    try:
        with place.open("rb") as file:
            content = file.read(told.bytes + 1)
    except OSError as error:
        raise ShelfError(f"{place}: {error.strerror or error}; calibrate again") from None
    if len(content) != told.bytes or sha256(content).hexdigest() != told.sha256:
        raise ShelfError(f"{place.name} is not the file that was stored; calibrate again")
    return {MEMORY_NAME: content[: told.memory], SCALE_NAME: content[told.memory :]}


def drop_unused_slots(shelf: Shelf) -> None:
    """Files of slots that no calibration of the shelf names."""
    named = set()
    for stored in shelf.all("baseline"):
        try:
            found = baselines_of(stored).values()
        except ShelfError:
            continue
        named |= {_place(shelf, each.slots) for each in found if each.slots}
    for place in shelf.folder.glob(f"*{SLOTS_SUFFIX}"):
        if place not in named:
            place.unlink(missing_ok=True)


def _place(shelf: Shelf, told: SlotsFile) -> Path:
    return shelf.folder / f"baseline-{told.sha256[:16]}{SLOTS_SUFFIX}"
