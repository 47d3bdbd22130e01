"""Variations of a bundle: the same model with another manifest."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from edge_agent.bundles.bundle import MANIFEST_NAME, read_bundle


def changed(bundle: Path, path: Path, **fields: Any) -> Path:
    """The same bundle with other fields in its manifest, written to `path`."""
    read = read_bundle(bundle)
    document = read.manifest.model_copy(update=fields).model_dump_json().encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(MANIFEST_NAME, document)
        for name, content in read.files.items():
            archive.writestr(name, content)
    return path
