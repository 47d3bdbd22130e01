"""Manifest: everything a bundle says about its model (BUNDLE.md), checked and frozen.

In: the JSON of `bundle.json`. Out: a `Manifest`. Never: touches a file, holds weights.
The converter writes with these types and the gateway reads with them, so there is one truth.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from edge_agent.bundles.frozen import Finite, Frozen, Positive
from edge_agent.judging.threshold_spec import ThresholdSpec

MAX_CHANNELS = 64
MAX_FEATURES = 4096
MAX_WINDOW_SAMPLES = 1 << 20
MAX_SLOTS = 1 << 18
# Above it, only the nearest ones: each window would spend its time on slots that say nothing.
MAX_SLOTS_READ = 10_000
# One byte each in the bundle, four in the gateway's memory.
MAX_MEMORY_NUMBERS = 1 << 25

MODEL_NAME: Final = "model.tflite"
DECODER_MODEL: Final = "decoder.tflite"
MEMORY_NAME: Final = "memory.npy"
SCALE_NAME: Final = "memory_scale.npy"
DECODER_NAME: Final = "decoder.npy"
MEMORY_MEMBERS = (MEMORY_NAME, SCALE_NAME, DECODER_NAME)
Member: TypeAlias = Literal[
    "model.tflite", "decoder.tflite", "memory.npy", "memory_scale.npy", "decoder.npy"
]

Count: TypeAlias = Annotated[int, Field(ge=1, le=MAX_WINDOW_SAMPLES)]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
# Nothing that moves a terminal's cursor or breaks a line of the journal.
Words: TypeAlias = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Sensor(Frozen):
    """What the model expects to be fed; the board's schema must say the same. `speed_channel` is
    the one that tells how fast the machine runs, or what it bears."""

    channels: tuple[Words, ...] = Field(min_length=1, max_length=MAX_CHANNELS)
    unit: Words
    rate_hz: Positive
    speed_channel: str | None = None

    @model_validator(mode="after")
    def _speed_is_a_channel_among_others(self) -> Sensor:
        if self.speed_channel is None:
            return self
        if self.speed_channel not in self.channels:
            names = ", ".join(self.channels)
            raise ValueError(f"no speed channel {self.speed_channel!r}; the channels are: {names}")
        if len(self.channels) == 1:
            raise ValueError("a speed alone says nothing about health: another channel is needed")
        return self

    @property
    def speed_index(self) -> int | None:
        """Where the speed stands among the channels, if it is known."""
        return None if self.speed_channel is None else self.channels.index(self.speed_channel)


class RawFrontEnd(Frozen):
    """The samples as they are."""

    kind: Literal["raw"] = "raw"


class SmoothFrontEnd(Frozen):
    """For slow channels: a mean over `mean_rows`, exponential smoothing, then every `decimate`-th
    row. A plain mean forgets a fault when it is over; an exponential one never quite does.

    Channels named in `drifting` (a temperature follows the room) count by their distance from
    their own slow mean, whose newest row weighs `baseline_alpha`. The first `settle_samples` rows
    after a start or a gap feed the smoother only.
    """

    kind: Literal["smooth"] = "smooth"
    mean_rows: int = Field(default=1, ge=1, le=10_000)
    ewma_alpha: float = Field(default=0.1, gt=0, le=1)
    drifting: tuple[str, ...] = Field(default=(), max_length=MAX_CHANNELS)
    baseline_alpha: float = Field(default=0.1, gt=0, le=1)
    decimate: int = Field(default=1, ge=1, le=10_000)
    settle_samples: int = Field(default=30, ge=0, le=MAX_WINDOW_SAMPLES)


class SpectralFrontEnd(Frozen):
    """For kHz vibration: Welch power over `segments` Hann segments, pooled into log bands, split
    into level and shape, beside RMS velocity, kurtosis and crest factor of each channel but the
    speed. `shaft_hz`, the speed of a shaft that keeps it, names bands in its multiples, too."""

    kind: Literal["spectral"] = "spectral"
    segment_length: int = Field(default=512, ge=16, le=65_536)
    segment_hop: int = Field(default=256, ge=1, le=65_536)
    segments: int = Field(default=8, ge=1, le=1024)
    bands: int = Field(default=24, ge=2, le=256)
    low_hz: Positive = 10.0
    high_hz: Positive = 1600.0
    shaft_hz: Positive | None = None

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


ScoreMethod: TypeAlias = Literal["mse", "weighted"]


class Scaler(Frozen):
    """scaled = (feature - centre) / scale, one pair a feature."""

    centre: tuple[Finite, ...] = Field(min_length=1, max_length=MAX_FEATURES)
    scale: tuple[Positive, ...] = Field(min_length=1, max_length=MAX_FEATURES)


class AlarmSpec(Frozen):
    """When a ratio (score / threshold) becomes an alarm and when it stops being one: after
    `on_delay_windows` over 1 of the last `on_of_windows` (of as many in a row, if that is not
    given), and after `off_delay_windows` in a row under `clear_ratio`."""

    on_delay_windows: int = Field(default=4, ge=1, le=100_000)
    on_of_windows: int | None = Field(default=None, ge=1, le=100_000)
    off_delay_windows: int = Field(default=8, ge=1, le=100_000)
    clear_ratio: float = Field(default=0.8, gt=0, le=1)


class NormalError(Frozen):
    """Mean of the largest 5 % of the squared errors on held-out normal windows: what makes shares
    comparable."""

    by_feature: tuple[Positive, ...]
    by_step: tuple[Positive, ...]


class MemorySpec(Frozen):
    """What stands behind the encoder of a memory autoencoder: `slots` codes of `dim` numbers, read
    by a softmax of cosine / `temperature`; shares under `shrinkage` are 0; a decoder of one
    `hidden` layer. `nearest`: of each code only so many slots are read (0: all)."""

    slots: int = Field(ge=1, le=MAX_SLOTS)
    dim: int = Field(ge=1, le=4096)
    hidden: int = Field(ge=1, le=4096)
    temperature: float = Field(ge=1e-3, le=1e3)
    shrinkage: float = Field(ge=0, lt=1)
    nearest: int = Field(default=0, ge=0, le=1024)

    @model_validator(mode="after")
    def _bounded(self) -> MemorySpec:
        if self.slots * self.dim > MAX_MEMORY_NUMBERS:
            raise ValueError(f"slots x dim must be at most {MAX_MEMORY_NUMBERS}")
        if self.nearest > self.slots:
            raise ValueError("nearest must be at most slots")
        if self.slots > MAX_SLOTS_READ and not self.nearest:
            raise ValueError(f"of more than {MAX_SLOTS_READ} slots only the nearest can be read")
        return self

    def decoder_size(self, features: int) -> int:
        """Numbers of the decoder."""
        return (self.dim + 1) * self.hidden + (self.hidden + 1) * features


class SteppingSpec(Frozen):
    """An LSTM autoencoder whose states are kept outside of its models: sizes (outer, inner), and
    the `rows` of a window that one call takes."""

    units: tuple[int, int]
    rows: Count


class ModelSpec(Frozen):
    """The network inside `model.tflite` and the members beside it."""

    family: Literal["lstm", "dense", "conv", "memory"]
    steps: Count
    features: int = Field(ge=1, le=MAX_FEATURES)
    parameters: int = Field(ge=1)
    memory: MemorySpec | None = None
    stepping: SteppingSpec | None = None

    @property
    def members(self) -> frozenset[str]:
        """The members that such a network needs."""
        if self.memory is not None:
            return frozenset({MODEL_NAME, *MEMORY_MEMBERS})
        return frozenset({MODEL_NAME, DECODER_MODEL} if self.stepping else {MODEL_NAME})

    @model_validator(mode="after")
    def _parts_belong_to_the_family(self) -> ModelSpec:
        if (self.memory is not None) != (self.family == "memory"):
            raise ValueError("model.memory belongs to the family `memory`, and to no other")
        if self.stepping is not None and self.family != "lstm":
            raise ValueError("model.stepping belongs to the family `lstm`, and to no other")
        if self.stepping is not None and self.steps % self.stepping.rows:
            raise ValueError("model.steps must be a multiple of model.stepping.rows")
        return self


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
    created: Words
    sensor: Sensor
    front_end: FrontEndSpec
    window: WindowSpec
    scaler: Scaler
    model: ModelSpec
    threshold: ThresholdSpec
    alarm: AlarmSpec
    normal_error: NormalError
    score: ScoreMethod = "mse"
    measures: dict[str, Any]
    provenance: Provenance
    files: dict[Member, FileEntry]

    @model_validator(mode="after")
    def _files_agree(self) -> Manifest:
        if set(self.files) != self.model.members:
            raise ValueError(f"files must be {', '.join(sorted(self.model.members))}")
        return self

    @model_validator(mode="after")
    def _speed_is_told(self) -> Manifest:
        speed = self.sensor.speed_channel
        if self.threshold.bins and speed is None:
            raise ValueError("threshold.bins need sensor.speed_channel")
        if isinstance(self.front_end, SmoothFrontEnd) and speed in self.front_end.drifting:
            raise ValueError(f"front_end.drifting: {speed} is the speed, which counts by its value")
        return self

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
            return self
        if isinstance(spec, SmoothFrontEnd) and not set(spec.drifting) <= {*self.sensor.channels}:
            raise ValueError("front_end.drifting names a channel that the sensor doesn't have")
        if (steps, features) != (self.window.length, len(self.sensor.channels)):
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
