"""Clock: the board's microseconds on the host's time line.

In: four time stamps of each TIME exchange. Out: host seconds for any board microsecond.
Never: looks at a clock, uses the arrival of data, keeps more than `PINGS_KEPT` exchanges.

Method (PROTOCOL.md section 6): a queue can only add delay, so an exchange is wrong by at most half
of what its round trip is longer than the shortest. A line through the last exchanges, each weighted
by that bound, leans on the few that met no queue.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

# Three quarters of a minute: longer, and a board that warms up leaves the line; shorter, and the
# queues show.
PINGS_KEPT = 64
# What stamps are worth even without a queue: interrupts, whole microseconds, our own waking up.
STAMP_SECONDS = 20e-6
# The first exchanges lie within milliseconds: until they tell more, a crystal is as good as this.
USUAL_DRIFT = 100e-6
# So much over the shortest round trip an exchange says little, and another one is cheap.
POOR_SECONDS = 100e-6


class Ping(NamedTuple):
    """One TIME exchange: when (board, s), host minus board (s), round trip (s)."""

    board_s: float
    offset_s: float
    round_trip_s: float


class Line:
    """Least squares through points that come one by one, older ones fading by `forget` a point.

    Welford's form of the weighted regression: no sums of large squares, so microseconds survive
    months of uptime. O(1) memory. (`x`, `y`) is the centre of the points.
    """

    def __init__(self, forget: float = 0.0) -> None:
        self._keep = 1.0 - forget
        self._weight = self.x = self.y = self._xx = self._xy = 0.0

    def add(self, x: float, y: float, weight: float = 1.0) -> None:
        """Takes in one point."""
        self._weight = self._weight * self._keep + weight
        dx, dy = x - self.x, y - self.y
        share = weight / self._weight
        self.x += dx * share
        self.y += dy * share
        dx *= weight
        self._xx = self._xx * self._keep + dx * (x - self.x)
        self._xy = self._xy * self._keep + dx * (y - self.y)

    @property
    def slope(self) -> float | None:
        """dy/dx, or None before two different x."""
        return self._xy / self._xx if self._xx > 0.0 else None

    def cautious_slope(self, doubt: float) -> float:
        """dy/dx, drawn towards 0 as long as the spread of x is not well over `doubt`."""
        return self._xy / (self._xx + doubt)


class BoardClock:
    """Maps board microseconds to host seconds; `ready` after the first exchange."""

    def __init__(self) -> None:
        self._pings: deque[Ping] = deque(maxlen=PINGS_KEPT)
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

    @property
    def last_was_poor(self) -> bool:
        """Whether the last exchange met a queue, so that another one at once is worth asking."""
        floor_s = self.round_trip_s
        return floor_s is not None and self._pings[-1].round_trip_s > floor_s + POOR_SECONDS

    def exchange(self, sent_s: float, rx_us: int, tx_us: int, received_s: float) -> None:
        """Takes in one TIME exchange; a negative round trip (a stale reply) is ignored."""
        round_trip_s = (received_s - sent_s) - (tx_us - rx_us) * 1e-6
        if round_trip_s < 0.0:
            return
        board_s = (rx_us + tx_us) * 0.5e-6
        self._pings.append(Ping(board_s, (sent_s + received_s) / 2 - board_s, round_trip_s))
        self._fit()

    def host_s(self, board_us: int) -> float:
        """Host seconds (monotonic) at a board time. Meaningless until `ready`."""
        board_s = board_us * 1e-6
        return board_s + self._offset_s + self._rate * (board_s - self._reference_s)

    def _fit(self) -> None:
        floor_s = self.round_trip_s = min(ping.round_trip_s for ping in self._pings)
        line, last = Line(), self._pings[-1]
        for ping in self._pings:
            queued = 0.5 * (ping.round_trip_s - floor_s) / STAMP_SECONDS
            # A power over 1 (plain variances): delays are one-sided, and the bound is the worst.
            weight = (1.0 + queued * queued) ** -1.5
            line.add(ping.board_s - last.board_s, ping.offset_s - last.offset_s, weight)
        self._rate = line.cautious_slope((STAMP_SECONDS / USUAL_DRIFT) ** 2)
        self._reference_s = last.board_s + line.x
        self._offset_s = last.offset_s + line.y
