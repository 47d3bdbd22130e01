"""The fuzzers' corpus: whatever once reached new code runs at every test, without a fuzzer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from firmware_bridge.link import Link, State
from tests.conftest import ROOT
from tests.firmware import make
from tests.fuzz.decoder import check

CORPUS = ROOT / "tests" / "fuzz" / "corpus"
MAX_CORPUS_BYTES = 300_000


def inputs(name: str) -> list[Path]:
    files = sorted((CORPUS / name).iterdir())
    assert len(files) > 50
    return files


@pytest.mark.parametrize("name", ["node", "decoder"])
def test_the_corpus_is_small(name: str) -> None:
    assert sum(file.stat().st_size for file in inputs(name)) < MAX_CORPUS_BYTES


def test_the_firmware_stands_its_corpus() -> None:
    make("replay")
    program = ROOT / "build" / "firmware" / "fuzz_replay"
    done = subprocess.run(
        [program, *inputs("node")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-200:]}\n{done.stderr}"
    assert len(done.stdout.splitlines()) == len(inputs("node"))


def test_the_host_stands_its_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[State] = set()
    enter = Link._enter

    def noted(link: Link, state: State, reason: str):
        reached.add(state)
        return enter(link, state, reason)

    monkeypatch.setattr(Link, "_enter", noted)
    for file in inputs("decoder"):
        check(file.read_bytes())
    # A corpus that never got past the first state would prove nothing.
    assert reached >= {State.IDENTIFYING, State.SYNCING, State.STREAMING, State.STALE}
