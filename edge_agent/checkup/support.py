"""Support: everything that whoever helps will ask for, in one file without secrets.

In: the configuration, what the doctor has found. Out: a .tar.gz, a .zip, or one .json. Never: more
than `MAX_BYTES` unpacked (what did not fit is said), a text that `masking.py` has not seen, a file
that is there already.
"""

from __future__ import annotations

import errno
import io
import json
import os
import platform
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from edge_agent.bundles.bundle import BundleError
from edge_agent.bundles.shelf import judging_bundle
from edge_agent.checkup.findings import Finding
from edge_agent.checkup.masking import Mask, mask_of
from edge_agent.config import Config, Loaded
from edge_agent.config.effective import rows, toml_lines
from edge_agent.door import ask
from edge_agent.health import software_version

MAX_BYTES = 5_000_000
MAX_TEXT_CHARACTERS = 1_000_000
MAX_FILES_LISTED = 2_000
LEFT_OUT_BYTES = 50_000
JOURNAL_LINES = 500
ASK_SECONDS = 3.0
RUN_SECONDS = 10.0
FOLDER = "otolith-support"
JOURNAL = ("journalctl", "-u", "edge-agent", "-n", str(JOURNAL_LINES), "-o", "short-iso",
           "--no-pager", "--quiet")  # fmt: skip


def look_first(path: Path) -> None:
    """Raises the `OSError` that writing there would end with, before the boards are asked."""
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))


def support_file(
    path: Path, loaded: Loaded | None, findings: list[Finding], facts: dict[str, Any]
) -> None:
    """Writes it; the name's end says in which form. Raises `OSError`, and `FileExistsError` if
    there is such a file."""
    config = loaded.config if loaded else None
    mask = mask_of(config, loaded.origins.file.resolve().parent if loaded else None)
    content = _content(config, findings, facts, mask)
    if path.suffix == ".json":
        packed = _masked(content, mask).encode()
    else:
        packed = _packed(path, dict(_fitting(content, loaded, mask)))
    with path.open("xb") as file:
        file.write(packed)


def _content(
    config: Config | None, findings: list[Finding], facts: dict[str, Any], mask: Mask
) -> dict[str, Any]:
    machine = platform.uname()
    return {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": software_version(),
        "python": platform.python_version(),
        "system": f"{machine.system} {machine.release} {machine.machine}",
        "load": os.getloadavg(),
        "secrets_not_read": mask.unread,
        "findings": [finding._asdict() for finding in findings],
        "facts": facts,
        "config": config and config.model_dump(mode="json"),
        "status": config and _status(config),
    }


def _status(config: Config) -> Any:
    """Of a service that runs, or why there is none."""
    try:
        return ask(config.storage.state_dir, {"do": "status"}, ASK_SECONDS).get("status")
    except (OSError, ValueError) as error:
        return {"problem": str(error)}


def _fitting(
    content: dict[str, Any], loaded: Loaded | None, mask: Mask
) -> Iterator[tuple[str, bytes]]:
    """Names and masked contents, as many as there is room for."""
    room, left_out = MAX_BYTES - LEFT_OUT_BYTES, []
    for name, said in _said(content, loaded):
        if isinstance(said, str) and len(said) > MAX_TEXT_CHARACTERS:
            # Its end is what happened last; a line is whole, or a part of a secret might stay.
            last = said[-MAX_TEXT_CHARACTERS:].partition("\n")[2]
            left_out.append(f"{name}: its first {len(said) - len(last)} characters")
            said = last
        masked = _masked(said, mask).encode("utf-8", "replace")
        if len(masked) > room:
            left_out.append(name)
            continue
        room -= len(masked)
        yield name, masked
    if left_out:
        yield "left_out.txt", "\n".join(left_out).encode()[:LEFT_OUT_BYTES]


def _masked(said: Any, mask: Mask) -> str:
    """A text, or a value as JSON; that is masked before it becomes a text, and so stays JSON."""
    return (
        mask.text(said) if isinstance(said, str) else json.dumps(mask.value(said), indent=1) + "\n"
    )


def _said(content: dict[str, Any], loaded: Loaded | None) -> Iterator[tuple[str, Any]]:
    """Every text and value, what matters most first."""
    parts = ("findings", "facts", "config", "status")
    about = {key: value for key, value in content.items() if key not in parts}
    yield "about.json", about
    for part in parts:
        yield f"{part}.json", content[part]
    if loaded:
        yield "config.toml", "\n".join(toml_lines(rows(loaded)))
    yield "journal.txt", _said_by(*JOURNAL)
    yield "packages.txt", "\n".join(sorted({f"{d.name}=={d.version}" for d in distributions()}))
    yield "disk.txt", _said_by("df", "-h") + _said_by("df", "-i")
    yield "meminfo.txt", _read(Path("/proc/meminfo"))
    if loaded:
        yield "state_files.txt", "\n".join(_listed(loaded.config.storage.state_dir))
        for name in loaded.config.assets:
            yield f"bundles/{name}.json", _manifest(loaded.config, name)


def _manifest(config: Config, asset: str) -> Any:
    """Of the bundle that judges it, or why none does."""
    try:
        return judging_bundle(config, asset).manifest.model_dump(mode="json")
    except (BundleError, ValueError, OSError) as error:
        return {"problem": str(error)}


def _listed(folder: Path) -> Iterator[str]:
    """What lies there: size, when it was last written, name."""
    count = 0
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            file = Path(parent, name)
            with suppress(OSError):
                status = file.lstat()
                when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.st_mtime))
                yield f"{status.st_size:>12} {when} {file.relative_to(folder)}"
            count += 1
            if count == MAX_FILES_LISTED:
                yield "... and more"
                return


def _said_by(*command: str) -> str:
    """What a program of the system says, or why it doesn't."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=RUN_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}\n"
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{file}: {error.strerror or error}"


def _packed(path: Path, files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    if path.suffix == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"{FOLDER}/{name}", content)
        return packed.getvalue()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mtime = len(content), int(time.time())
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
