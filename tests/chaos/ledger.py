"""Ledger: all that had to arrive against all that did.

In: events that were stored somewhere, events as a subscriber got them. Out: what is missing, what
came twice, what makes no sense. Never: forgives an event that says something else under a name
that was already told, without counting it.

An episode that was told but not yet written when the power went begins again under its old name
(`Run` in messages.py), with a `seq` that is higher by nearly `UNRECORDED` or more: a leap is no
hole. The same `event_id` and `seq` with another content are `told_anew`, and broken.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from edge_agent.alarms.annunciator import UNRECORDED

Event = dict[str, Any]
Key = tuple[str, int]
# An episode tells fewer messages than this between two writings.
FEW = 100


class Verdict(NamedTuple):
    """`lost` are names that had to arrive; `told_anew` counts what said something else under an
    old name; `broken` is in words; `unique` is what is left without copies."""

    lost: list[Key]
    doubled: int
    told_anew: int
    broken: tuple[str, ...]
    unique: list[Event]


class Ledger:
    """`expected` is what was seen on a disk, by name."""

    def __init__(self) -> None:
        self.expected: dict[Key, Event] = {}

    def expect(self, events: Iterable[Event]) -> None:
        """Each of these has to arrive, one day."""
        self.expected |= {key(event): event for event in events}

    def judge(self, arrived: list[Event]) -> Verdict:
        """`arrived` in the order of arrival."""
        first: dict[Key, Event] = {}  # what is left for whoever throws copies away
        doubled = told_anew = 0
        for event in arrived:
            if key(event) not in first:
                first[key(event)] = event
            elif _content(event) == _content(first[key(event)]):
                doubled += 1
            else:
                told_anew += 1
        lost = sorted(self.expected.keys() - first.keys())
        anew = (f"{told_anew} names stand for two contents",) if told_anew else ()
        return Verdict(lost, doubled, told_anew, (*_senseless(first), *anew), [*first.values()])


def key(event: Event) -> Key:
    """The name that is the same in every copy of a message."""
    return event["event_id"], event["seq"]


def _content(event: Event) -> Event:
    return {name: value for name, value in event.items() if name != "replayed"}


def _senseless(first: dict[Key, Event]) -> Iterable[str]:
    """Episodes with holes, without a begin, or without an end; the last of an asset may go on. What
    was told before a leap may be told again behind it."""
    episodes: dict[str, dict[int, str]] = {}
    last: dict[str, str] = {}
    for (name, seq), event in first.items():
        episodes.setdefault(name, {})[seq] = event["kind"]
        last[event["asset"]] = name
    for name, kinds in episodes.items():
        numbers = sorted(kinds)
        steps = {before: after - before for before, after in pairwise(numbers)}
        hole = any(1 < step < UNRECORDED - FEW for step in steps.values())
        if hole or numbers[0] % UNRECORDED != 1:
            yield f"{name}: seq {numbers}"
        elif kinds[numbers[0]] != "begin" or any(
            step == 1 and kinds[before + 1] == "begin" for before, step in steps.items()
        ):
            yield f"{name}: {kinds}"
        elif kinds[numbers[-1]] != "end" and name not in last.values():
            yield f"{name}: no end"
