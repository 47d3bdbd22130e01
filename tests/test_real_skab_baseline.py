"""SKAB: a real pump that wears in calls for nothing by the shipped threshold, hardly by its own,
and not by its own if it follows.

The pump has one excursion of 18 seconds in the 16 minutes that are judged, over twice the limit of
its own; the alarm waits for 20. Noise makes it 20 in one play of twenty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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
from edge_agent.judging.threshold_spec import ThresholdSpec
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema
from tests.captures import judged
from tests.programs import run

pytestmark = pytest.mark.usefixtures("warm")

# Built of the first 45 %, captured 16 minutes late in the recording, judged on what is left of it.
BUILT_SHARE, FIRST, END = 0.45, 7400, 8400
LOOPS = 20


def bundle_of(recording: Recording) -> Bundle:
    """By the settings of the benchmark; alarm and threshold are those of `nuisance`."""
    settings = BuildSettings(
        name="pump", family="dense", front_end=KIND.front_end, window=KIND.window, train_hop=1,
        shares=Shares(0.6, 0.15, BUILT_SHARE), train=replace(KIND.train, epochs=40),
        units=(32, 4, 32), headroom=KIND.headroom, score=KIND.score, qat="never",
        adaptive="conformal", limits=Limits(size_ratio=1.0),
        alarm=AlarmSpec(on_delay_windows=20, off_delay_windows=30, clear_ratio=0.8),
    )  # fmt: skip
    built = build(settings, Roles([recording], [], []))
    assert built.manifest is not None, built.comparison.reasons
    return Bundle(built.manifest, built.files, "0" * 64, False)


def batches(rows: np.ndarray) -> Iterator[Samples]:
    for at in range(0, len(rows), 100):
        values = rows[at : at + 100].astype(np.float32)
        yield Samples(1, at, float(at), 1.0, values, 0, False, 0)


class Played(NamedTuple):
    """False episodes, and seconds in alarm."""

    episodes: int
    seconds: int


def played(bundle: Bundle, rest: np.ndarray) -> Played:
    """The healthy rest over and over, each time with other noise, as large as its own."""
    random = np.random.default_rng(1)
    scatter = np.diff(rest, axis=0).std(axis=0) / np.sqrt(2.0)
    told = Played(0, 0)
    for _ in range(LOOPS):
        noisy = rest + scatter * random.normal(size=rest.shape)
        _, active, begun = judged(build_pipeline("pump", bundle), batches(noisy))
        told = Played(told.episodes + begun, told.seconds + active)
    return told


def with_threshold(bundle: Bundle, threshold: ThresholdSpec, **more: object) -> Bundle:
    update = {"threshold": threshold} | more
    return bundle._replace(manifest=bundle.manifest.model_copy(update=update))


def without(threshold: ThresholdSpec) -> ThresholdSpec:
    """The same where it begins, and it stays there."""
    return threshold.model_copy(update={"adaptation": None})


def recalibrated(bundle: Bundle, stream: StreamSchema, rows: np.ndarray) -> Bundle:
    """By a baseline of these rows."""
    capture = Capture(bundle, stream)
    capture.begin(0)
    for batch in batches(rows):
        capture.take(batch)
    found = conclude(capture, ("running",), 10.0)
    assert found.verdict == "pass", found.reason
    assert found.result is not None
    assert found.result.estimate.shipped.share > 0.2
    assert found.result.estimate.now.episodes == 0
    return with_threshold(bundle, found.result.threshold, normal_error=found.result.normal_error)


@pytest.mark.data("skab")
@pytest.mark.timeout(300)
def test_a_pump_has_a_baseline_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    (table,) = (data_dir / "skab").glob("anomaly-free.csv*")
    run("converter", "import", table, "--out", tmp_path, "--json")
    (path,) = tmp_path.glob("*.rec")
    recording = read_recording(path)
    rows = np.concatenate([samples.values for samples in recording.batches])
    follows = bundle_of(recording)
    fixed = with_threshold(follows, without(follows.manifest.threshold))
    stretch, rest = rows[FIRST:END], rows[END:]
    shipped = played(fixed, rest)
    assert shipped.episodes >= LOOPS
    own = recalibrated(fixed, recording.stream, stretch)
    now = played(own, rest)
    assert now.episodes <= 0.1 * shipped.episodes
    assert now.seconds < 0.1 * shipped.seconds
    # A machine that keeps changing needs a bundle that follows, and a baseline goes with it.
    assert played(follows, rest).episodes >= LOOPS
    followed = recalibrated(follows, recording.stream, stretch)
    assert played(followed, rest).episodes == 0
    # The water stops: that is no longer normal by either.
    dry = rest.astype(np.float64)
    flow = next(i for i, name in enumerate(recording.stream.channels) if "Flow" in name)
    dry[600:, flow] *= 0.9
    for judge in (own, followed):
        _, active, begun = judged(build_pipeline("dry", judge), batches(dry))
        assert begun == 1
        assert active > 100
