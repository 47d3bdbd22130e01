"""SKAB: a real pump that wears in calls for nothing by the shipped threshold, hardly by its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter.benchmark.skab import KIND
from converter.build import build
from converter.build_settings import BuildSettings, Roles
from converter.dataset import Shares
from converter.fidelity import Limits
from converter.recordings import Recording, read_recording
from edge_agent.assets import build_pipeline
from edge_agent.bundles.bundle import Bundle
from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.verdict import conclude
from firmware_bridge.samples import Samples
from tests.captures import judged
from tests.programs import run

pytestmark = pytest.mark.usefixtures("warm")

# Built of the first 45 %, captured 16 minutes late in the recording, judged on what is left of it.
BUILT_SHARE, FIRST, END = 0.45, 7400, 8400
LOOPS = 6


def bundle_of(recording: Recording) -> Bundle:
    """By the settings of the benchmark; the alarm is that of `nuisance`."""
    settings = BuildSettings(
        name="pump", family="dense", front_end=KIND.front_end, window=KIND.window, train_hop=1,
        shares=Shares(0.6, 0.15, BUILT_SHARE), train=replace(KIND.train, epochs=40),
        units=(32, 4, 32), headroom=KIND.headroom, score=KIND.score, qat="never",
        alarm=AlarmSpec(on_delay_windows=20, off_delay_windows=30, clear_ratio=0.8),
        limits=Limits(size_ratio=1.0),
    )  # fmt: skip
    built = build(settings, Roles([recording], [], []))
    assert built.manifest is not None, built.comparison.reasons
    return Bundle(built.manifest, built.files, "0" * 64, False)


def batches(rows: np.ndarray) -> Iterator[Samples]:
    for at in range(0, len(rows), 100):
        values = rows[at : at + 100].astype(np.float32)
        yield Samples(1, at, float(at), 1.0, values, 0, False, 0)


@pytest.mark.data("skab")
@pytest.mark.timeout(300)
def test_a_pump_has_a_baseline_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    (table,) = (data_dir / "skab").glob("anomaly-free.csv*")
    run("converter", "import", table, "--out", tmp_path, "--json")
    (path,) = tmp_path.glob("*.rec")
    recording = read_recording(path)
    rows = np.concatenate([samples.values for samples in recording.batches])
    bundle = bundle_of(recording)
    capture = Capture(bundle, recording.stream)
    capture.begin(0)
    for batch in batches(rows[FIRST:END]):
        capture.take(batch)
    found = conclude(capture, ("running",), 10.0)
    assert found.verdict == "pass", found.reason
    assert found.result is not None
    update = {"threshold": found.result.threshold, "normal_error": found.result.normal_error}
    now = bundle._replace(manifest=bundle.manifest.model_copy(update=update))
    rest, random = rows[END:], np.random.default_rng(1)
    scatter = np.diff(rest, axis=0).std(axis=0) / np.sqrt(2.0)
    episodes, seconds = {"shipped": 0, "now": 0}, {"shipped": 0, "now": 0}
    for _ in range(LOOPS):
        noisy = rest + scatter * random.normal(size=rest.shape)
        for name, judge in (("shipped", bundle), ("now", now)):
            _, active, begun = judged(build_pipeline(name, judge), batches(noisy))
            episodes[name] += begun
            seconds[name] += active
    assert episodes["shipped"] >= LOOPS
    assert episodes["now"] <= 0.2 * episodes["shipped"]
    assert seconds["now"] < 0.1 * seconds["shipped"]
    # The water stops: that is no longer normal by either.
    dry = rest.astype(np.float64)
    flow = next(i for i, name in enumerate(recording.stream.channels) if "Flow" in name)
    dry[600:, flow] *= 0.9
    _, active, begun = judged(build_pipeline("dry", now), batches(dry))
    assert begun >= 1
    assert active > 100
