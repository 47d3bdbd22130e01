"""The fuzzers' corpus: whatever once reached new code runs at every test, without a fuzzer."""

from __future__ import annotations

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from firmware_bridge.link import Link, State
from tests.conftest import ROOT
from tests.firmware import make
from tests.fuzz.decoder import check

FUZZ = ROOT / "tests" / "fuzz"
MAX_CORPUS_BYTES = 300_000


@pytest.mark.parametrize("name", ["node", "decoder"])
def test_the_corpus_is_small(name: str) -> None:
    assert (FUZZ / f"{name}.zip").stat().st_size < MAX_CORPUS_BYTES


def test_the_firmware_stands_its_corpus(tmp_path: Path) -> None:
    make("replay")
    with ZipFile(FUZZ / "node.zip") as corpus:
        names = corpus.namelist()
        corpus.extractall(tmp_path)
    done = subprocess.run(
        [ROOT / "build" / "firmware" / "fuzz_replay", *names],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-200:]}\n{done.stderr}"
    assert done.stdout.split() == names
    assert len(names) > 200


def test_the_host_stands_its_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[State] = set()
    enter = Link._enter

    def noted(link: Link, state: State, reason: str):
        reached.add(state)
        return enter(link, state, reason)

    monkeypatch.setattr(Link, "_enter", noted)
    with ZipFile(FUZZ / "decoder.zip") as corpus:
        for name in corpus.namelist():
            check(corpus.read(name))
    # A corpus that never got past the first state would prove nothing.
    assert reached >= {State.IDENTIFYING, State.SYNCING, State.STREAMING, State.STALE}
