"""Site: what is known of the place before the board says anything.

In: latitude, longitude, a decimal year. Out: a `Site`. Never: makes a place up.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_agent.calibrate.compass.earth_field import EarthField, earth_field


class Site(NamedTuple):
    """Where the board is, in degrees; `field` is what a perfect compass would feel there."""

    latitude: float | None = None
    longitude: float | None = None
    field: EarthField | None = None


def site_at(latitude: float | None, longitude: float | None, year: float) -> Site:
    """The site; without both numbers nothing is known of it. Raises `ValueError`."""
    if latitude is None or longitude is None:
        return Site(latitude, longitude)
    return Site(latitude, longitude, earth_field(latitude, longitude, year))
