"""Installed: what `install.sh` has laid out, and the way back to the version before.

In: where this Python lives. Out: the exit code of `install.sh rollback`, which does the work.
Never: switches anything itself: there is one piece of code that does that, and undoes it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge_agent.commands import EXIT_NO, EXIT_OK, tell

INSTALLER = "install.sh"
# Beside it: the options that it was called with.
OPTIONS = "OPTIONS"


def rollback() -> int:
    """The version before this one, and the service restarted on it; root only."""
    version = Path(sys.prefix).parent
    if not (version / OPTIONS).is_file():
        tell(f"edge-agent: {sys.prefix} was not made by {INSTALLER}, so there is no way back")
        return EXIT_NO
    command = ["sh", str(version / INSTALLER), *(version / OPTIONS).read_text().split(), "rollback"]
    return EXIT_NO if subprocess.run(command, check=False).returncode else EXIT_OK
