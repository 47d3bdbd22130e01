"""Annunciator: which changes of an episode people are told, and when.

In: the alarm events of one asset, what operators say, the time. Out: `Told` values.
Never: hides an episode for good (what is held back is told when it still lasts, else counted in
the next one's `suppressed`), tells an end without its begin or a begin twice, looks at a clock.

An episode is held back while the asset is snoozed; when it comes sooner than `re_alarm_seconds`
after the last end and is no worse than that one was; and when `begins_an_hour` were told already.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from edge_agent.judging.alarm import AlarmState
from edge_agent.judging.pipeline import AlarmEvent

HOUR_SECONDS = 3600.0
# A process that was killed has told fewer messages of an episode than this that were not recorded.
UNRECORDED = 1000
Reason = Literal["", "worse", "late", "unacknowledged", "cleared", "accepted"]


class Policy(NamedTuple):
    """How often people may be told. 0 turns a rule off."""

    re_alarm_seconds: float = 60.0
    reminder_seconds: float = 0.0
    begins_an_hour: int = 12


class Told(NamedTuple):
    """What people are told now. `seq` counts within the episode, from 1 or from behind what was
    passed over; `suppressed` episodes were not told since the last that was. `late`: it began while
    nobody was to be told."""

    fact: AlarmEvent
    seq: int
    reason: Reason
    suppressed: int


class AnnunciatorState(BaseModel):
    """What outlives the process; times in host seconds. `told_number` is the episode last told,
    `passed` how many numbers of each episode are not used."""

    model_config = ConfigDict(extra="ignore")

    told_number: int = 0
    seq: int = 0
    passed: int = 0
    ended: bool = True
    acknowledged: bool = True
    snoozed_until_t: float = 0.0
    suppressed: int = 0
    begins_t: list[float] = []
    told_t: float = 0.0
    end_t: float | None = None
    end_severity: int = 0


class Annunciator:
    """One asset's. `state` is all there is to it but for what is held back."""

    def __init__(self, policy: Policy, state: AnnunciatorState | None = None) -> None:
        self.policy = policy
        self.state = state or AnnunciatorState()
        self._begins_t = deque(self.state.begins_t, max(policy.begins_an_hour, 1))
        self._held: AlarmEvent | None = None
        self._latest: AlarmEvent | None = None

    def revise(self, policy: Policy) -> None:
        """Another policy from now on."""
        self.policy = policy
        self._begins_t = deque(self.state.begins_t, max(policy.begins_an_hour, 1))

    @property
    def acknowledged(self) -> bool:
        """Whether somebody has seen the last episode that was told."""
        return self.state.acknowledged

    def snoozed(self, t: float) -> bool:
        """Whether nothing is to be told."""
        return t < self.state.snoozed_until_t

    def take(self, fact: AlarmEvent) -> Told | None:
        """A change of the alarm."""
        change, state = fact.change, self.state
        if change.kind == "end":
            return self._end(fact)
        if change.number != state.told_number:
            return self._begin(fact, "")
        self._latest = fact
        if self.snoozed(change.t):
            self._held = fact
            return None
        return self._tell(fact, "worse")

    def tick(self, t: float) -> Told | None:
        """What has become due."""
        held, state, latest = self._held, self.state, self._latest
        if held is not None and not self._holds(t, held.change.severity):
            self._held = None
            if held.change.number != state.told_number:
                return self._begin(_at(held, t), "late")
            return self._tell(_at(held, t), "late")
        remind = self.policy.reminder_seconds
        due = remind > 0 and latest is not None and not (state.ended or state.acknowledged)
        if due and latest and t >= state.told_t + remind and not self.snoozed(t):
            return self._tell(_at(latest, t), "unacknowledged")
        return None

    def detach(self) -> None:
        """The model that judged is gone: what is told again of its windows has no picture."""
        if self._held:
            self._held = self._held._replace(worst=None)
        if self._latest:
            self._latest = self._latest._replace(worst=None)

    def resume(self, fact: AlarmEvent | None) -> None:
        """What an earlier process has told of lasts: people are reminded of it."""
        if fact and not self.state.ended and fact.change.number == self.state.told_number:
            self._latest = fact

    def after(self, killed: int) -> None:
        """So many earlier processes were killed, and may have told more than is recorded. What they
        told then is told anew under the name of its episode, but never under a number that may
        have been used: whoever throws copies away would take it for one."""
        more = max(0, killed * UNRECORDED - self.state.passed)
        self.state.passed += more
        self.state.seq += more

    def acknowledge(self) -> None:
        """Somebody has seen it."""
        self.state.acknowledged = True

    def snooze(self, until_t: float) -> None:
        """Nothing is told until then; 0 ends it."""
        self.state.snoozed_until_t = until_t

    def _begin(self, fact: AlarmEvent, reason: Reason) -> Told | None:
        t, state = fact.change.t, self.state
        if self._holds(t, fact.change.severity):
            self._held = fact
            return None
        self._held, self._latest = None, fact
        self._begins_t.append(t)
        state.begins_t = list(self._begins_t)
        state.told_number, state.seq = fact.change.number, state.passed
        state.ended = state.acknowledged = False
        begin = fact._replace(change=fact.change._replace(kind="begin"))
        return self._tell(begin, reason)

    def _end(self, fact: AlarmEvent) -> Told | None:
        self._held = self._latest = None
        state, change = self.state, fact.change
        if change.number != state.told_number:
            state.suppressed += 1
            return None
        state.ended, state.end_t, state.end_severity = True, change.t, change.severity
        return self._tell(fact, "cleared" if change.ratio else "accepted")

    def _holds(self, t: float, severity: int) -> bool:
        """Whether an episode of that severity would be held back."""
        state, policy = self.state, self.policy
        if self.snoozed(t):
            return True
        if not state.ended:  # an update of what was told already
            return False
        soon = state.end_t is not None and t < state.end_t + policy.re_alarm_seconds
        if soon and severity <= state.end_severity:
            return True
        full = 0 < policy.begins_an_hour <= len(self._begins_t)
        return full and t < self._begins_t[0] + HOUR_SECONDS

    def _tell(self, fact: AlarmEvent, reason: Reason) -> Told:
        state = self.state
        state.seq += 1
        state.told_t = fact.change.t
        suppressed, state.suppressed = state.suppressed, 0
        return Told(fact, state.seq, reason, suppressed)


def _at(fact: AlarmEvent, t: float) -> AlarmEvent:
    """The same, told later."""
    return fact._replace(change=fact.change._replace(t=t, kind="update"))


def found_again(alarm: AlarmState, annunciator: AnnunciatorState) -> AlarmState:
    """The alarm of an earlier process: an episode that was being held back begins anew, under its
    old number, because the reason for it went with that process."""
    if alarm.active and alarm.number != annunciator.told_number:
        return AlarmState(number=alarm.number - 1)
    return alarm
