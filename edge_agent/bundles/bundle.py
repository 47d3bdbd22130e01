"""Bundle: the one file that a gateway trusts (BUNDLE.md), read and verified.

In: a path, the public keys of this gateway, the lowest serial that may still come. Out: a `Bundle`,
or one `BundleError` in one line that says what to do. Never: unpacks to disk, trusts a size or a
name inside the archive, runs the model.
"""

from __future__ import annotations

import hashlib
import io
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
    size = path.stat().st_size
    if size > MAX_BUNDLE_BYTES:
        raise BundleError(f"{path.name}: {size} bytes, a bundle has at most {MAX_BUNDLE_BYTES}")
    content = path.read_bytes()
    members = _members(path, content)
    document = members.pop(MANIFEST_NAME)
    signature = members.pop(SIGNATURE_NAME, None)
    if keys and (signature is None or not is_signed_by(keys, document, signature)):
        what = "is not signed" if signature is None else "is signed with another key"
        raise BundleError(f"{path.name} {what}: sign it with this gateway's key, or add its key")
    manifest = _manifest(path, document)
    _check_files(path, manifest, members)
    if manifest.serial < lowest_serial:
        raise BundleError(
            f"{path.name} has serial {manifest.serial}, this gateway has seen {lowest_serial}: "
            "build with a higher serial, or roll back on purpose"
        )
    return Bundle(manifest, members, hashlib.sha256(content).hexdigest(), signature is not None)


def _members(path: Path, content: bytes) -> dict[str, bytes]:
    """The members by name, sizes checked before a byte is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            unknown = sorted(set(names) - set(LIMIT_BYTES))
            if unknown or len(set(names)) < len(names):
                raise BundleError(f"{path.name}: unexpected member {unknown or names}: not ours")
            for info in infos:
                limit = LIMIT_BYTES[info.filename]
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
                    raise BundleError(
                        f"{path.name}: {info.filename} is compressed or over {limit} bytes"
                    )
            missing = {MANIFEST_NAME, MODEL_NAME} - set(names)
            if missing:
                raise BundleError(f"{path.name} lacks {', '.join(sorted(missing))}: not a bundle")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise BundleError(f"{path.name} is no bundle or is damaged: {error}") from None


def _check_files(path: Path, manifest: Manifest, members: dict[str, bytes]) -> None:
    """The members are those of the manifest, byte for byte."""
    missing = sorted(set(manifest.files) - set(members))
    if missing:
        raise BundleError(f"{path.name} lacks {', '.join(missing)}: copy it again")
    unknown = sorted(set(members) - set(manifest.files))
    if unknown:
        raise BundleError(f"{path.name}: unexpected member {unknown}: not ours")
    for name, entry in manifest.files.items():
        content = members[name]
        if len(content) != entry.bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise BundleError(f"{path.name}: {name} is not the file it was: copy it again")


def _manifest(path: Path, document: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BundleError(
            f"{path.name}: {MANIFEST_NAME}: {where}: {first['msg']}{more}: build the bundle anew "
            "with this version's converter"
        ) from None
