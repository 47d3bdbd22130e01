"""Calibration: what a compass needs to be believed, and how far it may be.

In: nothing, it is a value. Out: corrected fields. Never: says that it is good: `grading.py` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.compass.accuracy import HeadingError
from edge_agent.calibrate.sphere import Floats

Verdict: TypeAlias = Literal["pass", "marginal", "fail"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found. The corrected field is `matrix` @ (reading - `bias`), of length `radius`.

    `bias` is in the unit of the readings; `radius` too, or in uT if the site's field is known.
    `radius_cv` is the spread of that length over its mean, of readings that were not rejected.
    `matrix` is None if there is no calibration; `verdict` is then `fail` and `reason` says why.
    """

    verdict: Verdict
    reason: str
    next_move: str
    method: str = "none"
    bias: Floats | None = None
    matrix: Floats | None = None
    radius: float | None = None
    radius_cv: float | None = None
    error: HeadingError | None = None
    seen: NDArray[np.bool_] | None = None
    noise: float | None = None
    kept: int = 0
    rejected: int = 0
    rotation_deg: float | None = None
    dip_deg: float | None = None
    z_up: bool = False
    swapped: str | None = None

    @property
    def coverage(self) -> int:
        """How many of the 100 sections of the sphere were seen."""
        return 0 if self.seen is None else int(self.seen.sum())

    def correct(self, field: Floats) -> Floats:
        """float64[n, 3] without the iron."""
        assert self.matrix is not None
        assert self.bias is not None
        return np.asarray((field - self.bias) @ self.matrix.T)
