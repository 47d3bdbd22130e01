"""Reports: facts to messages, at the pace at which people can use them.

In: facts as they happen, ticks. Out: messages to the publisher, alarm events to the panels.
Never: publishes a score more often than asked, or gaps by the hundred: the first is told at once,
those of the next seconds together. Alarms are never put off.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable

from edge_agent.alarms.annunciator import Told
from edge_agent.alarms.panel import Desk, Panel
from edge_agent.assets import Asset
from edge_agent.boards.evidence import Evidence
from edge_agent.broker.messages import Message
from edge_agent.judging.drift import Drift
from edge_agent.judging.pipeline import AlarmEvent, Fact, Gap, Judgement
from edge_agent.picture.explanation import Explanation
from edge_agent.picture.heat_map import Caption
from edge_agent.picture.pictures import Pictures

GAP_SECONDS = 10.0


class _Report:
    """What is known of one asset and not told yet."""

    def __init__(self, asset: Asset, panel: Panel) -> None:
        self.asset = asset
        self.panel = panel
        self.status: str | None = None
        self.last: Judgement | None = None
        self.peak_ratio = 0.0
        self.windows = 0
        self.gap: Gap | None = None
        self.gaps = self.samples_lost = 0
        self.gap_due_s = 0.0
        self.picture: Message | None = None


class Reports:
    """Tells the world about all assets."""

    def __init__(
        self, assets: Iterable[Asset], desk: Desk, evidence: Evidence,
        score_interval_seconds: float,
    ) -> None:  # fmt: skip
        self._evidence, self._pictures = evidence, Pictures()
        self._reports = {
            asset.name: _Report(asset, Panel(asset, desk, self._told)) for asset in assets
        }
        self._desk, self._messages, self._publisher = desk, desk.messages, desk.publisher
        self.interval_seconds = score_interval_seconds
        self._scores_due_s = 0.0

    @property
    def panels(self) -> dict[str, Panel]:
        """The panel of each asset."""
        return {name: report.panel for name, report in self._reports.items()}

    def take(self, fact: Fact) -> None:
        """One fact."""
        report = self._reports[fact.asset]
        if type(fact) is Judgement:
            report.last = fact
            report.windows += 1
            if fact.ratio > report.peak_ratio:
                report.peak_ratio = fact.ratio
        elif type(fact) is AlarmEvent:
            report.panel.take(fact)
        elif type(fact) is Gap:
            report.gap = fact
            report.gaps += 1
            report.samples_lost += fact.lost
            now_s = time.monotonic()
            if now_s >= report.gap_due_s:
                self._tell_gaps(report, now_s)
        elif type(fact) is Drift:
            self._tell_drift(report, fact)

    def tick(self, now_s: float) -> None:
        """What has become due."""
        for report in self._reports.values():
            report.panel.tick(now_s)
            if report.gap and now_s >= report.gap_due_s:
                self._tell_gaps(report, now_s)
        for drawn in self._pictures.done():
            self._tell_picture(drawn)
        if now_s >= self._scores_due_s:
            self._scores_due_s = now_s + self.interval_seconds
            # All at one moment: the broker's side is woken once, not once an asset.
            for report in self._reports.values():
                self._tell_score(report)

    def statuses(self) -> bool:
        """Tells the status of assets whose status has changed; whether there was one."""
        changed = False
        for report in self._reports.values():
            status = report.asset.status
            if status != report.status:
                report.status, changed = status, True
                self._publisher.tell(self._messages.asset_status(report.asset.name, status))
        return changed

    def retained(self) -> list[Message]:
        """What a broker that remembers nothing must be told: status and state of every asset."""
        told: list[Message] = []
        for name, report in self._reports.items():
            report.status = report.asset.status
            told += [self._messages.asset_status(name, report.asset.status), report.panel.message]
            if report.picture:
                told.append(report.picture)
        return told

    def close(self) -> None:
        """Draws no more."""
        self._pictures.close()

    def _told(self, told: Told, event: Message) -> None:
        """People were told of an episode: its recording is kept, its picture drawn."""
        fact, asset = told.fact, self._reports[told.fact.asset].asset
        pipeline, change, messages = asset.pipeline, fact.change, self._messages
        assert pipeline is not None  # without one there are no facts
        event_id, ts = messages.event_id(asset.name, change.number), messages.time(change.t)
        if change.kind == "end":
            self._evidence.ended(event_id, ts)
            return
        if change.kind == "begin":
            window = pipeline.manifest.window.length * pipeline.front_end.decimate
            more = {
                "stream": asset.settings.stream,
                "window_seconds": window / pipeline.manifest.sensor.rate_hz,
            }
            facts = json.loads(event.payload) | more
            board, now_s = asset.settings.board, time.monotonic()
            self._evidence.keep(event_id, asset.name, board, now_s, facts)
        if fact.worst:
            caption = Caption(event_id, asset.name, ts, change.peak_ratio)
            self._pictures.order(caption, fact.worst, pipeline)

    def _tell_picture(self, drawn: Explanation) -> None:
        key = f"{drawn.event_id}/explain/{drawn.ts}"
        self._publisher.offer(self._messages.explanation(drawn.asset, drawn, key))
        picture = self._messages.picture(drawn.asset, base64.b64decode(drawn.png))
        self._reports[drawn.asset].picture = picture
        self._publisher.tell(picture)

    def _tell_drift(self, report: _Report, fact: Drift) -> None:
        bundle = report.asset.bundle
        assert bundle is not None  # without one there are no facts
        self._publisher.offer(self._messages.drift(fact, bundle))
        self._desk.journal.warning(f"{fact.asset}: {fact.sentence}")

    def _tell_gaps(self, report: _Report, now_s: float) -> None:
        gap, report.gap = report.gap, None
        if gap:
            self._publisher.offer(self._messages.gap(gap, report.gaps, report.samples_lost))
        report.gaps = report.samples_lost = 0
        report.gap_due_s = now_s + GAP_SECONDS

    def _tell_score(self, report: _Report) -> None:
        if report.last and report.windows and self._publisher.connected:
            self._publisher.tell(
                self._messages.score(report.last, report.peak_ratio, report.windows)
            )
        report.peak_ratio, report.windows = 0.0, 0
