"""Plant: two simulated machines that break and mend all the time, and a gateway that watches them.

In: a folder, the broker's port. Out: boards, a configuration, which faults were there and which of
them nobody was told of. Never: counts a fault that no agent can have seen for long enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from edge_agent.demo.boards import SimulatedBoard
from tests import programs
from tests.chaos.ledger import Event
from tests.chaos.rig import Heard

BASE = "otolith/test"
# (asset, fault, seconds that it lasts, seconds until it comes back). An end is told a second late.
ASSETS = (("left", "looseness", 1.7, 1.2), ("right", "unbalance", 1.7, 1.3))
SEVERITY = 1.5
SCHEDULE_SECONDS = 3600.0
# A window is 0.72 s, and another begins each quarter of a second: whoever judges for so long knows.
ENOUGH_SECONDS = 1.4


class Fault(NamedTuple):
    """Something was wrong with an asset from when to when, monotonic."""

    asset: str
    on_s: float
    off_s: float


@contextmanager
def boards(folder: Path) -> Iterator[list[SimulatedBoard]]:
    """One an asset, on ptys in the folder."""
    with ExitStack() as stack:
        yield [stack.enter_context(_board(folder, number)) for number in range(len(ASSETS))]


def configure(folder: Path, port: int, more: str = "") -> Path:
    """A gateway that tells every alarm at once, an asset a board; its state is in `state`."""
    text = f'[gateway]\nid = "test"\n[mqtt]\nport = {port}\nscore_interval_seconds = 0.2\n'
    text += '[storage]\nstate_dir = "state"\n' + more
    for name, *_ in ASSETS:
        text += f'[boards.{name}]\nport = "{name}.tty"\n[assets.{name}]\nboard = "{name}"\n'
        text += f'stream = "accel"\nbundle = "{programs.VIBRATION}"\n[assets.{name}.alarm]\n'
        text += "re_alarm_seconds = 0.0\nbegins_an_hour = 0\n"
        text += "on_delay_windows = 1\noff_delay_windows = 1\n"
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def faults(plant: Sequence[SimulatedBoard]) -> list[Fault]:
    """All that are over."""
    found: list[Fault] = []
    for (name, *_), board in zip(ASSETS, plant, strict=True):
        lines = list(board.faults)
        on_s = [line["monotonic_s"] for line in lines if line["state"] == "on"]
        off_s = [line["monotonic_s"] for line in lines if line["state"] == "off"]
        found += [Fault(name, *times) for times in zip(on_s, off_s, strict=False)]
    return found


def untold(
    plant: Sequence[SimulatedBoard], up: Sequence[tuple[float, float]], events: Sequence[Event]
) -> tuple[str, ...]:
    """Faults that an agent has judged for long enough (`up`: from when to when) without a word."""
    times: dict[str, list[float]] = {}
    for event in events:
        times.setdefault(event["event_id"], []).append(event["mono_ms"] / 1e3)
    episodes = {(e["asset"], min(times[e["event_id"]]), max(times[e["event_id"]])) for e in events}
    return tuple(
        f"{fault.asset}: a fault of {fault.on_s:.1f} s untold"
        for fault in faults(plant)
        if _was_judged(fault, up) and not _was_told(fault, episodes)
    )


def judging_since(heard: Sequence[Heard]) -> float:
    """When an agent was first heard to judge all assets, 0 before."""
    first = {h.topic: h.at_s for h in reversed(heard) if h.topic.endswith("/score")}
    return max(first.values()) if len(first) == len(ASSETS) else 0.0


def _was_judged(fault: Fault, up: Sequence[tuple[float, float]]) -> bool:
    return any(min(fault.off_s, b) - max(fault.on_s, a) >= ENOUGH_SECONDS for a, b in up)


def _was_told(fault: Fault, episodes: set[tuple[str, float, float]]) -> bool:
    return any(a == fault.asset and b <= fault.off_s and c >= fault.on_s for a, b, c in episodes)


def _board(folder: Path, number: int) -> SimulatedBoard:
    name, kind, on_seconds, off_seconds = ASSETS[number]
    period_seconds = on_seconds + off_seconds
    count = int(SCHEDULE_SECONDS / period_seconds)
    starts = [i * period_seconds + off_seconds for i in range(count)]
    plan = tuple(f"{kind}:{at:.1f}:{at + on_seconds:.1f}:{SEVERITY}" for at in starts)
    return SimulatedBoard("vibration", folder / f"{name}.tty", number + 1, plan)
