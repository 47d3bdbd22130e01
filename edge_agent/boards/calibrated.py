"""Calibrated: what one board's readings mean, and whether its compass can still be believed.

In: who the board is, its batches, that its shelf has changed. Out: corrected batches, the health of
its compass. Never: mixes two calibrations in one window, ends for a shelf that can't be read: the
board is judged on, uncalibrated, and the journal says why in one line.
"""

from __future__ import annotations

from edge_agent.calibrate.compass.disturbance import CompassHealth, Watch
from edge_agent.calibrate.shelf.applying import Applied
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.streams import is_magnetic
from edge_agent.journal import Journal
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema


class Calibrated:
    """One board's calibrations. `compass` is None where there is no magnetometer; `changed` says
    that it, or what is applied, is another one than before; whoever acts on it resets it."""

    def __init__(self, board: str, shelf: Shelf | None, journal: Journal) -> None:
        self._board, self._shelf, self._journal = board, shelf, journal
        self._applied: Applied | None = None
        self._watch: Watch | None = None
        self._told: set[str] = set()
        self.compass: CompassHealth | None = None
        self.changed = False

    def begin(self, schema: Schema, now_s: float) -> bool:
        """The board said who it is, or its shelf has changed; whether other calibrations are
        applied from now on."""
        before = self._applied.ids if self._applied else ()
        found, refusals = self._shelf.for_board(schema.uid) if self._shelf else ([], [])
        applied = Applied(found, schema)
        for refusal in refusals + applied.refusals:
            if refusal not in self._told:
                self._journal.warning(f"board {self._board}: {refusal}")
        self._told = set(refusals + applied.refusals)
        if applied.ids == before and self._applied is not None:
            return False
        self._applied = applied
        self._look_after(schema, now_s)
        if applied.ids:
            self._journal.info(f"board {self._board}: calibrated by {', '.join(applied.ids)}")
        elif before:
            self._journal.info(f"board {self._board}: no calibration is applied any more")
        return applied.ids != before

    def id_of(self, stream: int) -> str | None:
        """Which calibration a stream's batches went through."""
        return self._applied.id_of(stream) if self._applied else None

    def apply(self, samples: Samples) -> Samples:
        """The batch as it is meant; the watch sees it, too."""
        if self._applied is None:
            return samples
        samples = self._applied.apply(samples)
        if self._watch is not None:
            health = self._watch.take(samples)
            if health is not None:
                self._note(health)
        return samples

    @property
    def health(self) -> CompassHealth | None:
        """How the compass is, with the numbers of now."""
        return self._watch.health() if self._watch else self.compass

    def _look_after(self, schema: Schema, now_s: float) -> None:
        """Watches the compass that is calibrated; says so of one that is not."""
        self._watch, applied = None, self._applied.calibrations if self._applied else ()
        for stored in applied:
            if stored.kind == "compass" and self._applied and stored.id in self._applied.ids:
                try:
                    self._watch = Watch(stored, schema)
                except ValueError as error:
                    self._journal.warning(f"board {self._board}: {error}")
        if self._watch is None:
            known = any(is_magnetic(stream) for stream in schema.streams)
            self._note(CompassHealth("uncalibrated", now_s) if known else None)

    def _note(self, health: CompassHealth | None) -> None:
        before = self.compass.state if self.compass else None
        self.compass, self.changed = health, True
        if health and health.state == "disturbed":
            self._journal.warning(f"board {self._board}: compass disturbed: {_words(health)}")
        elif health and before == "disturbed":
            self._journal.info(f"board {self._board}: compass well again: {_words(health)}")


def _words(health: CompassHealth) -> str:
    dip = "" if health.dip_deg is None else f", dip {health.dip_deg:.1f} deg"
    return f"the field is {health.norm_ratio or 0.0:.2f} of the calibrated one{dip}"
