"""Panel: one asset's alarm panel: what people are told of it, what they answer, what is remembered.

In: alarm events of the asset's pipeline, what operators do, the time. Out: events and states to the
publisher, notes to the store, lines to the journal. Never: puts off what may be told now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edge_agent.alarms.annunciator import Annunciator, Told
from edge_agent.alarms.asset_state import AssetState, Now, dump_state, load_state
from edge_agent.assets import Asset
from edge_agent.broker.messages import Message, Messages
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.payloads import State, short
from edge_agent.broker.publisher import Publisher
from edge_agent.broker.store import Note
from edge_agent.config import AssetSettings
from edge_agent.journal import Journal
from edge_agent.judging.pipeline import AlarmEvent, PipelineState, Rules

Word = Literal["ok", "alarm", "acked", "snoozed"]

# A threshold that follows its machine is noted no more often than this: cards wear out.
SAVE_SECONDS = 600.0


class Desk:
    """What all panels of a gateway share."""

    def __init__(
        self, messages: Messages, publisher: Publisher, outbox: Outbox, journal: Journal,
        now: Callable[[], Now],
    ) -> None:  # fmt: skip
        self.messages, self.publisher, self.outbox = messages, publisher, outbox
        self.journal, self.now = journal, now


class Panel:
    """One asset's. `told` is called with each thing that people are told, and the message in which
    they were, after they were."""

    def __init__(self, asset: Asset, desk: Desk, told: Callable[[Told, Message], None]) -> None:
        self.asset = asset
        self.frozen = False
        self.annunciator = Annunciator(asset.settings.alarm.policy)
        self._desk, self._told = desk, told
        self._latest: Told | None = None
        self._judge = asset.bundle
        self._saved, self._save_due_t = b"", 0.0
        self._restore(desk.outbox.notes.get(self._key))

    @property
    def message(self) -> Message:
        """The asset's state, to be retained."""
        return self._desk.messages.state(self.asset.name, self._state)

    @property
    def state(self) -> State:
        """How the asset is."""
        return self._state

    def knows(self, event_id: str) -> bool:
        """Whether this is an episode that people were told of."""
        head, _, digits = event_id.rpartition("-")
        mine, _, _ = self._desk.messages.event_id(self.asset.name, 0).rpartition("-")
        number = int(digits) if digits.isdecimal() and len(digits) < 10 else 0
        return head == mine and 1 <= number <= self.annunciator.state.told_number

    def revise(self, settings: AssetSettings, rules: Rules | None) -> None:
        """The site has changed its mind about alarms."""
        self.annunciator.revise(settings.alarm.policy)
        if self.asset.pipeline and rules:
            self.asset.pipeline.adopt(rules)

    def adopt(self, found: Asset, t: float) -> None:
        """Another bundle judges the asset from its next sample on; its episode goes on, snoozed
        and acknowledged as it was. Raises as `Asset.adopt`."""
        stored = self._desk.outbox.notes.get(self._key)
        if found.pipeline and not self.asset.pipeline and stored:
            # Nothing has judged it since the start: it goes on where an earlier run was.
            before = load_state(stored, self._desk.now())
            found.pipeline.restore(before.pipeline if before else PipelineState())
        self.asset.adopt(found)
        self.annunciator.detach()
        self._tell(t, None)

    def take(self, fact: AlarmEvent) -> None:
        """A change of the alarm."""
        self._judge = self.asset.bundle
        self._tell(fact.change.t, self.annunciator.take(fact))

    def tick(self, t: float) -> None:
        """What has become due; ten times a second or so."""
        told = self.annunciator.tick(t)
        if told or self._word(t) != self._state.state:
            self._tell(t, told)
        elif t >= self._save_due_t:
            self._save_due_t = t + SAVE_SECONDS
            self._save()

    def acknowledge(self, t: float) -> None:
        """Somebody has seen the alarm."""
        self.annunciator.acknowledge()
        self._tell(t, None)

    def snooze(self, t: float, seconds: float) -> None:
        """Nothing is told for so long; 0 ends that."""
        self.annunciator.snooze(t + seconds if seconds else 0.0)
        self._tell(t, self.annunciator.tick(t))

    def freeze(self, t: float, frozen: bool) -> None:
        """The threshold stands still, or follows again."""
        self.frozen = frozen
        self._tell(t, None)

    def accept_new_normal(self, t: float) -> float:
        """What the last windows were is normal; the new threshold. Raises `ValueError` if there
        are too few of them, or nothing judges the asset."""
        pipeline = self.asset.pipeline
        if pipeline is None:
            raise ValueError(self.asset.refusal or "nothing judges this asset")
        fact = pipeline.accept_new_normal(t)
        self.annunciator.acknowledge()
        if fact:
            self.take(fact)
        else:
            self._tell(t, None)
        return pipeline.threshold.value

    @property
    def _key(self) -> str:
        return f"asset/{self.asset.name}"

    def _restore(self, stored: bytes | None) -> None:
        now = self._desk.now()
        found = load_state(stored, now) if stored else None
        if found:
            self.frozen = found.frozen
            self.annunciator = Annunciator(self.annunciator.policy, found.annunciator)
            if self.asset.pipeline:
                self.asset.pipeline.restore(found.pipeline)
                self.annunciator.resume(self.asset.pipeline.lasting(now.monotonic_s))
        self.annunciator.after(self._desk.outbox.killed)
        since = self._desk.messages.time(now.monotonic_s)
        self._state = (found.state if found else None) or State(
            state="ok", severity=0, ratio=0.0, since=since, ts=since, event_id="",
            acknowledged=True, learning=True,
        )  # fmt: skip
        self._apply(now.monotonic_s)

    def _tell(self, t: float, told: Told | None) -> None:
        """The event first, for people wait for it; its note with it, then the state."""
        before, event = self._state, None
        if told:
            self._latest, event = told, self._event(told)
            self._desk.publisher.offer(event, lambda: self._settle(t))
        elif note := self._settle(t):
            self._desk.outbox.note(note)
        if self._state != before:
            self._desk.publisher.tell(self.message)
        if told and event:
            change, why = told.fact.change, told.fact.why
            self._desk.journal.notice(
                f"{self.asset.name}: alarm {change.kind}, ratio {change.ratio:.2f}, "
                f"severity {change.severity}: {why.sentence}"
            )
            self._told(told, event)

    def _settle(self, t: float) -> Note | None:
        """The state after all that has happened, and what is to be remembered of it."""
        before = self._state
        self._apply(t)
        if self._state != before:
            self._state = self._state.model_copy(update={"ts": self._desk.messages.time(t)})
        return self._note()

    def _word(self, t: float) -> Word:
        told = self.annunciator.state
        if self.annunciator.snoozed(t):
            return "snoozed"
        if told.ended:
            return "ok"
        return "acked" if told.acknowledged else "alarm"

    def _apply(self, t: float) -> None:
        """The published state follows from all the others; so does whether anything is learnt."""
        told, pipeline, messages = self.annunciator.state, self.asset.pipeline, self._desk.messages
        learning = told.acknowledged and not self.frozen
        if pipeline:
            pipeline.teachable = learning
        word = self._word(t)
        changes: dict[str, object] = {
            "state": word,
            "acknowledged": told.acknowledged,
            "learning": learning,
            "snoozed_until": messages.time(told.snoozed_until_t) if word == "snoozed" else None,
        }
        if word != self._state.state:
            changes["since"] = messages.time(t)
        if self._latest:
            fact = self._latest.fact
            changes |= {
                "severity": 0 if told.ended else fact.change.severity,
                "ratio": short(fact.change.ratio),
                "event_id": messages.event_id(self.asset.name, fact.change.number),
                "top1_ch": fact.why.channels[0].name if fact.why.channels else None,
                "why": fact.why.sentence,
            }
        self._state = self._state.model_copy(update=changes)

    def _event(self, told: Told) -> Message:
        bundle = self._judge  # what is told again was judged by the bundle of then
        assert bundle is not None  # without one there are no facts
        return self._desk.messages.event(told, bundle)

    def _save(self) -> None:
        """Notes what has changed."""
        if note := self._note():
            self._desk.outbox.note(note)

    def _note(self) -> Note | None:
        """What is to be remembered, if that has changed since the last one."""
        pipeline = self.asset.pipeline
        if pipeline is None:
            return None
        state = AssetState(
            now=self._desk.now(), pipeline=pipeline.state(), annunciator=self.annunciator.state,
            frozen=self.frozen, state=self._state,
        )  # fmt: skip
        lasting = state.model_dump_json(exclude={"now"}).encode()
        if lasting == self._saved:
            return None
        self._saved = lasting
        return Note(self._key, dump_state(state))
