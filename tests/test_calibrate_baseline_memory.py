"""A memory's baseline: slots filled with moments of the machine, in a file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from converter.bundle import file_entry, write_bundle
from converter.dataset import draft_manifest
from edge_agent.assets import Asset
from edge_agent.bundles.bundle import Bundle, read_bundle
from edge_agent.bundles.manifest import RawFrontEnd, Sensor, WindowSpec
from edge_agent.bundles.model import model_of
from edge_agent.calibrate.baseline.applying import drop_unused_slots, write_slots_file
from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.drafting import Subject, drafted
from edge_agent.calibrate.baseline.verdict import conclude
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.config import AssetSettings
from edge_agent.judging.commissioning import errors_of, scores_of
from edge_agent.judging.pipeline import Judgement
from edge_agent.judging.scoring import Scorer
from edge_agent.judging.threshold import commission
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema
from tests.test_families import made
from tests.test_models import waves

pytestmark = pytest.mark.usefixtures("warm")

UID = "ab" * 12
RATE_HZ = 100.0


def moved(count: int, seed: int) -> np.ndarray:
    """Another machine of the kind: a little weaker, with an offset."""
    return waves(count, seed) * np.float32(0.95) + np.float32(0.06)


def bundle_in(folder: Path) -> Path:
    """A bundle of the memory that the tests of the families train."""
    _, converted, spec = made("memory conv")
    sensor = Sensor(
        channels=tuple(f"c{i}" for i in range(spec.features)), unit="V", rate_hz=RATE_HZ
    )
    window = WindowSpec(length=spec.steps, hop=spec.steps)
    draft = draft_manifest("memory", sensor, RawFrontEnd(), window, "dense")
    model = model_of(spec, converted.files)
    scorer = Scorer(draft.scaler, draft.normal_error, np.arange(spec.features))
    held_out = scores_of(scorer, errors_of(model, scorer, waves(300, 7)).by_feature)
    files = {name: file_entry(content) for name, content in converted.files.items()}
    manifest = draft.model_copy(
        update={"model": spec, "threshold": commission(held_out), "files": files}
    )
    path = folder / "memory.otolith"
    write_bundle(path, type(manifest).model_validate(manifest.model_dump()), converted.files)
    return path


def stream_of(bundle: Bundle) -> StreamSchema:
    sensor = bundle.manifest.sensor
    return StreamSchema(
        id=1, name="waves", sensor="made", format="<f4", channels=sensor.channels,
        unit=sensor.unit, scale=1.0, rate_hz=RATE_HZ, batch=4,
    )  # fmt: skip


def batches(windows: np.ndarray) -> Iterator[Samples]:
    rows = windows.reshape(-1, windows.shape[2]).astype(np.float32)
    for at in range(0, len(rows), 400):
        yield Samples(1, at, at / RATE_HZ, RATE_HZ, rows[at : at + 400], 0, False, 0)


def test_slots_of_the_machine_are_stored_applied_and_checked(tmp_path: Path) -> None:
    path = bundle_in(tmp_path)
    bundle = read_bundle(path)
    capture = Capture(bundle, stream_of(bundle))
    capture.begin(0)
    for batch in batches(moved(900, 11)):
        capture.take(batch)
    minutes = 0.9 * 900 * bundle.manifest.hop_seconds / 60.0
    found = conclude(capture, ("running",), minutes)
    assert found.result is not None, found.reason
    assert found.verdict == "pass"
    assert set(found.result.members) == {"memory.npy", "memory_scale.npy"}
    # The machine is normal for its own slots, and less so for those that were shipped.
    assert found.result.threshold.value < 0.7 * np.quantile(capture.scores, 0.99)
    settings = AssetSettings(board="b1", stream="waves", bundle=path)
    subject = Subject("rig", settings, bundle, "waves")
    draft, slots = drafted(subject, capture, found, "b1", UID)
    assert slots is not None
    shelf = Shelf(tmp_path / "state", "b1")
    write_slots_file(shelf, *slots)
    stored = shelf.put(draft)
    (shelf.folder / "baseline-0000000000000000.slots").write_bytes(b"left behind")
    drop_unused_slots(shelf)
    (file,) = shelf.folder.glob("*.slots")
    asset = Asset("rig", settings)
    asset.load((), 1, tmp_path / "state")
    assert asset.pipeline is not None, asset.refusal
    assert asset.pipeline.baseline == stored.id
    facts = [fact for batch in batches(moved(50, 12)) for fact in asset.pipeline.feed(batch)]
    ratios = [fact.ratio for fact in facts if isinstance(fact, Judgement)]
    assert len(ratios) == 50
    assert np.mean(np.array(ratios) < 1.0) > 0.95
    # Bytes that are not what was stored are never made a memory of.
    content = file.read_bytes()
    for damaged in (content[:-1], content + b"x", bytes(len(content)), b""):
        file.write_bytes(damaged)
        again = Asset("rig", settings)
        again.load((), 1, tmp_path / "state")
        assert again.pipeline is not None
        assert again.pipeline.baseline is None
        assert "is not the file that was stored" in str(again.note)
