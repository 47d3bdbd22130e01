"""Health: how the gateway is, for subscribers, for Prometheus, and for people at a terminal.

In: the counters of everything that runs, and what the kernel says. Out: flat numbers and pages.
Begin at `payloads.py` (what is told) and `meter.py` (where it comes from); `status.py` is all of
it at one moment, which `prometheus.py` and `status_page.py` put into their words.
"""

from __future__ import annotations

from edge_agent.health.machine import machine_id8, software_version
from edge_agent.health.meter import HealthMeter, info
from edge_agent.health.payloads import AssetInfo, Health, Info

__all__ = [
    "AssetInfo", "Health", "HealthMeter", "Info", "info", "machine_id8",
    "software_version",
]  # fmt: skip
