"""Versions: which version of a package is installed here.

In: its name. Out: the version, or None where it runs from a plain folder. Never: imports it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str | None:
    """As the installer has noted it; None if nobody has installed it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
