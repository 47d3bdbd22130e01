"""SBOM: what is inside a release, as CycloneDX 1.6, from the wheels themselves.

In: wheel files. Out: a JSON document: each wheel with its name, version, purl, SHA-256 and licence,
our own as the root. Never: a random number or the clock: the same wheels are the same document.
"""

from __future__ import annotations

import hashlib
import uuid
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT_NAME = "otolith"
# Some put the whole text of their licence there.
MAX_LICENCE_LETTERS = 60
LICENCE_CLASSIFIER = "License ::"


def sbom(wheels: Sequence[Path], epoch: int) -> dict[str, Any]:
    """The document. Raises `ValueError` for a file that is no wheel."""
    components = [_component(wheel) for wheel in sorted(wheels, key=lambda wheel: wheel.name)]
    (root,) = (each for each in components if each["name"] == ROOT_NAME)
    others = [each for each in components if each is not root]
    hashes = "".join(each["hashes"][0]["content"] for each in components)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, hashes)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z"),
            "component": {**root, "type": "application"},
        },
        "components": others,
        "dependencies": [
            {"ref": root["bom-ref"], "dependsOn": [each["bom-ref"] for each in others]}
        ],
    }


def _component(wheel: Path) -> dict[str, Any]:
    about = _metadata(wheel)
    name, version = str(about["Name"]), str(about["Version"])
    # The same version has a wheel for each Python, so the file's name tells them apart.
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}"
    return {
        "type": "library",
        "bom-ref": wheel.name,
        "name": name,
        "version": version,
        "purl": f"{purl}?file_name={quote(wheel.name)}",
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
        "licenses": [_licence(about)],
    }


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        if len(names) != 1:
            raise ValueError(f"{wheel.name}: {len(names)} METADATA files, a wheel has one")
        return Parser().parsestr(archive.read(names[0]).decode(), headersonly=True)


def _licence(about: Message) -> dict[str, Any]:
    if expression := about["License-Expression"]:
        return {"expression": str(expression)}
    text = str(about["License"] or "")
    classifiers = [c for c in about.get_all("Classifier", []) if c.startswith(LICENCE_CLASSIFIER)]
    if not text or len(text) > MAX_LICENCE_LETTERS:
        text = classifiers[0].rpartition(" :: ")[2] if classifiers else "not stated"
    return {"license": {"name": text}}
