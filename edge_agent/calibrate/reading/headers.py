"""Headers: names of columns to what they hold.

In: the names that a file gives its columns, or none. Out: places of x, y and z, of time, and units.
Never: takes a name for a sensor that only looks a little like one.
"""

from __future__ import annotations

import re

UNIT = re.compile(r"[\[(]\s*([^\])]+?)\s*[\])]")
# `mag_x_uT`, `t_ms`: as people write a unit where brackets are a nuisance.
SUFFIX = re.compile(r"_(µt|μt|ut|nt|mt|mg|gauss|g|ms2|s|sec|ms|us|ns)$", re.IGNORECASE)
FIELD_WORDS, ACCELERATION_WORDS = ("mag", "b", "m", "h", "field", "compass"), ("acc", "a")
TIMES = (
    "t", "time", "timestamp", "seconds", "s", "ms", "millis", "us", "micros", "sec", "datetime",
)  # fmt: skip
SECONDS = {
    "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e3, "millis": 1e3, "us": 1e6, "µs": 1e6,
    "μs": 1e6, "micros": 1e6, "ns": 1e9,
}  # fmt: skip

MEANT = {"G": "gauss", "ms2": "m/s2"}


def triple(header: tuple[str, ...], words: tuple[str, ...]) -> list[int] | None:
    """The columns x, y and z whose other letters begin with one of the words."""
    found: dict[str, int] = {}
    for i, name in enumerate(header):
        letters = plain(name)
        for axis in (letters[-1:], letters[:1]):
            rest = letters.removesuffix(axis) if letters.endswith(axis) else letters[1:]
            fits = any(rest == word or (len(word) > 1 and rest.startswith(word)) for word in words)
            if axis in ("x", "y", "z") and fits:
                found.setdefault(axis, i)
    return [found[axis] for axis in "xyz"] if len(found) == 3 else None


def time_place(header: tuple[str, ...]) -> int | None:
    """The column of time."""
    return next((i for i, name in enumerate(header) if plain(name) in TIMES), None)


def second_in(name: str) -> float | None:
    """One second in the unit of a column of time, if its name tells."""
    return SECONDS.get((unit_in(name) or plain(name)).lower())


def unit_in(name: str) -> str | None:
    """The unit in brackets or behind the last underscore; a magnetometer's G are gauss."""
    found = UNIT.search(name) or SUFFIX.search(name)
    unit = found[1] if found else None
    return MEANT.get(unit, unit) if unit else None


def plain(name: str) -> str:
    """Letters only, without the unit."""
    return re.sub(r"[^a-z]", "", SUFFIX.sub("", UNIT.sub("", name).strip()).lower())
