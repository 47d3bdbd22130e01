"""Row: what came of one kind of trouble.

In: counts and figures of a run. Out: whether all promises were kept, and what stands in the table.
Never: rounds a loss away.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MAX_BROKEN = 5


@dataclass(frozen=True)
class Row:
    """`tries` times the trouble was made; `alerts` had to arrive (or be there), `lost` did not,
    `doubled` came again. `broken` says in words which other promises were not kept. `note` is how
    it was judged, where that is not plain."""

    name: str
    tries: int
    alerts: int
    lost: int
    doubled: int = 0
    broken: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all was kept; a trouble in which nothing was at stake has shown nothing."""
        return self.lost == 0 and not self.broken and self.alerts > 0

    def as_dict(self) -> dict[str, Any]:
        """A line of `--json`."""
        return {**asdict(self), "ok": self.ok}

    def words(self) -> str:
        """Figures, then what is broken, for the table."""
        told = [f"{name} {value:,.4g}" for name, value in self.figures.items()]
        more = len(self.broken) - MAX_BROKEN
        told += [f"NOT KEPT: {text}" for text in self.broken[:MAX_BROKEN]]
        return "\n".join([*told, *([f"and {more} more"] if more > 0 else [])])
