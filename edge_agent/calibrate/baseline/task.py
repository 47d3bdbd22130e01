"""Task: a healthy machine captured before the eyes of a technician, one state after the other.

In: batches of the board, Enter when the machine is in the state that is asked for. Out: how many
minutes of each state there are, and in the end a draft or a refusal. Never: counts a second in
which the machine was on its way to a state, judges a capture otherwise than `verdict.py` does one
from a file, keeps samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edge_agent.bundles.bundle import Bundle
from edge_agent.bundles.interpreter import ModelError
from edge_agent.calibrate.baseline.capture import Capture, Floats
from edge_agent.calibrate.baseline.checks import MOST_MEDIAN_RATIO, heard_well
from edge_agent.calibrate.baseline.document import Baseline, SlotsFile
from edge_agent.calibrate.baseline.drafting import Subject, drafted
from edge_agent.calibrate.baseline.partial import read_partial, write_partial
from edge_agent.calibrate.baseline.verdict import Concluded, conclude, minutes_by_state
from edge_agent.calibrate.shelf.applying import Applied
from edge_agent.calibrate.shelf.stored import Draft, Kind, Stored
from edge_agent.calibrate.sitting.task import CannotCalibrate, Progress, Refused
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema

DEFAULT_STATES = ("running",)
# On top of the minutes that are asked for: lost ones, and the way from state to state.
SPARE_TIMES, SPARE_SECONDS = 2.0, 600.0
PARTIAL_SECONDS = 30.0
RECENT_WINDOWS = 100
BAR_CELLS, NAME_CELLS = 40, 14
# Blocks after which a dead or clipped channel ends it at once.
BLOCKS_TO_TELL = 3

KeepSlots = Callable[[SlotsFile, bytes], None]


class BaselineTask:
    """A `Task`. `states` are what the technician calls them; a bundle with speed bins has its own.
    `keep` writes the slots of a memory beside the calibration. `found` is the last word."""

    kind: Kind = "baseline"

    def __init__(
        self, subject: Subject, states: tuple[str, ...], minutes: float, keep: KeepSlots,
        others: Callable[[str], Mapping[str, Baseline]], limit_seconds: float | None = None,
        beneath: Sequence[Stored] = (),
    ) -> None:  # fmt: skip
        self.subject, self.minutes = subject, minutes
        self.states = state_names(subject.bundle, states)
        needed = 60.0 * minutes * len(self.states)
        self.limit_seconds = limit_seconds or SPARE_TIMES * needed + SPARE_SECONDS
        self.capture: Capture | None = None
        self.found: Concluded | None = None
        self._keep, self._others, self._beneath = keep, others, beneath
        self._done = self._bells = 0
        self._running = False
        self._saved_s = 0.0
        self._hurt: str | None = None

    @property
    def streams(self) -> tuple[int, ...]:
        """The one that the bundle judges."""
        return (self._stream.id,)

    def begin(self, schema: Schema) -> None:
        """Finds the stream. Raises `CannotCalibrate`."""
        self._stream = stream_of(schema, self.subject)
        self._uid = schema.uid
        self._applied = Applied(
            [one for one in self._beneath if one.refusal(schema.uid) is None], schema
        )
        try:
            self.capture = Capture(self.subject.bundle, self._stream, self.subject.settings)
        except ModelError as error:
            raise CannotCalibrate(str(error)) from None
        if len(self.states) == 1 or self.capture.bins:
            self._start()

    def take(self, samples: Samples) -> None:
        """What the service would judge."""
        if self.capture is not None and samples.stream == self._stream.id:
            self.capture.take(self._applied.apply(samples))

    def enter(self) -> bool:
        """Enter: the machine is in the state that was asked for. Whether it was waited for."""
        if self._running or self._done == len(self.states):
            return False
        self._start()
        return True

    def progress(self) -> Progress:
        """Minutes of each state."""
        capture = self.capture
        assert capture is not None
        capture.hearing.settle()
        got = minutes_by_state(capture, len(self.states))
        self._step(got)
        all_there = bool((got >= self.minutes).all()) if capture.bins else not self._left
        hurt = self._hurt = self._broken()
        told = f"{got.sum():.1f} of {self.minutes * len(self.states):g} minutes that count"
        return Progress(
            title=f"The healthy machine {self.subject.asset}, as it usually runs",
            headline=hurt or told, next_move=self._next(all_there),
            verdict="fail" if hurt else None,
            picture=self._picture(got), rows=self._rows(capture),
            over=all_there or capture.full or bool(hurt),
            acceptable=bool(capture.bins and (got >= self.minutes).any()),
            bells=self._bells, fields=self._fields(capture, got),
        )  # fmt: skip

    def finish(self, board: str, temperature_c: float | None) -> Draft | Refused:
        """The last word."""
        assert self.capture is not None
        self.found = found = conclude(self.capture, self.states, self.minutes)
        if found.verdict == "fail":
            return Refused(found.reason, found.next_move)
        draft, slots = drafted(
            self.subject, self.capture, found, board, self._uid, temperature_c,
            self._applied.ids, self._others(self._uid),
        )  # fmt: skip
        if slots is not None:
            self._keep(*slots)
        return draft

    def partial(self) -> bytes | None:
        """The windows, every half minute; None where they are more than 4 MiB."""
        now_s = time.monotonic()
        if self.capture is None or now_s - self._saved_s < PARTIAL_SECONDS:
            return None
        self._saved_s = now_s
        return write_partial(self.capture, self._uid, self.states, self._done)

    def resume(self, content: bytes) -> bool:
        """Goes on with them."""
        assert self.capture is not None
        done = read_partial(content, self.capture, self._uid, self.states)
        if done is None:
            return False
        self._done = done
        # The machine may have gone to another state while nobody looked.
        self._running = False
        self.capture.begin(None)
        if len(self.states) == 1 or self.capture.bins:
            self._start()
        return True

    @property
    def _left(self) -> int:
        return len(self.states) - self._done

    def _start(self) -> None:
        assert self.capture is not None
        self._running = True
        self.capture.begin(self._done)

    def _step(self, got: Floats) -> None:
        """To the next state, if this one has its minutes."""
        assert self.capture is not None
        if self._running and not self.capture.bins and got[self._done] >= self.minutes:
            self._done, self._running = self._done + 1, False
            self._bells += 1
            self.capture.begin(None)

    def _broken(self) -> str | None:
        """What no more minutes would mend."""
        assert self.capture is not None
        if len(self.capture.hearing.gauges) < BLOCKS_TO_TELL:
            return None
        wrong = [one for one in heard_well(self.capture) if not one.ok and one.name != "gaps"]
        return f"{wrong[0].name}: {wrong[0].sentence}" if wrong else None

    def _next(self, all_there: bool) -> str:
        if self._hurt or all_there:
            return "this ends it"
        if not self._running:
            return f"bring the machine to {self.states[self._done]}, and press Enter when it is"
        where = "" if self.capture and self.capture.bins else f" in {self.states[self._done]}"
        return f"leave the machine as it runs{where}; nobody should touch the sensor"

    def _picture(self, got: Floats) -> tuple[str, ...]:
        lines = []
        for number, (name, minutes) in enumerate(zip(self.states, got.tolist(), strict=True)):
            cells = min(BAR_CELLS, int(BAR_CELLS * minutes / self.minutes))
            here = "@" if self._running and number == self._done and cells < BAR_CELLS else ""
            bar = ("#" * cells + here).ljust(BAR_CELLS, ".")
            # A point would be drawn as a cell.
            clock = f"{int(minutes)}:{int(60.0 * minutes) % 60:02d} of {self.minutes:.0f} min"
            lines.append(f"{name[:NAME_CELLS]:<{NAME_CELLS}} {bar} {clock}")
        return tuple(lines[:12])

    def _rows(self, capture: Capture) -> tuple[tuple[str, str], ...]:
        hearing = capture.hearing
        lost = sum(one.lost for one in hearing.stretches)
        bad = sum(not one.good for one in hearing.stretches)
        rows = [("heard", f"{lost} samples lost; {bad} minutes don't count"),
                ("windows", f"{len(capture.scores)}, at most {capture.most}")]  # fmt: skip
        if capture.scores:
            ratio = self._ratio(capture)
            loud = f": over {MOST_MEDIAN_RATIO:g} x, is it healthy?"
            told = f"{ratio:.2f} x the bundle's own threshold"
            rows.append(("score", told + (loud if ratio > MOST_MEDIAN_RATIO else "")))
        return tuple(rows)

    def _ratio(self, capture: Capture) -> float:
        recent = float(np.median(capture.scores[-RECENT_WINDOWS:]))
        return recent / capture.bundle.manifest.threshold.value

    def _fields(self, capture: Capture, got: Floats) -> dict[str, object]:
        return {
            "windows": len(capture.scores), "minutes": round(float(got.sum()), 3),
            "needed": self.minutes * len(self.states), "state": self.states[
                min(self._done, len(self.states) - 1)],
            "waits": not self._running,
            "ratio": round(self._ratio(capture), 4) if capture.scores else None,
        }  # fmt: skip


def state_names(bundle: Bundle, asked: tuple[str, ...]) -> tuple[str, ...]:
    """What is captured: the bundle's bins of the speed, else what was asked for, else one state."""
    manifest = bundle.manifest
    bins, speed = manifest.threshold.bins, manifest.sensor.speed_channel
    if bins:
        return tuple(f"{speed} {one.low:.4g}-{one.high:.4g}" for one in bins)
    return asked or DEFAULT_STATES


def stream_of(schema: Schema, subject: Subject) -> StreamSchema:
    """The stream that the bundle judges. Raises `CannotCalibrate`."""
    manifest = subject.bundle.manifest
    try:
        streams = (schema.stream(subject.stream),) if subject.stream else schema.streams
    except KeyError as error:
        raise CannotCalibrate(str(error.args[0])) from None
    refusals = {s.name: manifest.refusal(s.channels, s.unit, s.rate_hz) for s in streams}
    fitting = [s for s in streams if refusals[s.name] is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(s.name for s in fitting)
        raise CannotCalibrate(f"the bundle fits several streams: {names}: name one (--stream)")
    raise CannotCalibrate("; ".join(f"{name}: {told}" for name, told in refusals.items()))
