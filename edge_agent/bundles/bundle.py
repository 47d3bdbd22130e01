"""Bundle: the one file that a gateway trusts (BUNDLE.md), read and verified.

In: a path, the public keys of this gateway, the lowest serial that may still come. Out: a `Bundle`,
or one `BundleError` in one line that says what to do. Never: unpacks to disk, trusts a size or a
name inside the archive, runs the model.
"""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from edge_agent.bundles.manifest import (
    DECODER_MODEL,
    DECODER_NAME,
    MAX_MEMORY_NUMBERS,
    MAX_SLOTS,
    MEMORY_NAME,
    MODEL_NAME,
    SCALE_NAME,
    Manifest,
)
from edge_agent.bundles.signature import is_signed_by

MANIFEST_NAME = "bundle.json"
SIGNATURE_NAME = "signature"
# Of a `.npy` member.
HEADER_BYTES = 4096
# The members in the order in which they lie in the file.
LIMIT_BYTES = {
    MANIFEST_NAME: 1 << 20,
    MODEL_NAME: 16 << 20,
    DECODER_MODEL: 16 << 20,
    MEMORY_NAME: MAX_MEMORY_NUMBERS + HEADER_BYTES,
    SCALE_NAME: 4 * MAX_SLOTS + HEADER_BYTES,
    DECODER_NAME: 1 << 20,
    SIGNATURE_NAME: 4096,
}
MAX_BUNDLE_BYTES = 52 << 20
# A zip's list of members ends the file. Ours is under 1 kB: one of millions would fill the memory
# before any of them could be refused.
END_RECORD, END_BYTES, ZIP64_LOCATOR, LOCATOR_BYTES = b"PK\5\6", 22, b"PK\6\7", 20
MAX_DIRECTORY_BYTES = 8192
MAX_TOLD_CHARACTERS, MAX_NAMES_TOLD, MAX_NAME_TOLD = 300, 8, 64


class BundleError(ValueError):
    """The bundle is refused; the text says why and what to do."""


class Bundle(NamedTuple):
    """A verified bundle; `files` are the members that the manifest lists, `sha256` is that of the
    file itself."""

    manifest: Manifest
    files: dict[str, bytes]
    sha256: str
    signed: bool

    @property
    def model(self) -> bytes:
        """`model.tflite`."""
        return self.files[MODEL_NAME]


def read_bundle(path: Path, keys: tuple[str, ...] = (), lowest_serial: int = 1) -> Bundle:
    """Reads and verifies. With `keys`, a signature by one of them is required.

    Raises `BundleError` for everything that is wrong with the bundle, `OSError` for the file.
    """
    return verified(path.name, bundle_bytes(path), keys, lowest_serial)


def bundle_bytes(path: Path) -> bytes:
    """The file as it is. Raises `BundleError` for what is no file or too large, `OSError`."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path.name} is no file: expected NAME.otolith")
    if status.st_size > MAX_BUNDLE_BYTES:
        raise BundleError(
            f"{path.name}: {status.st_size} bytes, a bundle has at most {MAX_BUNDLE_BYTES}"
        )
    with path.open("rb") as file:
        return file.read(MAX_BUNDLE_BYTES)


def verified(
    name: str, content: bytes, keys: tuple[str, ...] = (), lowest_serial: int = 1
) -> Bundle:
    """The bundle in these bytes; `name` begins what is said of it. Raises `BundleError`."""
    members = _members(name, content)
    document = members.pop(MANIFEST_NAME)
    signature = members.pop(SIGNATURE_NAME, None)
    if keys and (signature is None or not is_signed_by(keys, document, signature)):
        what = "is not signed" if signature is None else "is signed with another key"
        raise BundleError(f"{name} {what}: sign it with this gateway's key, or add its key")
    manifest = _manifest(name, document)
    _check_files(name, manifest, members)
    if manifest.serial < lowest_serial:
        raise BundleError(
            f"{name} has serial {manifest.serial}, this gateway has seen {lowest_serial}: "
            "build with a higher serial, or roll back on purpose"
        )
    return Bundle(manifest, members, hashlib.sha256(content).hexdigest(), signature is not None)


def _members(name: str, content: bytes) -> dict[str, bytes]:
    """The members by name, sizes checked before a byte is unpacked."""
    _check_end(name, content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            _check_list(name, infos)
            return {info.filename: archive.read(info) for info in infos}
    except BundleError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        why = _told(str(error)) or "it ends too soon"
        raise BundleError(f"{name} is no bundle or is damaged: {why}") from None


def _check_end(name: str, content: bytes) -> None:
    """The list of members is short and where ours is: at the end, and nothing behind it."""
    end, locator = content[-END_BYTES:], content[-END_BYTES - LOCATOR_BYTES : -END_BYTES]
    if not end.startswith(END_RECORD) or end[-2:] != b"\0\0" or locator.startswith(ZIP64_LOCATOR):
        raise BundleError(f"{name} is no bundle or is damaged: its end is missing; copy it again")
    directory_bytes = int.from_bytes(end[12:16], "little")
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise BundleError(f"{name}: a list of members of {directory_bytes} bytes: not ours")


def _check_list(name: str, infos: list[zipfile.ZipInfo]) -> None:
    """Every member is one of ours, once, stored, and within its limit."""
    # A name is cut at a NUL: what was written there is in `orig_filename`.
    names = [info.orig_filename for info in infos]
    unknown = sorted(set(names) - set(LIMIT_BYTES))
    if unknown or len(set(names)) < len(names):
        told = [each[:MAX_NAME_TOLD] for each in (unknown or names)[:MAX_NAMES_TOLD]]
        raise BundleError(f"{name}: unexpected member {told}: not ours")
    for info in infos:
        limit = LIMIT_BYTES[info.filename]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise BundleError(f"{name}: {info.filename} is compressed or over {limit} bytes")
        if info.compress_size != info.file_size:
            raise BundleError(f"{name}: {info.filename} has two sizes: copy it again")
    missing = {MANIFEST_NAME, MODEL_NAME} - set(names)
    if missing:
        raise BundleError(f"{name} lacks {', '.join(sorted(missing))}: not a bundle")


def _check_files(name: str, manifest: Manifest, members: dict[str, bytes]) -> None:
    """The members are those of the manifest, byte for byte."""
    missing = sorted(set(manifest.files) - set(members))
    if missing:
        raise BundleError(f"{name} lacks {', '.join(missing)}: copy it again")
    unknown = sorted(set(members) - set(manifest.files))
    if unknown:
        raise BundleError(f"{name}: unexpected member {unknown}: not ours")
    for member, entry in manifest.files.items():
        content = members[member]
        if len(content) != entry.bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise BundleError(f"{name}: {member} is not the file it was: copy it again")


def _manifest(name: str, document: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        told = _told(f"{where}: {first['msg']}")
        raise BundleError(
            f"{name}: {MANIFEST_NAME}: {told}{more}: build the bundle "
            "anew with this version's converter"
        ) from None


def _told(text: str) -> str:
    """What quotes the file has whatever somebody has written there, and as much as they liked."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_TOLD_CHARACTERS])
