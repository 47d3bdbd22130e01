"""Verdict: what one check found, and on what evidence.

In: a check, which returns what it has seen and raises `AssertionError` where that is not what it
expected. Out: a verdict. Never: takes any other error for one; that is a bug of the bed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

MAX_SEEN_CHARACTERS = 600


@dataclass(frozen=True)
class Verdict:
    """`seen` is the evidence; where `ok` is false, why."""

    bed: str
    check: str
    ok: bool
    seconds: float
    seen: str

    def as_dict(self) -> dict[str, Any]:
        """One line of `--json`."""
        return asdict(self)


def judged(bed: str, name: str, check: Callable[[], str]) -> Verdict:
    """Runs one check."""
    begun_s = time.monotonic()
    try:
        seen, ok = check(), True
    except (AssertionError, ValueError) as error:  # the latter: an answer without the usual form
        seen, ok = str(error), False
    return Verdict(bed, name, ok, round(time.monotonic() - begun_s, 1), seen[:MAX_SEEN_CHARACTERS])
