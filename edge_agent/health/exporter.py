"""Exporter: Prometheus is told, in a file or on a port, where the configuration says so.

In: the settings, and who knows the status. Out: `health.prometheus_file` each health interval, an
answer to each scrape of `health.prometheus_port`. Never: does either unasked, ends for a folder
that can't be written or a port that is taken, leaves the numbers of an agent that has stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from edge_agent.boards.ports import Ports
from edge_agent.config import HealthSettings
from edge_agent.health.prometheus import exposition, write_file
from edge_agent.health.scrape import Scrape
from edge_agent.health.status import Status
from edge_agent.journal import Journal


class Exporter:
    """All methods belong to the service's thread."""

    def __init__(
        self, settings: HealthSettings, ports: Ports, journal: Journal, status: Callable[[], Status]
    ) -> None:
        self._file, self._journal, self._status = settings.prometheus_file, journal, status
        self._complaint = ""
        self._scrape: Scrape | None = None
        if settings.prometheus_port:
            self._scrape = Scrape(settings.prometheus_port, ports, lambda: exposition(status()))
            if self._scrape.problem:
                journal.error(self._scrape.problem)

    def tick(self, now_s: float) -> None:
        """Ten times a second or so."""
        if self._scrape:
            self._scrape.tick(now_s)

    def write(self) -> None:
        """Once a health interval."""
        if self._file is None:
            return
        complaint = ""
        try:
            write_file(self._file, exposition(self._status()))
        except OSError as error:
            complaint = f"health.prometheus_file: {self._file}: {error.strerror or error}"
        if complaint != self._complaint:
            self._complaint = complaint
            self._journal.warning(complaint or "health.prometheus_file is written again")

    def close(self) -> None:
        """Nothing more is told."""
        if self._scrape:
            self._scrape.close()
        if self._file:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
