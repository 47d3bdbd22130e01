"""Row: one figure of the benchmark, its floor, its goal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """`ratio` = value / floor; it meets its `goal` from the side that `better` names."""

    name: str
    unit: str
    value: float
    against: str
    floor: float
    goal: float
    better: Literal["low", "high"]
    as_difference: bool = False

    @property
    def ratio(self) -> float:
        """Value over floor, or their difference where the goal is one."""
        return self.value - self.floor if self.as_difference else self.value / self.floor

    @property
    def ok(self) -> bool:
        """Whether the goal is met."""
        return self.ratio <= self.goal if self.better == "low" else self.ratio >= self.goal

    def as_dict(self) -> dict[str, Any]:
        """What stands in build/bench.json."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("better", "as_difference")}
        return {**kept, "ratio": self.ratio, "ok": self.ok}
