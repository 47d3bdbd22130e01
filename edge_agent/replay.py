"""Replay: a recording through the pipeline of a bundle, as fast as it goes or at a chosen speed.

In: a recording and a verified bundle. Out: facts, and a summary. Never: more than one chunk of the
file in memory, a second scoring path: this is the service's pipeline fed by a file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_agent.assets import build_pipeline
from edge_agent.bundles.bundle import Bundle
from edge_agent.calibrate.shelf.applying import Applied
from edge_agent.calibrate.shelf.stored import Stored
from edge_agent.judging.pipeline import Fact
from firmware_bridge.link import Identified
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema

CHUNK_BYTES = 65_536


class ReplayError(ValueError):
    """The bundle can't judge this recording; the text says why and what to do."""


class ReplaySummary(NamedTuple):
    """What came of a replay."""

    windows: int
    seconds_of_data: float
    seconds_taken: float
    times_real_time: float
    episodes: int
    samples_lost: int


class Replay:
    """One recording, one bundle. Without `stream` it is the only one that the bundle fits. A
    recording is raw: `calibration` is applied to it, as the service would.

    Raises `ModelError` for a model that does not run.
    """

    def __init__(
        self, recording: Path, bundle: Bundle, stream: str | None = None,
        calibration: Stored | None = None,
    ) -> None:  # fmt: skip
        self._recording, self._wanted = recording, stream
        self._calibration = calibration
        self._applied: Applied | None = None
        self.pipeline = build_pipeline(recording.stem, bundle)
        self._manifest = bundle.manifest
        self._stream: StreamSchema | None = None
        self._seconds_of_data = self._seconds_taken = 0.0

    def facts(self, speed: float | None = None) -> Iterator[Fact]:
        """Everything that comes to light; `speed` 1 is real time, None as fast as it goes.

        Raises `ReplayError` if the bundle refuses the stream, `OSError` for the file.
        """
        playback, began_s = Playback(), time.perf_counter()
        with self._recording.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                for event in playback.feed(chunk):
                    if type(event) is Samples:
                        yield from self._feed(event, began_s, speed)
                    elif isinstance(event, Identified):
                        self._stream = self._fitting(event.schema)
                        self._apply(event.schema, self._stream)
        self._seconds_taken = time.perf_counter() - began_s
        if self._stream is None:
            raise ReplayError(f"{self._recording}: {playback.problem}")

    def summary(self) -> ReplaySummary:
        """The numbers, once `facts` has ended."""
        counters = self.pipeline.counters
        times = self._seconds_of_data / self._seconds_taken if self._seconds_taken else 0.0
        return ReplaySummary(
            counters.windows, round(self._seconds_of_data, 6), round(self._seconds_taken, 6),
            round(times, 1), counters.episodes, counters.samples_lost,
        )  # fmt: skip

    def _feed(self, samples: Samples, began_s: float, speed: float | None) -> list[Fact]:
        stream = self._stream
        if stream is None or samples.stream != stream.id:
            return []
        self._seconds_of_data += len(samples.values) / stream.rate_hz
        if speed:
            ahead_s = self._seconds_of_data / speed - (time.perf_counter() - began_s)
            time.sleep(max(0.0, ahead_s))
        return self.pipeline.feed(self._applied.apply(samples) if self._applied else samples)

    def _apply(self, schema: Schema, stream: StreamSchema) -> None:
        if self._calibration is None:
            return
        self._applied = Applied([self._calibration], schema)
        if self._applied.refusals:
            raise ReplayError(self._applied.refusals[0])
        self.pipeline.calibrate(self._applied.id_of(stream.id))

    def _fitting(self, schema: Schema) -> StreamSchema:
        try:
            candidates = (schema.stream(self._wanted),) if self._wanted else schema.streams
        except KeyError as error:
            raise ReplayError(str(error.args[0])) from None
        refusals = {s.name: self._manifest.refusal(s.channels, s.unit, s.rate_hz)
                    for s in candidates}  # fmt: skip
        fitting = [s for s in candidates if refusals[s.name] is None]
        if len(fitting) > 1:
            names = ", ".join(s.name for s in fitting)
            raise ReplayError(f"the bundle fits several streams: choose one of {names} (--stream)")
        if not fitting:
            raise ReplayError("; ".join(f"{name}: {text}" for name, text in refusals.items()))
        return fitting[0]
