"""Config: the TOML file of a gateway to frozen settings with units in their names.

In: a path. Out: a `Config`, or one `ConfigError` with every problem of the file at once, each as
`file:line: key: what was seen, what is allowed`. Never: opens a port or a connection, guesses.
An unknown key is an error: a typo must not pass for a default. Relative paths count from the file.

Begin at `settings.py` (what there is to set), then `reading.py` (how it is read).
"""

from __future__ import annotations

from edge_agent.config.files import file_notes
from edge_agent.config.password import read_password
from edge_agent.config.problems import ConfigError, Problem
from edge_agent.config.reading import Loaded, load_config, read_config
from edge_agent.config.settings import (
    AlarmOverride,
    AssetSettings,
    BoardSettings,
    Config,
    GatewaySettings,
    HealthSettings,
    MqttSettings,
    RecorderSettings,
    StorageSettings,
    uses_tls,
)

__all__ = [
    "AlarmOverride", "AssetSettings", "BoardSettings", "Config", "ConfigError", "GatewaySettings",
    "HealthSettings", "Loaded", "MqttSettings", "Problem", "RecorderSettings", "StorageSettings",
    "file_notes", "load_config", "read_config", "read_password", "uses_tls",
]  # fmt: skip
