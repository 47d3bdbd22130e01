"""The self-test: it says yes to what was shipped, and no to whatever is not as it was."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import selftest
from edge_agent.bundles.bundle import read_bundle
from edge_agent.bundles.interpreter import HAS_XNNPACK, Network
from edge_agent.selftest import (
    BUNDLES,
    GOLDEN_NAME,
    MACHINES,
    TOLERANCE,
    Check,
    checks,
    golden,
    scores,
    seeded,
)
from tests.bundles import changed
from tests.programs import run


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A copy of the bundles and their scores, to be spoilt."""
    return Path(shutil.copytree(BUNDLES, tmp_path / "bundles"))


def spoil(folder: Path, machine: str, **fields: Any) -> None:
    """Other golden values for one machine."""
    document = json.loads((folder / GOLDEN_NAME).read_text())
    document[machine] |= fields
    (folder / GOLDEN_NAME).write_text(json.dumps(document))


def wrong(folder: Path, state: Path | None = None) -> list[Check]:
    """The checks that say no."""
    return [check for check in checks(folder, state) if not check.ok]


def test_the_command_says_yes_and_what_it_ran_on(tmp_path: Path) -> None:
    *found, summary = run("edge_agent", "selftest", "--json", "--state", tmp_path)
    assert [each["what"] for each in found] == [
        "vibration kernels", "vibration scores", "compass kernels", "compass scores", "storage",
    ]  # fmt: skip
    assert summary["ok"]
    assert summary["wrong"] == 0
    assert {"otolith", "Python", "numpy", "machine"} < set(summary["versions"])
    assert list(tmp_path.iterdir()) == []


def test_the_golden_scores_are_of_the_bundles_that_are_shipped(tmp_path: Path) -> None:
    """Fails when the bundles were built anew without them: `make default-bundles` does both."""
    kept = json.loads((BUNDLES / GOLDEN_NAME).read_text())
    assert set(kept) == set(MACHINES)
    for name, expected in kept.items():
        assert expected["bundle_sha256"] == read_bundle(BUNDLES / f"{name}.otolith").sha256
    run("edge_agent", "selftest", "--write", tmp_path / "golden.json")
    again = json.loads((tmp_path / "golden.json").read_text())
    for name, expected in kept.items():
        np.testing.assert_allclose(again[name]["scores"], expected["scores"], rtol=TOLERANCE)


def test_the_recordings_show_a_fault() -> None:
    """Scores of a machine that is well alone would not show what a broken model does to others."""
    for name, values in golden(BUNDLES).items():
        assert max(values["scores"]) > 3 * min(values["scores"]), name


@pytest.mark.parametrize("machine", MACHINES)
def test_one_score_that_is_too_far_off_is_enough(shipped: Path, machine: str) -> None:
    values = json.loads((shipped / GOLDEN_NAME).read_text())[machine]["scores"]
    spoil(shipped, machine, scores=[*values[:-1], values[-1] * (1 + TOLERANCE / 2)])
    assert wrong(shipped) == []
    spoil(shipped, machine, scores=[*values[:-1], values[-1] * (1 + TOLERANCE * 2)])
    (no,) = wrong(shipped)
    assert no.what == f"{machine} scores"
    assert "0.004 of a score" in no.found
    spoil(shipped, machine, scores=values[:-1])
    assert "expected" in wrong(shipped)[0].found


def test_a_score_that_is_no_number_is_wrong(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = json.loads((shipped / GOLDEN_NAME).read_text())["compass"]["scores"]
    monkeypatch.setattr(selftest, "scores", lambda *_: [*real[:-1], float("nan")])
    assert "compass scores" in [no.what for no in wrong(shipped)]


def test_another_model_under_the_same_name_is_wrong(shipped: Path) -> None:
    bundle = shipped / "compass.otolith"
    changed(BUNDLES / "compass.otolith", bundle, serial=2)
    (no,) = wrong(shipped)
    assert no.found.startswith("bundle ")


def test_damage_is_said_and_hides_nothing_else(shipped: Path) -> None:
    content = bytearray((shipped / "vibration.otolith").read_bytes())
    content[len(content) // 2] ^= 1
    (shipped / "vibration.otolith").write_bytes(content)
    assert [no.what for no in wrong(shipped)] == ["vibration"]
    (shipped / GOLDEN_NAME).write_text("{")
    assert [no.what for no in wrong(shipped)] == ["golden", "vibration", "compass scores"]


def test_a_folder_that_cannot_be_written_is_said(shipped: Path) -> None:
    (no,) = wrong(shipped, shipped / "not there")
    assert no.what == "storage"
    assert "No such file" in no.found


def test_the_command_says_no(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(shipped, "compass", scores=[])
    monkeypatch.setattr(selftest, "BUNDLES", shipped)
    assert selftest.selftest(Namespace(write=None, state=None, json=False)) == 1
    told = capsys.readouterr()
    assert "WRONG compass scores" in told.out
    assert "should not judge" in told.err


@pytest.mark.skipif(not HAS_XNNPACK, reason="this runtime has no XNNPACK for int8")
def test_a_network_without_xnnpack_is_seen(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose /proc/cpuinfo can't be read: LiteRT says nothing and goes on."""
    from ai_edge_litert.interpreter import OpResolverType

    from edge_agent.bundles import interpreter

    model = read_bundle(BUNDLES / "vibration.otolith").model
    assert Network(model).delegated is True
    real = interpreter.runtime.Interpreter

    def bare(**options: Any) -> Any:
        kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        return real(experimental_op_resolver_type=kind, **options)

    monkeypatch.setattr(interpreter.runtime, "Interpreter", bare)
    assert Network(model).delegated is False
    found = wrong(shipped)
    # Both the flag and the scores tell.
    assert [no.what for no in found] == [
        "vibration kernels", "vibration scores", "compass kernels", "compass scores",
    ]  # fmt: skip
    assert "/proc/cpuinfo" in found[0].found


def test_the_recordings_are_the_same_bytes_each_time() -> None:
    bundle = read_bundle(BUNDLES / "vibration.otolith")
    first, second = seeded("vibration"), seeded("vibration")
    assert first == second
    assert scores(first, bundle) == scores(second, bundle)
