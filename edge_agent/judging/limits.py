"""Limits: what a machine may never do, whatever its model calls normal.

In: windows and their features. Out: how far over the nearest limit, in words. Never: adapts.

A limit is a number on a channel, or a zone of ISO 20816-3 on its vibration velocity. The standard
is for machines above 15 kW and counts 10 to 1000 Hz; a slower board sees less than that.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Machine: TypeAlias = Literal["group1-rigid", "group1-flexible", "group2-rigid", "group2-flexible"]

# RMS velocity in mm/s where zone C (not for long) and zone D (damage) begin: ISO 20816-3:2022,
# as ISO 10816-3 before it.
ISO_20816_MM_S: dict[Machine, tuple[float, float]] = {
    "group1-rigid": (4.5, 7.1),
    "group1-flexible": (7.1, 11.0),
    "group2-rigid": (2.8, 4.5),
    "group2-flexible": (4.5, 7.1),
}
ZONE_SEVERITY = {"C": 3, "D": 4}
PLAIN_SEVERITY = 4
# The spectral front end's name for log10 of the RMS velocity, in the sensor's unit times seconds.
VELOCITY = "velocity"
MM_S_OF = {"g": 9806.65, "m/s2": 1000.0, "m/s^2": 1000.0, "m/s²": 1000.0}


class LimitSpec(NamedTuple):
    """One limit: of `channel` (None: of every one), by a number in its own unit or by a machine's
    zones. Exactly one of `above` and `iso_20816` is given."""

    channel: str | None = None
    above: float | None = None
    iso_20816: Machine | None = None


class Exceeded(NamedTuple):
    """The limit that a window is nearest to; over it if `ratio` >= 1. `zone` is empty for a plain
    number, which is in `unit`."""

    ratio: float
    severity: int
    channel: str
    observed: float
    limit: float
    unit: str
    zone: str = ""

    @property
    def sentence(self) -> str:
        """In words, for those who are told."""
        if self.zone:
            return (
                f"{self.channel} at {self.observed:.3g} mm/s RMS, over {self.limit:g}: "
                f"zone {self.zone} of ISO 20816-3"
            )
        return (
            f"{self.channel} at {self.observed:.4g} {self.unit}, over its limit of {self.limit:g}"
        )


class Limits:
    """All limits of one asset. `labels` name the front end's features, `channel_of` says whose.

    Raises `ValueError` for a limit that this stream can't be held to.
    """

    def __init__(
        self, specs: tuple[LimitSpec, ...], channels: tuple[str, ...], unit: str,
        labels: tuple[str, ...], channel_of: NDArray[np.intp],
    ) -> None:  # fmt: skip
        self._channels, self._unit = channels, unit
        self._values: list[tuple[int, float]] = []
        self._velocities: list[tuple[int, Machine, int]] = []
        velocities = {
            int(channel): feature
            for feature, (channel, label) in enumerate(zip(channel_of, labels, strict=True))
            if label == VELOCITY
        }
        for spec in specs:
            self._add(spec, velocities)

    def nearest(
        self, values: NDArray[np.float32], features: NDArray[np.float32]
    ) -> Exceeded | None:
        """Of one window: float32[rows, channels] and float32[steps, features]."""
        found = [self._value(index, above, values) for index, above in self._values]
        found += [self._velocity(*each, features) for each in self._velocities]
        return max(found, default=None)

    def _add(self, spec: LimitSpec, velocities: dict[int, int]) -> None:
        if spec.channel is not None and spec.channel not in self._channels:
            known = ", ".join(self._channels)
            raise ValueError(f"limit of channel {spec.channel}: there is none; known: {known}")
        wanted = [i for i, name in enumerate(self._channels) if spec.channel in (None, name)]
        if spec.above is not None:
            self._values += [(index, spec.above) for index in wanted]
        if spec.iso_20816 is not None:
            shaken = [index for index in wanted if index in velocities]
            if not shaken or self._unit not in MM_S_OF:
                raise ValueError(
                    "limit iso_20816 needs a spectral bundle of an acceleration in g or m/s2, "
                    f"this one has {self._unit}: use `above`"
                )
            self._velocities += [(i, spec.iso_20816, velocities[i]) for i in shaken]

    def _value(self, index: int, above: float, values: NDArray[np.float32]) -> Exceeded:
        observed, name = float(np.abs(values[:, index]).max()), self._channels[index]
        return Exceeded(observed / above, PLAIN_SEVERITY, name, observed, above, self._unit)

    def _velocity(
        self, index: int, machine: Machine, feature: int, features: NDArray[np.float32]
    ) -> Exceeded:
        observed = 10.0 ** float(features[:, feature].max()) * MM_S_OF[self._unit]
        zone_c, zone_d = ISO_20816_MM_S[machine]
        zone, limit = ("D", zone_d) if observed >= zone_d else ("C", zone_c)
        name, severity = self._channels[index], ZONE_SEVERITY[zone]
        # From the limit of zone C on it is an alarm; in zone D a worse one.
        return Exceeded(observed / zone_c, severity, name, observed, limit, "mm/s", zone)
