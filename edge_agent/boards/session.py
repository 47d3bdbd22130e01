"""Session: one board of the gateway: its link, the assets that live on it, its recorder.

In: bytes and changes of its port, ticks. Out: facts of its assets, and what to send to the board.
Never: owns the port, lets one asset's failure reach another, says the same trouble twice.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from typing import TypeAlias

from edge_agent.assets import Asset
from edge_agent.boards.calibrated import Calibrated
from edge_agent.boards.evidence import Tail
from edge_agent.boards.recorder import Recorder
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.journal import Journal
from edge_agent.judging.pipeline import Fact, Pipeline
from firmware_bridge.link import Event, Identified, Link, State, StateChanged
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema

MAX_AHEAD_SECONDS = 0.005
# So much may wait in the kernel: it goes with the device when the cable is pulled, and it is less
# than two batches of 25 ms. (A terminal holds 4 KiB.)
FILL_BYTES = 900

SamplesObserver: TypeAlias = Callable[[str, Samples], None]


class BoardSession:
    """One board. `lost` is set when its port should be closed, `changed` when an asset's status
    may have changed; whoever acts on them resets them. `trouble` is why it does not stream."""

    def __init__(
        self, name: str, link: Link, assets: Sequence[Asset], recorder: Recorder | None,
        journal: Journal, observe_samples: SamplesObserver | None = None, tail: Tail | None = None,
        shelf: Shelf | None = None,
    ) -> None:  # fmt: skip
        self.calibrated = Calibrated(name, shelf, journal)
        self._observe_samples = observe_samples
        self.name = name
        self.link = link
        self.assets = tuple(assets)
        self.recorder = recorder
        self.tail = tail or Tail()
        self.lost = False
        self.changed = False
        self.trouble = ""
        self.sessions = 0
        self._journal = journal
        self._routes: dict[int, tuple[Asset, ...]] = {}
        self._due_s: dict[str, float] = {}
        self._fill_seconds = math.inf
        self._complaint: str | None = None

    @property
    def _identified_as(self) -> Schema | None:
        """What the board has said that it is, if it is there now."""
        there = self.link.state in (State.SYNCING, State.STREAMING)
        return self.link.schema if there else None

    @property
    def streaming(self) -> bool:
        """Whether samples come."""
        return self.link.state is State.STREAMING

    def received(self, chunk: bytes, now_s: float) -> list[Fact]:
        """What a chunk from the port brings to light."""
        if self.recorder:
            self.recorder.take(chunk, now_s)
        self.tail.take(chunk, now_s)
        facts: list[Fact] = []
        for event in self.link.feed(chunk, now_s):
            if type(event) is Samples:
                samples = self.calibrated.apply(event)
                for asset in self._routes.get(event.stream, ()):
                    facts += self._judge(asset, samples, now_s)
            else:
                self._note(event, now_s)
        self.changed = self.changed or self.calibrated.changed
        return facts

    def take_up(self, now_s: float) -> str:
        """The shelf of calibrations has changed: from the next sample on they are applied, and
        every window begins anew. What came of it in one line."""
        schema = self.link.schema
        if schema is None:
            return f"board {self.name} has not answered yet: they are applied when it does"
        baselines = [told for asset in self.assets if (told := asset.take_up())]
        if not self.calibrated.begin(schema, now_s):
            same = f"board {self.name}: the same calibrations as before"
            self.changed = self.changed or bool(baselines)
            return "; ".join(baselines) or same
        self._calibrate()
        names = [self.calibrated.id_of(stream.id) for stream in schema.streams]
        return (
            f"board {self.name}: {', '.join(filter(None, names)) or 'no calibration'} from now on"
        )

    def check(self, found: Asset) -> None:
        """Raises `ValueError` if what is loaded can't judge the stream that comes now."""
        schema = self._identified_as
        if schema is not None and found.fit(schema) is None:
            raise ValueError(found.refusal)

    def renew(self, asset: Asset) -> None:
        """Another bundle judges one of its assets, from the next sample on."""
        self._due_s.pop(asset.name, None)
        schema, self.changed = self._identified_as, True
        if schema is None:
            return
        self._route(asset, schema)
        self._calibrate()
        fed = any(asset in assets for assets in self._routes.values())
        asset.streaming = fed and self.streaming

    def rest_seconds(self, now_s: float) -> float:
        """How long nothing can come that somebody waits for: no window is complete before its
        last sample was taken, so what comes until then may as well be read together."""
        if self.link.waiting:
            return 0.0
        due_s = min(self._due_s.values(), default=math.inf)
        return min(due_s - now_s, self._fill_seconds)

    def tick(self, now_s: float) -> None:
        """Ten times a second or so."""
        for event in self.link.tick(now_s):
            self._note(event, now_s)
        if self.recorder:
            self.recorder.tick(now_s)
            if self.recorder.problem != self._complaint:
                self._complaint = self.recorder.problem
                self._journal.warning(self._complaint or f"recorder: {self.name} is recorded again")

    def opened(self, now_s: float) -> None:
        """The port is open: the link is where it was before, asking who is there."""
        self.link.opened(now_s)

    def closed(self, reason: str) -> None:
        """The port is gone or can't be opened."""
        self.link.closed(reason)
        self.rest()
        self._complain(reason)

    def _judge(self, asset: Asset, samples: Samples, now_s: float) -> list[Fact]:
        pipeline = asset.pipeline
        assert pipeline is not None  # only those are routed
        if self._observe_samples:
            self._observe_samples(asset.name, samples)
        try:
            facts = pipeline.feed(samples)
        except Exception as error:  # noqa: BLE001 - a bug in judging one asset must not end the others
            asset.fault = f"{type(error).__name__}: {error}"
            place = "".join(traceback.format_tb(error.__traceback__)[-1:]).strip()
            self._journal.error(f"{asset.name}: stopped by a fault: {asset.fault} ({place})")
            self._unroute(asset)
            self._due_s.pop(asset.name, None)
            self.changed = True
            return []
        self._due_s[asset.name] = _due_s(pipeline, samples, now_s)
        return facts

    def _note(self, event: Event, now_s: float) -> None:
        if isinstance(event, Identified):
            self.calibrated.begin(event.schema, now_s)
            self._identified(event)
            self._calibrate()
        elif isinstance(event, StateChanged):
            if event.state is State.STREAMING:
                self._streaming()
            elif event.state is State.OPENING:
                # Nobody has opened anything: the board has begun anew in the middle of a session.
                self.rest()
                self._complain(event.reason)
            elif event.state is State.STALE:
                self.lost = True
                self._complain(event.reason)

    def _identified(self, event: Identified) -> None:
        self._routes = {}
        for asset in self.assets:
            self._route(asset, event.schema)
        self.changed = True
        if self.recorder:
            self.recorder.begin(event.document)
        self.tail.begin(event.document)

    def _route(self, asset: Asset, schema: Schema) -> None:
        """The asset is fed from the stream that it is for, or the journal says why not."""
        before, note = asset.refusal, asset.note
        stream = asset.fit(schema)
        if asset.note and asset.note != note:
            self._journal.warning(asset.note)
        self._unroute(asset)
        if stream is not None:
            self._routes[stream] = (*self._routes.get(stream, ()), asset)
        elif asset.refusal != before:
            self._journal.error(f"{asset.name}: refused: {asset.refusal}")

    def _unroute(self, asset: Asset) -> None:
        self._routes = {
            stream: tuple(one for one in assets if one is not asset)
            for stream, assets in self._routes.items()
        }

    def _calibrate(self) -> None:
        """Every pipeline knows what its samples went through."""
        for stream, assets in self._routes.items():
            for asset in assets:
                if asset.pipeline is not None:
                    asset.pipeline.calibrate(self.calibrated.id_of(stream))
        self.changed = True

    def _streaming(self) -> None:
        schema = self.link.schema
        streams = schema.streams if schema else ()
        bytes_a_second = sum(stream.rate_hz * stream.sample_bytes for stream in streams)
        self._fill_seconds = FILL_BYTES / max(bytes_a_second, 1.0)
        self.sessions += 1
        self.trouble, self.changed = "", True
        for assets in self._routes.values():
            for asset in assets:
                asset.streaming = True
        what = f"{schema.board} {schema.uid}, firmware {schema.firmware}" if schema else ""
        self._journal.info(f"board {self.name}: streaming ({what})")

    def rest(self) -> None:
        """No samples come: the assets are offline and the recording ends until they do."""
        if self.recorder:
            self.recorder.end()
        self.tail.end()
        self._due_s.clear()
        for asset in self.assets:
            self.changed = self.changed or asset.streaming
            asset.streaming = False

    def _complain(self, reason: str) -> None:
        if reason != self.trouble:
            self.trouble = reason
            self._journal.warning(f"board {self.name}: {reason}; trying again")


def _due_s(pipeline: Pipeline, samples: Samples, now_s: float) -> float:
    """When the last sample of the next window will have been taken, in host seconds; now, if the
    board's time is not to be trusted because it is ahead of ours."""
    end_s = samples.t0 + len(samples.values) / samples.rate_hz
    if end_s > now_s + MAX_AHEAD_SECONDS:
        return now_s
    # Of the first row that is missing, all but one sample may be here already.
    rows = (pipeline.windows.missing - 1) * pipeline.front_end.decimate + 1
    return end_s + rows / samples.rate_hz
