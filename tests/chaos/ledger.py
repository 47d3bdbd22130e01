"""Ledger: all that had to arrive against all that did.

In: events that were stored somewhere, events as a subscriber got them. Out: what is missing, what
came twice, what makes no sense. Never: forgives an event that says something else under a name
that was already told, without counting it.

An episode that was told but not yet written when the power went begins again under its old name
(`Run` in messages.py): the same `event_id` and `seq`, another moment. Those are `told_anew`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

Event = dict[str, Any]
Key = tuple[str, int]


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
        return Verdict(lost, doubled, told_anew, tuple(_senseless(first)), [*first.values()])


def key(event: Event) -> Key:
    """The name that is the same in every copy of a message."""
    return event["event_id"], event["seq"]


def _content(event: Event) -> Event:
    return {name: value for name, value in event.items() if name != "replayed"}


def _senseless(first: dict[Key, Event]) -> Iterable[str]:
    """Episodes with holes, without a begin, or without an end; the last of an asset may go on."""
    episodes: dict[str, dict[int, str]] = {}
    last: dict[str, str] = {}
    for (name, seq), event in first.items():
        episodes.setdefault(name, {})[seq] = event["kind"]
        last[event["asset"]] = name
    for name, kinds in episodes.items():
        if sorted(kinds) != list(range(1, len(kinds) + 1)):
            yield f"{name}: seq {sorted(kinds)}"
        elif kinds[1] != "begin" or "begin" in list(kinds.values())[1:]:
            yield f"{name}: {kinds}"
        elif kinds[len(kinds)] != "end" and name not in last.values():
            yield f"{name}: no end"
