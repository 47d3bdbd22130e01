"""Shelf: the bundles that were installed on this gateway, and which of them judges.

In: the state folder, an asset's name. Out: the bundle that judges, the kept ones, another choice.
Never: lets a bundle judge that was not verified when it is read, leaves half a choice on the disk:
the pointer is replaced in one step, and names a file that is whole by then.

    <state>/bundles/<asset>/<serial>-<sha8>.otolith    at most `KEPT` of them
    <state>/bundles/<asset>/current.json               which one judges, by its whole hash

An installed bundle comes before the one that the configuration names. A lower serial than was seen
is refused for every file, but for the one that the pointer says was rolled back to on purpose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError, model_validator

from edge_agent.bundles.bundle import Bundle, BundleError, read_bundle
from edge_agent.bundles.frozen import Frozen
from edge_agent.bundles.manifest import Manifest, Sha256
from edge_agent.config import Config
from edge_agent.files import sync_folder, write_atomically

FOLDER, POINTER_NAME = "bundles", "current.json"
SERIALS_NAME = "bundle_serials.json"
SUFFIX = ".otolith"
KEPT = 3
MAX_POINTER_BYTES = 4096

FileName: TypeAlias = Annotated[str, Field(pattern=r"^\d{1,16}-[0-9a-f]{8}\.otolith$")]
Serial: TypeAlias = Annotated[int, Field(ge=1, lt=1 << 53)]


class Pointer(Frozen):
    """`current.json`. `kept` are the files on the shelf, the newest first; `current` is one of
    them. `accepted_serial` is its serial, which may be lower than `highest_serial`, the highest
    that ever was installed: then somebody has rolled back."""

    schema_version: Literal[1] = 1
    current: FileName
    sha256: Sha256
    accepted_serial: Serial
    highest_serial: Serial
    kept: tuple[FileName, ...] = Field(min_length=1, max_length=KEPT)
    switched: str = Field(max_length=40)

    @model_validator(mode="after")
    def _current_is_kept(self) -> Pointer:
        if self.current not in self.kept:
            raise ValueError("current must be one of kept")
        return self


def folder_of(state_dir: Path, asset: str) -> Path:
    """Where an asset's bundles lie."""
    return state_dir / FOLDER / asset


def pointer_of(state_dir: Path, asset: str) -> Pointer | None:
    """What was chosen, None if nothing ever was installed. Raises `BundleError` for a pointer that
    makes no sense, `OSError` for one that can't be read."""
    file = folder_of(state_dir, asset) / POINTER_NAME
    try:
        with file.open("rb") as stream:
            return Pointer.model_validate_json(stream.read(MAX_POINTER_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        raise BundleError(
            f"{file} is damaged: install the bundle again (edge-agent bundle install)"
        ) from None


def readable_pointer(state_dir: Path, asset: str) -> Pointer | None:
    """As `pointer_of`, but one that makes no sense is none: installing again is its cure."""
    with suppress(BundleError):
        return pointer_of(state_dir, asset)
    return None


def bundle_of(
    state_dir: Path,
    asset: str,
    configured: Path,
    keys: tuple[str, ...] = (),
    lowest_serial: int = 1,
) -> Bundle:
    """The bundle that judges an asset: the installed one, else the configured one.

    Raises `BundleError` if it is refused, `OSError` if it can't be read.
    """
    pointer = pointer_of(state_dir, asset)
    if pointer is None:
        return read_bundle(configured, keys, lowest_serial)
    bundle = read_bundle(folder_of(state_dir, asset) / pointer.current, keys)
    if bundle.sha256 != pointer.sha256:
        raise BundleError(
            f"{pointer.current} of {asset} is not the file that was installed: install it again"
        )
    return bundle


def judging_bundle(config: Config, asset: str) -> Bundle:
    """As `bundle_of`, by the configuration and the serials that were seen."""
    configured, state_dir = config.assets[asset].bundle, config.storage.state_dir
    lowest_serial = read_serials(state_dir).get(asset, 1)
    return bundle_of(state_dir, asset, configured, config.trusted_keys, lowest_serial)


def installed_note(config: Config, asset: str, manifest: Manifest) -> str:
    """What whoever reads the configuration must know; empty if it is as it says there."""
    pointer = pointer_of(config.storage.state_dir, asset)
    if pointer is None:
        return ""
    place = folder_of(config.storage.state_dir, asset) / pointer.current
    return f"{place} ({manifest.name}, serial {manifest.serial}) was installed and judges instead"


def put(state_dir: Path, asset: str, content: bytes, bundle: Bundle) -> Pointer:
    """Puts a verified bundle on the shelf and chooses it; the oldest ones are not kept any more.
    Raises `OSError`: then the one before is still chosen."""
    folder, before = folder_of(state_dir, asset), readable_pointer(state_dir, asset)
    for each in (state_dir, folder.parent, folder):
        if not each.is_dir():
            each.mkdir(parents=each == state_dir)
            sync_folder(each.parent)
    serial = bundle.manifest.serial
    name = f"{serial}-{bundle.sha256[:8]}{SUFFIX}"
    # What was rolled back from is not what a later rollback should lead to: it goes.
    older = before.kept[before.kept.index(before.current) :] if before else ()
    kept = (name, *(each for each in older if each != name))[:KEPT]
    _write(folder / name, content)
    pointer = Pointer(
        current=name, sha256=bundle.sha256, accepted_serial=serial,
        highest_serial=max(serial, before.highest_serial if before else 1),
        kept=kept, switched=_now(),
    )  # fmt: skip
    _choose(folder, pointer)
    return pointer


@contextmanager
def unless_refused(state_dir: Path, asset: str) -> Iterator[None]:
    """What is chosen herein stays chosen, unless it ends with a `ValueError`: then the choice is
    what it was. Files that are not kept go at the end."""
    folder = folder_of(state_dir, asset)
    file = folder / POINTER_NAME
    before = file.read_bytes() if file.is_file() else None
    try:
        yield
    except ValueError:
        if before is not None:
            _write(file, before)
        elif file.is_file():
            file.unlink()
            sync_folder(folder)
        raise
    finally:
        _sweep(state_dir, asset)


def before_current(pointer: Pointer) -> str:
    """The kept file that judged before. Raises `BundleError` if there is none."""
    older = pointer.kept[pointer.kept.index(pointer.current) + 1 :]
    if not older:
        raise BundleError(f"there is no bundle before {pointer.current}: install one instead")
    return older[0]


def take_back(state_dir: Path, asset: str, pointer: Pointer, name: str, bundle: Bundle) -> Pointer:
    """Lets a kept bundle judge again, its lower serial accepted for this very file only."""
    changed = pointer.model_copy(
        update={
            "current": name, "sha256": bundle.sha256,
            "accepted_serial": bundle.manifest.serial, "switched": _now(),
        }
    )  # fmt: skip
    _choose(folder_of(state_dir, asset), changed)
    return changed


def read_serials(state_dir: Path) -> Mapping[str, int]:
    """The highest serial that each asset has run; a file that makes no sense means none."""
    with suppress(OSError, ValueError):
        serials = json.loads((state_dir / SERIALS_NAME).read_bytes())
        if isinstance(serials, dict):
            return {name: value for name, value in serials.items() if type(value) is int}
    return {}


def _sweep(state_dir: Path, asset: str) -> None:
    """What no pointer names; of one that can't be read nobody knows what it names."""
    with suppress(BundleError):
        pointer = pointer_of(state_dir, asset)
        for file in folder_of(state_dir, asset).glob(f"*{SUFFIX}*"):
            if pointer is None or file.name not in pointer.kept:
                file.unlink(missing_ok=True)


def _choose(folder: Path, pointer: Pointer) -> None:
    _write(folder / POINTER_NAME, pointer.model_dump_json(indent=1).encode())


def _write(file: Path, content: bytes) -> None:
    """As `write_atomically`; a draft that did not fit on the disk takes no room from it."""
    try:
        write_atomically(file, content)
    except OSError:
        with suppress(OSError):
            os.unlink(file.with_name(file.name + ".new"))
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
