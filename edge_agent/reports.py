"""Reports: facts to messages, at the pace at which people can use them.

In: facts as they happen, ticks. Out: messages to the publisher, lines to the journal.
Never: publishes a score more often than asked, or gaps by the hundred: the first is told at once,
those of the next seconds together. Alarms are never put off.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from edge_agent.assets import Asset
from edge_agent.journal import Journal
from edge_agent.messages import Message, Messages
from edge_agent.mqtt import Publisher
from edge_agent.pipeline import AlarmEvent, Fact, Gap, Judgement

GAP_SECONDS = 10.0


class _Report:
    """What is known of one asset and not told yet."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.status: str | None = None
        self.state: Message | None = None
        self.last: Judgement | None = None
        self.peak_ratio = 0.0
        self.windows = 0
        self.gap: Gap | None = None
        self.gaps = self.samples_lost = 0
        self.gap_due_s = 0.0


class Reports:
    """Tells the world about all assets."""

    def __init__(
        self, assets: Iterable[Asset], messages: Messages, publisher: Publisher,
        journal: Journal, score_interval_seconds: float,
    ) -> None:  # fmt: skip
        self._reports = {asset.name: _Report(asset) for asset in assets}
        self._messages, self._publisher, self._journal = messages, publisher, journal
        self._interval_seconds = score_interval_seconds
        self._scores_due_s = 0.0

    def take(self, fact: Fact) -> None:
        """One fact."""
        report = self._reports[fact.asset]
        if type(fact) is Judgement:
            report.last = fact
            report.windows += 1
            if fact.ratio > report.peak_ratio:
                report.peak_ratio = fact.ratio
        elif type(fact) is AlarmEvent:
            self._alarm(report, fact)
        elif type(fact) is Gap:
            report.gap = fact
            report.gaps += 1
            report.samples_lost += fact.lost
            now_s = time.monotonic()
            if now_s >= report.gap_due_s:
                self._tell_gaps(report, now_s)

    def tick(self, now_s: float) -> None:
        """What has become due."""
        for report in self._reports.values():
            if report.gap and now_s >= report.gap_due_s:
                self._tell_gaps(report, now_s)
        if now_s >= self._scores_due_s:
            self._scores_due_s = now_s + self._interval_seconds
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
            report.state = report.state or self._messages.state(name, None)
            told += [self._messages.asset_status(name, report.asset.status), report.state]
        return told

    def _alarm(self, report: _Report, fact: AlarmEvent) -> None:
        bundle = report.asset.bundle
        assert bundle is not None  # without one there are no facts
        self._publisher.offer(self._messages.event(fact, bundle))
        report.state = self._messages.state(fact.asset, fact)
        self._publisher.tell(report.state)
        change = fact.change
        self._journal.notice(
            f"{fact.asset}: alarm {change.kind}, ratio {change.ratio:.2f}, "
            f"severity {change.severity}: {fact.why.sentence}"
        )

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
