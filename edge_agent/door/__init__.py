"""Door: how another program on this gateway speaks with the service that runs.

In: one JSON line a visit, on a Unix socket in the state folder that only its owner and root can
open. Out: one JSON line, and after `follow` a board's wire as it comes. Never: a network address.

`keeper.py` is the service's side, `visit.py` that of `edge-agent status` and `calibrate`.

    {"do": "status"}               -> {"ok": true, "status": {...}}
    {"do": "reload"}               -> {"ok": true, "told": "reloaded: ..."}
    {"do": "take_up", "board": B}  -> {"ok": true, ...}: its calibrations were changed
    {"do": "take_up", "asset": A}  -> {"ok": true, "taken_up": ...}: its bundle was changed
    {"do": "follow", "board": B}   -> {"ok": true}, then a recording that does not end
    anything else                  -> {"ok": false, "error": "a sentence"}
"""

from __future__ import annotations

from edge_agent.door.visit import NoService, ask, follow

__all__ = ["NoService", "ask", "follow"]
