"""Who is told of which episode: holding back, reminders, the rate cap, restarts, and 200 seeded
cases of scores that flap."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.alarms.annunciator import Annunciator, AnnunciatorState, Policy, Told
from edge_agent.alarms.asset_state import AssetState, Now, dump_state, load_state
from edge_agent.broker.payloads import State
from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.judging.alarm import Alarm, AlarmState, Change
from edge_agent.judging.explain import NO_REASON
from edge_agent.judging.pipeline import AlarmEvent, PipelineState
from edge_agent.judging.scoring import Levels, Score

SPEC = AlarmSpec(on_delay_windows=4, off_delay_windows=8)
FREE = Policy(re_alarm_seconds=0.0, begins_an_hour=0)


class Rig:
    """An alarm and its annunciator, one window a second, as a panel drives them."""

    def __init__(self, policy: Policy = FREE, spec: AlarmSpec = SPEC) -> None:
        self.policy, self.spec = policy, spec
        self.alarm, self.annunciator = Alarm(spec), Annunciator(policy)
        self.t = 0.0
        self.told: list[Told] = []

    def window(self, ratio: float) -> None:
        self.t += 1.0
        change = self.alarm.judge(self.t, ratio)
        fact = AlarmEvent("pump", change, ratio, 1.0, NO_REASON, None) if change else None
        self.note(self.annunciator.take(fact) if fact else None)
        self.note(self.annunciator.tick(self.t))

    def windows(self, ratios: list[float]) -> None:
        for ratio in ratios:
            self.window(ratio)

    def note(self, told: Told | None) -> None:
        if told:
            self.told.append(told)

    def restart(self, boot_id: str = "boot", off_seconds: float = 0.0) -> None:
        """As the panel does it: through the bytes of the store."""
        stored = dump_state(
            AssetState(
                now=Now("boot", 1e9 + self.t, self.t),
                pipeline=PipelineState(alarm=self.alarm.state()),
                annunciator=self.annunciator.state,
            )
        )
        begun = self.t if boot_id == "boot" else 0.0
        found = load_state(stored, Now(boot_id, 1e9 + self.t + off_seconds, begun))
        assert found is not None
        self.t = begun
        self.alarm = Alarm(self.spec, found.pipeline.alarm)
        self.annunciator = Annunciator(self.policy, found.annunciator)
        change = self.alarm.lasting(self.t)
        fact = AlarmEvent("pump", change, 1.0, 1.0, NO_REASON, None) if change else None
        self.annunciator.resume(fact)

    @property
    def kinds(self) -> list[str]:
        return [told.fact.change.kind for told in self.told]


def test_one_fault_is_one_begin_and_one_end_in_order() -> None:
    rig = Rig()
    rig.windows([0.1] * 5 + [2.0] * 10 + [4.0] * 5 + [0.1] * 10)
    assert rig.kinds == ["begin", "update", "end"]
    assert [told.seq for told in rig.told] == [1, 2, 3]
    assert [told.reason for told in rig.told] == ["", "worse", "cleared"]


def test_m_of_n_finds_what_never_comes_in_a_row() -> None:
    flapping = [2.0, 0.5] * 20
    in_a_row, three_of_six = (
        Rig(spec=SPEC),
        Rig(spec=AlarmSpec(on_delay_windows=3, on_of_windows=6)),
    )
    in_a_row.windows(flapping)
    three_of_six.windows(flapping)
    assert in_a_row.kinds == []
    assert three_of_six.kinds == ["begin"]


def test_a_fault_that_comes_back_soon_waits_unless_it_is_worse() -> None:
    fault, calm = [2.0] * 6, [0.1] * 10
    same, worse = Rig(Policy(re_alarm_seconds=60)), Rig(Policy(re_alarm_seconds=60))
    same.windows(fault + calm + fault + calm)
    assert same.kinds == ["begin", "end"]
    same.windows([0.1] * 60 + fault + calm)
    assert same.kinds == ["begin", "end", "begin", "end"]
    assert same.told[2].suppressed == 1
    worse.windows(fault + calm + [5.0] * 6 + calm)
    assert worse.kinds == ["begin", "end", "begin", "end"]


def test_a_fault_that_lasts_is_told_late_when_the_wait_is_over() -> None:
    rig = Rig(Policy(re_alarm_seconds=60))
    rig.windows([2.0] * 6 + [0.1] * 10 + [2.0] * 80)
    assert rig.kinds == ["begin", "end", "begin"]
    assert (rig.told[2].reason, rig.told[2].seq) == ("late", 1)
    assert rig.told[2].fact.change.t - rig.told[1].fact.change.t == pytest.approx(60)


def test_snoozed_nothing_is_told_and_nothing_is_lost() -> None:
    rig = Rig()
    rig.annunciator.snooze(100.0)
    rig.windows([2.0] * 50 + [0.1] * 20)
    assert rig.kinds == []
    rig.windows([2.0] * 29)
    assert rig.kinds == []
    rig.windows([2.0] * 10)
    assert rig.kinds == ["begin"]
    assert rig.told[0].suppressed == 1
    assert rig.told[0].fact.change.t == pytest.approx(100.0)


def test_what_an_exchanged_bundle_has_seen_is_told_without_its_picture() -> None:
    """Only the front end of then could draw it."""
    row, wide = np.zeros(1, np.float32), np.zeros((1, 1))
    worst = Score(10.0, 2.0, row[None], wide, Levels(wide[0], wide[0], wide, row, row))
    change = Change("begin", 1, 10.0, 9.0, 2.0, 2.0, 2)
    begin = AlarmEvent("pump", change, 2.0, 1.0, NO_REASON, worst)
    annunciator = Annunciator(Policy(reminder_seconds=5.0))
    told = annunciator.take(begin)
    assert told
    assert told.fact.worst is worst
    annunciator.detach()
    reminder = annunciator.tick(16.0)
    assert reminder
    assert (reminder.reason, reminder.fact.worst) == ("unacknowledged", None)
    annunciator.snooze(30.0)
    worse = begin._replace(change=change._replace(kind="update", t=20.0, severity=3))
    assert annunciator.take(worse) is None
    annunciator.detach()
    late = annunciator.tick(31.0)
    assert late
    assert (late.reason, late.fact.worst, late.seq) == ("late", None, 3)


def test_an_end_is_told_through_a_snooze_and_an_update_after_it() -> None:
    rig = Rig()
    rig.windows([1.2] * 6)
    rig.annunciator.snooze(30.0)
    rig.windows([7.0] * 30)
    assert rig.kinds == ["begin", "update"]
    assert rig.told[1].reason == "late"
    rig.annunciator.snooze(200.0)
    rig.windows([0.1] * 10)
    assert rig.kinds == ["begin", "update", "end"]


def test_the_rate_cap_counts_what_it_holds_back() -> None:
    rig = Rig(Policy(re_alarm_seconds=0, begins_an_hour=3))
    for _ in range(8):
        rig.windows([2.0] * 6 + [0.1] * 10)
    assert Counter(rig.kinds) == {"begin": 3, "end": 3}
    rig.windows([0.1] * 3600 + [2.0] * 6)
    assert rig.told[-1].fact.change.kind == "begin"
    assert rig.told[-1].suppressed == 5


def test_nobody_is_reminded_who_has_acknowledged() -> None:
    rig = Rig(FREE._replace(reminder_seconds=100.0))
    rig.windows([2.0] * 350)
    assert [told.reason for told in rig.told] == [
        "",
        "unacknowledged",
        "unacknowledged",
        "unacknowledged",
    ]
    rig.annunciator.acknowledge()
    rig.windows([2.0] * 350)
    assert len(rig.told) == 4


def test_a_restart_in_mid_episode_begins_nothing_anew() -> None:
    rig = Rig()
    rig.windows([2.0] * 10)
    rig.restart()
    rig.windows([2.0] * 10)
    rig.restart("another boot", off_seconds=120.0)
    rig.windows([2.0] * 10 + [0.1] * 10)
    assert rig.kinds == ["begin", "end"]
    assert [told.seq for told in rig.told] == [1, 2]
    assert {told.fact.change.number for told in rig.told} == {1}


def test_a_snooze_outlives_a_reboot_by_the_wall_clock() -> None:
    rig = Rig()
    rig.windows([0.1] * 100)
    rig.annunciator.snooze(rig.t + 60.0)
    rig.restart("another boot", off_seconds=50.0)
    assert rig.annunciator.snoozed(rig.t + 9.0)
    assert not rig.annunciator.snoozed(rig.t + 11.0)


def test_what_was_held_back_is_found_again_after_a_restart() -> None:
    rig = Rig()
    rig.annunciator.snooze(20.0)
    rig.windows([2.0] * 10)
    rig.restart()
    rig.windows([2.0] * 20)
    assert rig.kinds == ["begin"]
    assert rig.told[0].fact.change.number == 1


def test_reminders_go_on_after_a_restart() -> None:
    rig = Rig(Policy(reminder_seconds=100.0))
    rig.windows([2.0] * 20)
    rig.restart()
    rig.windows([2.0] * 250)
    assert [told.reason for told in rig.told] == ["", "unacknowledged", "unacknowledged"]
    assert rig.told[-1].fact.change.severity == rig.told[0].fact.change.severity
    rig.annunciator.acknowledge()
    rig.restart()
    rig.windows([2.0] * 250)
    assert len(rig.told) == 3


def test_what_got_worse_while_snoozed_is_told_after_a_restart() -> None:
    published = State(
        state="snoozed", severity=2, ratio=2.0, since="", ts="", event_id="", acknowledged=False,
        learning=False,
    )  # fmt: skip
    alarm = AlarmState(active=True, number=1, severity=4, peak_ratio=9.0)
    kept = AssetState(
        now=Now("boot", 1.0, 1.0), pipeline=PipelineState(alarm=alarm), state=published,
        annunciator=AnnunciatorState(told_number=1, seq=1, ended=False),
    )  # fmt: skip
    found = load_state(dump_state(kept), Now("boot", 2.0, 2.0))
    assert found is not None
    again = Alarm(SPEC, found.pipeline.alarm)
    assert again.judge(3.0, 2.0) is None
    change = again.judge(4.0, 9.0)
    assert change is not None
    assert (change.kind, change.severity) == ("update", 4)


def test_the_version_before_goes_on_where_a_later_one_was() -> None:
    later = AssetState(
        now=Now("boot", 1.0, 1.0), pipeline=PipelineState(alarm=AlarmState(active=True, number=7)),
        annunciator=AnnunciatorState(told_number=7, seq=3, ended=False),
    ).model_dump()  # fmt: skip
    for part in (later, later["annunciator"], later["pipeline"], later["pipeline"]["alarm"]):
        part["news"] = 1
    found = load_state(json.dumps(later).encode(), Now("boot", 2.0, 2.0))
    assert found is not None
    assert (found.pipeline.alarm.number, found.annunciator.seq) == (7, 3)


@pytest.mark.parametrize("stored", [b"", b"{}", b"[1]", b"\xff", b'{"now": ["x", 1e999, 0]}'])
def test_a_state_that_makes_no_sense_is_none(stored: bytes) -> None:
    assert load_state(stored, Now("boot", 0.0, 0.0)) is None


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), -float("inf")])
def test_a_reason_that_is_no_number_outlives_the_process(odd: float) -> None:
    why = NO_REASON._replace(observed=odd)
    state = AssetState(
        now=Now("boot", 1.0, 1.0), pipeline=PipelineState(why=why), annunciator=AnnunciatorState()
    )
    found = load_state(dump_state(state), Now("boot", 2.0, 2.0))
    assert found is not None
    assert repr(found.pipeline.why.observed) == repr(odd)


def flapping(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Ratios of 2,000 windows of one of five kinds of trouble; before which of them there is a gap
    and before which a restart."""
    rng = np.random.default_rng(seed)
    noise = rng.lognormal(0.0, 0.25, 2000)
    time = np.arange(2000)
    level = {
        0: np.full(2000, 0.95),  # around the threshold all the time
        1: np.where(time % rng.integers(20, 120) < rng.integers(5, 15), 3.0, 0.4),  # bursts
        2: 0.2 + 3.0 * np.maximum(0.0, 1.0 - np.abs(time - 1000) / 800),  # up and down slowly
        3: np.where((time > 500) & (time < 1500), 2.0, 0.3),  # one plain fault
        4: rng.choice([0.3, 0.9, 1.1, 5.0], 40).repeat(50),  # steps
    }[seed % 5]
    return level * noise, rng.random(2000) < 0.003, rng.random(2000) < 0.002


@pytest.mark.parametrize("group", range(20))
def test_flap_battery(group: int) -> None:
    """Two hundred cases: one begin and one end an episode, numbered without a hole, nothing told
    again within the re-alarm time but what is worse, whatever gaps and restarts come between."""
    for seed in range(10 * group, 10 * group + 10):
        rig = Rig(Policy(re_alarm_seconds=120.0, begins_an_hour=0))
        for ratio, gap, restart in zip(*flapping(seed), strict=True):
            if gap:
                rig.alarm.gap()
            if restart:
                rig.restart()
            rig.window(float(ratio))
        rig.windows([0.1] * 20)
        check_told(rig.told, 120.0)
        assert rig.told or seed % 5 in (0, 4), "a fault like these is told"


def check_told(told: list[Told], re_alarm_seconds: float) -> None:
    episodes: dict[int, list[Told]] = {}
    for each in told:
        episodes.setdefault(each.fact.change.number, []).append(each)
    for each in episodes.values():
        kinds = [one.fact.change.kind for one in each]
        assert (kinds[0], kinds[-1]) == ("begin", "end")
        assert kinds.count("begin") == kinds.count("end") == 1
        assert [one.seq for one in each] == list(range(1, len(each) + 1))
        severities = [one.fact.change.severity for one in each if one.reason == "worse"]
        assert severities == sorted(set(severities))
    ordered = list(episodes.values())
    for before, after in zip(ordered, ordered[1:], strict=False):
        pause = after[0].fact.change.t - before[-1].fact.change.t
        worse = after[0].fact.change.severity > before[-1].fact.change.severity
        assert pause >= re_alarm_seconds or worse


def test_an_alarm_state_is_what_it_was() -> None:
    alarm = Alarm(SPEC)
    for t in range(6):
        alarm.judge(float(t), 2.0)
    assert Alarm(SPEC, alarm.state()).state() == alarm.state()
    assert AlarmState.model_validate_json(alarm.state().model_dump_json()) == alarm.state()
    assert AnnunciatorState() == Annunciator(FREE).state
