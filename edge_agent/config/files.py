"""Files: those that a good configuration names, and that are not as they should be.

In: settings. Out: notes, one a file. Never: an error (a file may come later, and the service may
see others than the person who checks), opens one, looks at a port.
"""

from __future__ import annotations

import stat

from edge_agent.config.settings import Config

READABLE_BY_ALL = stat.S_IROTH
MQTT_FILES = ("password_file", "ca_file", "certificate_file", "key_file")
SECRET_FILES = ("password_file", "key_file")


def file_notes(config: Config) -> list[str]:
    """Of the broker's files: those that aren't there, and secrets that everybody can read."""
    notes = []
    for key in MQTT_FILES:
        file = getattr(config.mqtt, key)
        if file is None:
            continue
        try:
            mode = file.stat().st_mode
        except OSError as error:
            notes.append(f"mqtt.{key}: {file}: {error.strerror or error}")
            continue
        if not stat.S_ISREG(mode):
            notes.append(f"mqtt.{key}: {file}: is no file")
        elif key in SECRET_FILES and mode & READABLE_BY_ALL:
            notes.append(f"mqtt.{key}: {file}: can be read by everybody: chmod 600 {file}")
    return notes
