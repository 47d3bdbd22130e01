"""Incoming: what the broker has brought us.

In: nothing. Out: the type that `mqtt` gives and `remote` takes, so that neither needs the other.
Never: more than what was on the wire.
"""

from __future__ import annotations

from typing import NamedTuple


class Incoming(NamedTuple):
    """A message as it came. `retained` says that the broker had kept it, so it may be old.
    Response topic and correlation data are properties of MQTT 5, empty otherwise."""

    topic: str
    payload: bytes
    retained: bool = False
    response_topic: str = ""
    correlation: bytes = b""
