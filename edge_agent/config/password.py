"""Password: the broker's, from a file or from systemd. It is in no configuration and no variable.

In: the broker's settings. Out: the password, or only where it comes from. Never: shows it, takes
it from a file that everybody can read.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.config.settings import MqttSettings

CREDENTIAL = "mqtt-password"


def read_password(mqtt: MqttSettings) -> str | None:
    """The broker's password: from its file, or systemd's credential `mqtt-password`.

    Raises `OSError` if the file can't be read, `ValueError` if everybody can.
    """
    file = mqtt.password_file or _credential()
    if file is None:
        return None
    if file.stat().st_mode & 0o004:
        raise ValueError(f"{file} can be read by everybody: chmod 600 {file}")
    return file.read_text(encoding="utf-8").strip()


def password_source(mqtt: MqttSettings) -> str:
    """Where `read_password` would take it from; empty if from nowhere."""
    if mqtt.password_file:
        return f"file {mqtt.password_file}"
    return f"credential {CREDENTIAL}" if _credential() else ""


def _credential() -> Path | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder) / CREDENTIAL if folder else None
    return file if file and file.exists() else None
