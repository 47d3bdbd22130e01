"""Last good: the configuration that a service runs on, and what it ran on before.

In: the file, and where the last good one is kept. Out: a configuration, and what is wrong with the
file if it is not the file's. Never: runs on a copy unless it was asked to, keeps a secret (a
configuration has only the places of secrets).

The copy is the effective configuration: every value, variables of the environment included, paths
in full. So it means the same wherever it lies and whatever the environment has become.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edge_agent.config.effective import rows, toml_lines
from edge_agent.config.problems import ConfigError
from edge_agent.config.reading import Loaded, read_config
from edge_agent.config.settings import Config
from edge_agent.files import write_atomically


class ConfigFile:
    """A configuration that can be read again. `complaint` says why the last good one runs instead,
    None if it doesn't."""

    def __init__(self, file: Path, kept: Path | None = None) -> None:
        self.file, self._kept = file, kept
        self.complaint: str | None = None

    def first(self) -> Config:
        """At the start: the file, or else the last good one if there is one. Raises `ConfigError`
        or `OSError` about the file."""
        try:
            return self.again()
        except (ConfigError, OSError) as error:
            with suppress(ConfigError, OSError):
                if self._kept:
                    good = read_config(self._kept, {}).config
                    self.complaint = str(error)
                    return good
            raise

    def again(self) -> Config:
        """At the start and at a reload: the file. Raises as `first`, and then nothing changes."""
        loaded = read_config(self.file)
        self._keep(loaded)
        self.complaint = None
        return loaded.config

    def _keep(self, loaded: Loaded) -> None:
        """A disk that can't be written keeps the service from nothing."""
        if self._kept is None:
            return
        text = "\n".join([*toml_lines(rows(loaded)), ""]).encode()
        with suppress(OSError):
            if self._kept.exists() and self._kept.read_bytes() == text:
                return
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._kept, text)
