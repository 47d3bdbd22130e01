"""Case: one machine of a protocol: what is known to be normal, and what is judged.

In: arrays that a protocol has read. Out: frozen values; a recording of the wire for the converter.
Never: labels in what a detector is fitted on, a detector that is told where in a file it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.dataset import Shares
from converter.models.memory import MemorySettings
from converter.models.training import TrainSettings
from converter.quantize import HEADROOM
from converter.recordings import Recording, parse_recording
from edge_agent.bundles.manifest import AlarmSpec, FrontEndSpec, ScoreMethod, Sensor, WindowSpec
from firmware_bridge.recording import identify_frames, record
from firmware_bridge.schema import MAX_CHANNELS, StreamSchema, write_schema

Rows = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Kind:
    """How data of one kind are looked at: everything that is the same for all of its files."""

    front_end: FrontEndSpec
    window: WindowSpec
    train_hop: int
    alarm: AlarmSpec
    units: dict[str, tuple[int, ...]]
    train: TrainSettings
    shares: Shares = Shares()
    score: ScoreMethod = "mse"
    q: float = 0.995
    factor: float = 1.2
    adaptation: Literal["conformal", "spot"] | None = "conformal"
    headroom: float = HEADROOM
    activation: dict[str, str] = field(default_factory=dict)
    memory: MemorySettings = MemorySettings()
    form: str = "fused"
    qat: Literal["auto", "never", "always"] = "auto"


class Test(NamedTuple):
    """What one causal pass judges; `label` is bool[n], None if all of it is normal."""

    name: str
    rows: Rows
    label: Flags | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """`normal` are runs without a gap, each float32[n, channel]."""

    name: str
    sensor: Sensor
    kind: Kind
    normal: tuple[Rows, ...]
    tests: tuple[Test, ...]

    def recordings(self) -> list[Recording]:
        """The normal runs as the converter reads them."""
        return [
            as_recording(f"{self.name}-{i}", self.sensor, run) for i, run in enumerate(self.normal)
        ]


def sensor(names: list[str], unit: str, rate_hz: float) -> Sensor:
    """What a bundle for these channels says. Raises `ValueError` over 16 channels."""
    if len(names) > MAX_CHANNELS:
        raise ValueError(f"{len(names)} channels, a stream has at most {MAX_CHANNELS}")
    return Sensor(channels=tuple(names), unit=unit, rate_hz=rate_hz)


def as_recording(name: str, sensor: Sensor, rows: Rows) -> Recording:
    """Rows as a recording of the wire, in float32: no bit is lost."""
    return parse_recording(name, b"".join(_wire(sensor, rows)))


def _wire(sensor: Sensor, rows: Rows) -> Iterator[bytes]:
    stream = StreamSchema(
        id=1, name="rows", sensor="recorded", format="<f4", channels=sensor.channels,
        unit=sensor.unit, scale=1.0, rate_hz=sensor.rate_hz, batch=1,
    )  # fmt: skip
    stream = replace(stream, batch=stream.max_batch)
    document = write_schema("recorded", "recorded", "1", (stream,))
    yield identify_frames(document)
    yield from record(document, stream, np.ascontiguousarray(rows, "<f4"))
