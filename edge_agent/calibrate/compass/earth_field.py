"""Earth's field: what the World Magnetic Model says about a place. The only import of pygeomag.

In: latitude and longitude in degrees, a decimal year. Out: declination, dip, strength. Never: asks
a network; the model's coefficients for 2025 to 2030 come with the library.

pygeomag is NOAA's own algorithm in plain Python: it runs wherever Python does, needs nothing else,
and brings the coefficients, so a technician without internet has them.
"""

from __future__ import annotations

from typing import NamedTuple

MICROTESLA = {
    "ut": 1.0, "µt": 1.0, "μt": 1.0, "microtesla": 1.0, "nt": 1e-3, "mt": 1e3, "t": 1e6,
    "mg": 0.1, "mgauss": 0.1, "milligauss": 0.1, "gauss": 100.0, "ga": 100.0, "gs": 100.0,
}  # fmt: skip


class EarthField(NamedTuple):
    """Magnetic north is `declination_deg` east of true north; the field points `dip_deg` into the
    ground and is `strength_ut` microtesla strong."""

    declination_deg: float
    dip_deg: float
    strength_ut: float


def earth_field(latitude: float, longitude: float, year: float) -> EarthField:
    """The field at sea level. Raises `ValueError` outside of the model's years."""
    from pygeomag import GeoMag  # the coefficients are read at the first call

    first, end = 2025.0, 2030.0
    if not first <= year <= end:
        raise ValueError(
            f"this World Magnetic Model holds from {first:.0f} to {end:.0f} and it is {year:.1f}: "
            "set the clock, or update otolith"
        )
    found = GeoMag(coefficients_file="wmm/WMM_2025.COF").calculate(latitude, longitude, 0.0, year)
    return EarthField(float(found.d), float(found.i), float(found.f) * 1e-3)


def in_microtesla(unit: str | None) -> float | None:
    """Microtesla in one of `unit`; None if it is no unit of a magnetic field."""
    return MICROTESLA.get(unit.strip().lower()) if unit else None
