"""Manifest: everything a bundle says about its model (BUNDLE.md), checked and frozen.

In: the JSON of `bundle.json`. Out: a `Manifest`. Never: touches a file, holds weights.
The converter writes with these types and the gateway reads with them, so there is one truth.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_CHANNELS = 16
MAX_FEATURES = 4096
MAX_WINDOW_SAMPLES = 1 << 20

Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=MAX_WINDOW_SAMPLES)]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Frozen(BaseModel):
    """Immutable, and an unknown key is an error: a typo must not pass for a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sensor(Frozen):
    """What the model expects to be fed; the board's schema must say the same."""

    channels: tuple[str, ...] = Field(min_length=1, max_length=MAX_CHANNELS)
    unit: str
    rate_hz: Positive


class RawFrontEnd(Frozen):
    """The samples as they are."""

    kind: Literal["raw"] = "raw"


class SmoothFrontEnd(Frozen):
    """For slow channels: exponential smoothing, then every `decimate`-th row.

    The first `settle_samples` rows after a start or a gap feed the smoother only.
    """

    kind: Literal["smooth"] = "smooth"
    ewma_alpha: float = Field(default=0.1, gt=0, le=1)
    decimate: int = Field(default=1, ge=1, le=10_000)
    settle_samples: int = Field(default=30, ge=0, le=MAX_WINDOW_SAMPLES)


class SpectralFrontEnd(Frozen):
    """For kHz vibration: Welch power over `segments` Hann segments, pooled into log bands, split
    into level and shape, beside RMS velocity, kurtosis and crest factor of each channel."""

    kind: Literal["spectral"] = "spectral"
    segment_length: int = Field(default=512, ge=16, le=65_536)
    segment_hop: int = Field(default=256, ge=1, le=65_536)
    segments: int = Field(default=8, ge=1, le=1024)
    bands: int = Field(default=24, ge=2, le=256)
    low_hz: Positive = 10.0
    high_hz: Positive = 1600.0

    @property
    def window_samples(self) -> int:
        """Samples that one window must hold."""
        return self.segment_length + (self.segments - 1) * self.segment_hop


FrontEndSpec: TypeAlias = Annotated[
    RawFrontEnd | SmoothFrontEnd | SpectralFrontEnd, Field(discriminator="kind")
]


class WindowSpec(Frozen):
    """Rows of one window and rows between the starts of two, after the front end's decimation."""

    length: Count
    hop: Count


class Scaler(Frozen):
    """scaled = (feature - centre) / scale, one pair a feature."""

    centre: tuple[Finite, ...] = Field(min_length=1, max_length=MAX_FEATURES)
    scale: tuple[Positive, ...] = Field(min_length=1, max_length=MAX_FEATURES)


class Quantile(Frozen):
    """One point of the distribution of held-out normal scores."""

    q: float = Field(ge=0, le=1)
    score: Finite


class ThresholdSpec(Frozen):
    """The commissioning threshold and where it came from. Under 1,000 held-out windows no honest
    99.9 % quantile exists, and the bundle says `provisional`."""

    method: Literal["quantile", "mean_3sigma"]
    value: Positive
    factor: Positive = 1.2
    q: float = Field(default=0.995, gt=0, lt=1)
    windows: int = Field(ge=1)
    provisional: bool
    sketch: tuple[Quantile, ...] = ()


class AlarmSpec(Frozen):
    """When a ratio (score / threshold) becomes an alarm and when it stops being one."""

    on_delay_windows: int = Field(default=4, ge=1, le=100_000)
    off_delay_windows: int = Field(default=8, ge=1, le=100_000)
    clear_ratio: float = Field(default=0.8, gt=0, le=1)


class NormalError(Frozen):
    """99 % level of the squared error on held-out normal windows: what makes shares comparable."""

    by_feature: tuple[Positive, ...]
    by_step: tuple[Positive, ...]


class ModelSpec(Frozen):
    """The network inside `model.tflite`."""

    family: Literal["lstm", "dense"]
    steps: Count
    features: int = Field(ge=1, le=MAX_FEATURES)
    parameters: int = Field(ge=1)


class FileEntry(Frozen):
    """One other member of the bundle."""

    sha256: Sha256
    bytes: int = Field(ge=1)


class RepresentativeWindow(Frozen):
    """One window that fixed the int8 ranges: which recording, which row of it begins the window."""

    recording: str
    first_row: int = Field(ge=0)


class Provenance(Frozen):
    """Where the model came from; enough to build it again."""

    recordings: dict[str, Sha256]
    representative: tuple[RepresentativeWindow, ...]
    seed: int
    versions: dict[str, str]
    settings: dict[str, Any]


class Manifest(Frozen):
    """`bundle.json`."""

    schema_version: Literal[1] = 1
    name: Name
    serial: int = Field(ge=1, lt=1 << 53)
    created: str
    sensor: Sensor
    front_end: FrontEndSpec
    window: WindowSpec
    scaler: Scaler
    model: ModelSpec
    threshold: ThresholdSpec
    alarm: AlarmSpec
    normal_error: NormalError
    measures: dict[str, Any]
    provenance: Provenance
    files: dict[Literal["model.tflite"], FileEntry]

    @model_validator(mode="after")
    def _sizes_agree(self) -> Manifest:
        features, steps = self.model.features, self.model.steps
        sizes = {
            "scaler.centre": len(self.scaler.centre),
            "scaler.scale": len(self.scaler.scale),
            "normal_error.by_feature": len(self.normal_error.by_feature),
        }
        for key, size in sizes.items():
            if size != features:
                raise ValueError(f"{key} has {size} numbers, model.features is {features}")
        if len(self.normal_error.by_step) != steps:
            raise ValueError(f"normal_error.by_step has not model.steps = {steps} numbers")
        spec = self.front_end
        if isinstance(spec, SpectralFrontEnd):
            if self.window.length != spec.window_samples:
                raise ValueError(f"window.length must be {spec.window_samples} for its segments")
            if not spec.low_hz < spec.high_hz <= self.sensor.rate_hz / 2:
                raise ValueError("front_end: low_hz < high_hz <= half the rate is needed")
        elif (steps, features) != (self.window.length, len(self.sensor.channels)):
            raise ValueError("model.steps x features must be window.length x channels")
        return self

    @property
    def hop_seconds(self) -> float:
        """Seconds of data between two scores."""
        decimate = self.front_end.decimate if isinstance(self.front_end, SmoothFrontEnd) else 1
        return self.window.hop * decimate / self.sensor.rate_hz

    def refusal(self, channels: tuple[str, ...], unit: str, rate_hz: float) -> str | None:
        """Why this bundle can't judge such a stream, in one line that says what to do, or None."""
        mine = self.sensor
        if channels != mine.channels:
            return (
                f"bundle {self.name} was trained on channels {', '.join(mine.channels)}; the board "
                f"sends {', '.join(channels)}: choose the stream or bundle that belongs to it"
            )
        if unit != mine.unit:
            return f"bundle {self.name} wants unit {mine.unit}, the board sends {unit}: build anew"
        if not math.isclose(rate_hz, mine.rate_hz, rel_tol=0.05):
            return (
                f"bundle {self.name} wants {mine.rate_hz:g} Hz, the board sends {rate_hz:g} Hz: "
                "set the board's rate or build a bundle for it"
            )
        return None
