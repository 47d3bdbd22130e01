"""Clock: the board's microseconds on the host's time line.

In: four time stamps of each TIME exchange. Out: host seconds for any board microsecond.
Never: looks at a clock, uses the arrival of data.

Method (PROTOCOL.md section 6): offset of the exchange with the least round trip in each group,
then a line through the groups' best. A queue can only add delay, so the least is the truest.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

PINGS_A_GROUP = 8
GROUPS_KEPT = 16


class Ping(NamedTuple):
    """One TIME exchange: when (board, s), host minus board (s), round trip (s)."""

    board_s: float
    offset_s: float
    round_trip_s: float


class Line:
    """Least squares through points that come one by one, older ones fading by `forget` a point.

    Welford's form of the weighted regression: no sums of large squares, so microseconds survive
    months of uptime. O(1) memory.
    """

    def __init__(self, forget: float) -> None:
        self._keep = 1.0 - forget
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, x: float, y: float) -> None:
        """Takes in one point."""
        self._weight = self._weight * self._keep + 1.0
        dx, dy = x - self._x, y - self._y
        self._x += dx / self._weight
        self._y += dy / self._weight
        self._xx = self._xx * self._keep + dx * (x - self._x)
        self._xy = self._xy * self._keep + dx * (y - self._y)

    @property
    def slope(self) -> float | None:
        """dy/dx, or None before two different x."""
        return self._xy / self._xx if self._xx > 0.0 else None


class BoardClock:
    """Maps board microseconds to host seconds; `ready` after the first exchange."""

    def __init__(self) -> None:
        self._group: list[Ping] = []
        self._best: deque[Ping] = deque(maxlen=GROUPS_KEPT)
        self._reference_s = 0.0
        self._offset_s = 0.0
        self._rate = 0.0
        self.round_trip_s: float | None = None

    @property
    def ready(self) -> bool:
        """Whether `host_s` means anything yet."""
        return self.round_trip_s is not None

    @property
    def drift_ppm(self) -> float:
        """How much faster the host's clock runs than the board's."""
        return self._rate * 1e6

    def exchange(self, sent_s: float, rx_us: int, tx_us: int, received_s: float) -> None:
        """Takes in one TIME exchange; a negative round trip (a stale reply) is ignored."""
        round_trip_s = (received_s - sent_s) - (tx_us - rx_us) * 1e-6
        if round_trip_s < 0.0:
            return
        board_s = (rx_us + tx_us) * 0.5e-6
        self._group.append(Ping(board_s, (sent_s + received_s) / 2 - board_s, round_trip_s))
        if len(self._group) >= PINGS_A_GROUP:
            self._best.append(min(self._group, key=lambda ping: ping.round_trip_s))
            self._group.clear()
        self._fit()

    def host_s(self, board_us: int) -> float:
        """Host seconds (monotonic) at a board time. Meaningless until `ready`."""
        board_s = board_us * 1e-6
        return board_s + self._offset_s + self._rate * (board_s - self._reference_s)

    def _fit(self) -> None:
        pings = list(self._best) or self._group
        best = min(pings, key=lambda ping: ping.round_trip_s)
        self.round_trip_s = best.round_trip_s
        self._reference_s, self._offset_s = best.board_s, best.offset_s
        if len(self._best) < 2:
            self._rate = 0.0
            return
        line = Line(forget=0.0)
        for ping in self._best:
            line.add(ping.board_s - best.board_s, ping.offset_s - best.offset_s)
        self._rate = line.slope or 0.0
