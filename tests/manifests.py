"""Manifests for tests that need no trained model: the network is a callable of the test's own."""

from __future__ import annotations

from edge_agent.bundles.manifest import (
    AlarmSpec,
    FileEntry,
    FrontEndSpec,
    Manifest,
    ModelSpec,
    NormalError,
    Provenance,
    RawFrontEnd,
    Scaler,
    Sensor,
    SpectralFrontEnd,
    WindowSpec,
)
from edge_agent.judging.threshold_spec import ThresholdSpec

ACCELEROMETER = Sensor(channels=("x", "y", "z"), unit="g", rate_hz=3200.0)


def raw_manifest(
    length: int = 10, hop: int = 5, channels: tuple[str, ...] = ("a", "b"), threshold: float = 1.0
) -> Manifest:
    """The raw front end, identity scaler."""
    sensor = Sensor(channels=channels, unit="g", rate_hz=100.0)
    return _manifest(sensor, RawFrontEnd(), length, hop, length, len(channels), threshold)


def spectral_manifest(hop: int = 800, threshold: float = 1.0) -> Manifest:
    """The spectral front end of the accelerometer with its default numbers."""
    spec = SpectralFrontEnd()
    features = 3 * (spec.bands + 4)
    return _manifest(ACCELEROMETER, spec, spec.window_samples, hop, 1, features, threshold)


def _manifest(
    sensor: Sensor, front_end: FrontEndSpec, length: int, hop: int, steps: int, features: int,
    threshold: float,
) -> Manifest:  # fmt: skip
    ones = (1.0,) * features
    return Manifest(
        name="test",
        serial=1,
        created="2026-01-01T00:00:00Z",
        sensor=sensor,
        front_end=front_end,
        window=WindowSpec(length=length, hop=hop),
        scaler=Scaler(centre=(0.0,) * features, scale=ones),
        model=ModelSpec(family="dense", steps=steps, features=features, parameters=1),
        threshold=ThresholdSpec(
            method="quantile", value=threshold, windows=1, provisional=True, sketch=()
        ),
        alarm=AlarmSpec(on_delay_windows=2, off_delay_windows=3),
        normal_error=NormalError(by_feature=ones, by_step=(1.0,) * steps),
        measures={},
        provenance=Provenance(recordings={}, representative=(), seed=0, versions={}, settings={}),
        files={"model.tflite": FileEntry(sha256="0" * 64, bytes=1)},
    )
