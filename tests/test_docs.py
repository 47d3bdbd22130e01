"""Documentation is an assertion: every command in it runs, and every command is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FIRMWARE = "firmware_bridge/firmware"
DOCUMENTS = (
    "README.md", "SECURITY.md", "edge_agent/DESIGN.md", "firmware_bridge/PROTOCOL.md",
    "converter/BUNDLE.md", "converter/MODELS.md", "systemd/examples/INTEGRATIONS.md",
    f"{FIRMWARE}/README.md", f"{FIRMWARE}/WIRING.md", f"{FIRMWARE}/FLASHING.md",
)  # fmt: skip
# These two set up everything and run this very file; the demo has a test of its own.
WHOLE_SET_UPS = ("make demo", "make test")


def commands(document: str) -> list[str]:
    """The lines of every ```sh block, continuation lines joined."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_the_documents_runs(document: str) -> None:
    (ROOT / "build").mkdir(exist_ok=True)
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "COLUMNS": "100"}
    for command in commands(document):
        if command.startswith(WHOLE_SET_UPS):
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["edge_agent", "firmware_bridge", "converter"])
def test_every_command_is_in_the_readme(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    names = re.findall(r"^    ([a-z-]+)  ", done.stdout, re.MULTILINE)
    assert names, done.stdout
    readme = (ROOT / "README.md").read_text()
    assert [n for n in names if f"`{n}`" not in readme and f" {n}`" not in readme] == []


def test_links_between_the_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text()):
            beside = (ROOT / document).parent.joinpath(target)
            assert target.startswith("https://") or beside.exists(), f"{document}: {target}"
