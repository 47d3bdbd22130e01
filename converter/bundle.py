"""Bundle: the one file for the gateway (BUNDLE.md), written byte for byte the same every time.

In: a manifest, the members it lists, maybe a private key. Out: the file, read back by the
gateway's own reader. Never: a clock, a random number, a compressed member in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from converter.errors import ConverterError
from converter.files import write_file
from edge_agent.bundles.bundle import (
    LIMIT_BYTES,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    Bundle,
    BundleError,
    read_bundle,
)
from edge_agent.bundles.manifest import FileEntry, Manifest
from edge_agent.bundles.signature import sign

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
FILE_MODE = 0o644 << 16


def file_entry(content: bytes) -> FileEntry:
    """Hash and size of a member."""
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def next_serial(path: Path) -> int:
    """One more than that of the bundle at the path; 1 if there is none."""
    if not path.exists():
        return 1
    try:
        return read_bundle(path).manifest.serial + 1
    except BundleError as error:
        raise ConverterError(f"{error}; or give --serial to replace it") from None


def bundle_bytes(
    manifest: Manifest, files: Mapping[str, bytes], private_key: str | None = None
) -> bytes:
    """The archive: members in fixed order, stored, dated 1980-01-01."""
    document = json.dumps(
        manifest.model_dump(mode="json"),
        sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False,
    ).encode()  # fmt: skip
    members = [(MANIFEST_NAME, document)]
    members += [(name, files[name]) for name in LIMIT_BYTES if name in files]
    if private_key is not None:
        try:
            members.append((SIGNATURE_NAME, sign(private_key, document)))
        except ValueError as error:
            raise ConverterError(f"--sign: {error}") from None
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, ZIP_DATE)
            info.create_system = 3  # Unix, whatever the workstation is
            info.external_attr = FILE_MODE
            archive.writestr(info, content)
    return target.getvalue()


def write_bundle(
    path: Path, manifest: Manifest, files: Mapping[str, bytes], private_key: str | None = None
) -> Bundle:
    """Writes and reads back. Raises `ConverterError` if a gateway would refuse it."""
    write_file(path, bundle_bytes(manifest, files, private_key))
    try:
        return read_bundle(path)
    except BundleError as error:
        raise ConverterError(f"a gateway would refuse what was written: {error}") from None
