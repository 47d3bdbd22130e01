"""Rate: how many samples a second the sensor really takes, by the board's clock.

In: batches of one stream. Out: a `Finding`. Never: uses times of arrival: index against the time
that the microcontroller stamped.
"""

from __future__ import annotations

from edge_agent.checkup.findings import Finding
from firmware_bridge.samples import RATE_MIN_BATCHES, Samples

# Oscillators of MEMS sensors are trimmed to a few per cent; spectra move with them.
NOTE_SHARE, WRONG_SHARE = 0.01, 0.05
ABOUT = "sampling rate"


class RateWatch:
    """The true rate of a stream that should have `nominal_hz`; None where nobody says what it
    should be."""

    def __init__(self, nominal_hz: float | None) -> None:
        self.nominal_hz = nominal_hz
        self.rate_hz: float | None = None
        self.rows = self.lost = self._batches = 0

    def take(self, samples: Samples) -> None:
        """A batch; its `rate_hz` is the line of index against the board's clock so far."""
        self._batches += 1
        self.rows += len(samples.values)
        self.lost += samples.lost_before
        if self._batches >= RATE_MIN_BATCHES:
            self.rate_hz = samples.rate_hz

    @property
    def off_ppm(self) -> float | None:
        """How much faster than nominal, in millionths."""
        if self.rate_hz is None or self.nominal_hz is None:
            return None
        return 1e6 * (self.rate_hz / self.nominal_hz - 1.0)

    def finding(self) -> Finding:
        """What it means."""
        if self.rate_hz is None:
            return Finding("note", ABOUT, f"only {self._batches} batches came",
                           f"{RATE_MIN_BATCHES} batches", "let it run longer")  # fmt: skip
        seen = f"{self.rate_hz:.2f} Hz over {self.rows / self.rate_hz:.0f} s of samples"
        seen += f", {self.lost} lost" if self.lost else ""
        off = self.off_ppm
        if off is None:
            return Finding("well", ABOUT, f"{seen}, by the times of the file")
        seen = f"{seen}, {off:+.0f} ppm"
        expected = f"{self.nominal_hz:g} Hz within {NOTE_SHARE:.0%}"
        if abs(off) <= 1e6 * NOTE_SHARE:
            return Finding("well", ABOUT, seen, expected)
        do = ("frequencies are computed from the true rate, so nothing need be done"
              if abs(off) <= 1e6 * WRONG_SHARE else
              "check the sensor's supply and type: its oscillator is far off")  # fmt: skip
        return Finding("note" if abs(off) <= 1e6 * WRONG_SHARE else "wrong", ABOUT, seen,
                       expected, do)  # fmt: skip
