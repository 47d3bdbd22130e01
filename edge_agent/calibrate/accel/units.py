"""Units: accelerations to g, and how strong gravity is at a place.

In: the name of a unit; a latitude and a height. Out: factors. Never: guesses a unit that the board
did not say: `explained` only tells a person what the numbers look like.
"""

from __future__ import annotations

import numpy as np

STANDARD_M_S2 = 9.80665
IN_G = {
    "g": 1.0, "mg": 1e-3,
    "m/s2": 1.0 / STANDARD_M_S2, "m/s^2": 1.0 / STANDARD_M_S2, "m/s²": 1.0 / STANDARD_M_S2,
}  # fmt: skip
# A good sensor at rest reads 0.9 to 1.1 g in whatever attitude, a poor one 0.8 to 1.2.
LEAST_G, MOST_G = 0.7, 1.3


def in_g(unit: str) -> float | None:
    """g in one of `unit`; None if it is no unit of an acceleration."""
    return IN_G.get(unit.strip().lower())


def local_gravity_g(latitude: float | None, height_m: float | None = None) -> float:
    """Gravity at sea level or at a height, over 9.80665 m/s2, by the formula that WELMEC weighs
    with (to 0.1 mg or so); 1 where the latitude is not known."""
    if latitude is None:
        return 1.0
    angle = np.radians(latitude)
    by_latitude = 1.0 + 0.0053024 * np.sin(angle) ** 2 - 0.0000058 * np.sin(2.0 * angle) ** 2
    return float((9.780318 * by_latitude - 0.000003085 * (height_m or 0.0)) / STANDARD_M_S2)


def explained(level_g: float, unit: str) -> str | None:
    """What is wrong with the unit, if the readings say `level_g` where gravity is; None if not."""
    if LEAST_G <= level_g <= MOST_G:
        return None
    words = f"the readings say {level_g:.4g} g where gravity says 1"
    told = level_g / IN_G[unit.strip().lower()]
    for name, factor in (("g", 1.0), ("mg", 1e-3), ("m/s2", 1.0 / STANDARD_M_S2)):
        if 0.9 <= told * factor <= 1.1:
            return f"{words}: they look like {name}, and the board calls them {unit}"
    return f"{words}: neither g, mg nor m/s2 makes sense of it"
