"""Captures that no limit, no test and no other command knows: an independent set for the checks.

    python -m tests.unseen_captures [--ill 120] [--healthy 80] [--first 30000]

In: seeds. Out: a JSON line a capture, the counts that README quotes. Never: an answer to what a
limit should be. Whoever has changed one after a look at this takes other seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from edge_agent.calibrate.baseline.verdict import conclude
from firmware_bridge.signals import ACCEL, MAG, CompassMachine, Fault, Machine
from tests.captures import (
    ILLNESSES,
    USUAL,
    Kind,
    QuickMachine,
    batches,
    captured,
    compass,
    transferred,
    vibration,
)


def drawn(kind: Kind, seed: int, ill: bool) -> Machine:
    """Everything by chance, also what no other machine of ours varies: fault, its channel, its
    beginning, half to twice the severity that the bundles are tested with; gains, damping, bearing
    (6203 to 6205) and size of blows of the motor; noise, swing and pace of the mast."""
    draw = np.random.default_rng([seed, 91])
    faults = []
    if ill:
        names = ("drift",) if kind.stream is MAG else ILLNESSES
        start_s = float(draw.choice([0.0, draw.uniform(30.0, 570.0)]))
        severity, channel = float(2.0 ** draw.uniform(-1.0, 1.0)), str(draw.choice(list("xyz")))
        faults = [Fault(str(draw.choice(names)), start_s, None, severity, channel)]

    def about(value: float, share: float) -> float:
        return float(value * (1.0 + draw.uniform(-share, share)))

    if kind.stream is MAG:
        mast = CompassMachine(seed, MAG.rate_hz, tuple(faults))
        mast.noise_ut, mast.slew_hz = about(mast.noise_ut, 0.2), about(mast.slew_hz, 0.05)
        mast.slew_rad = about(mast.slew_rad, 0.05)
        return mast
    x, y, z = (about(gain, 0.1) for gain in USUAL.axis_gains)
    motor = replace(
        transferred(seed, draw.uniform(0.0, 1.0)), axis_gains=(x, y, z),
        resonance_damping=about(USUAL.resonance_damping, 0.2), bpfo_order=draw.uniform(3.0, 3.6),
        bearing_g=about(USUAL.bearing_g, 0.2),
    )  # fmt: skip
    return QuickMachine(seed, ACCEL.rate_hz, tuple(faults), motor)


def unseen(first: int, ill: int, healthy: int, say: Callable[..., None]) -> None:
    """An independent set: ten minutes each, one capture in four of a mast. A faulty one counts as
    refused if a check refused it."""
    kinds = (vibration(), vibration(), vibration(), compass())
    counts: dict[str, Counter[bool]] = {}
    for number in range(ill + healthy):
        kind, seed = kinds[number % len(kinds)], first + number
        made = drawn(kind, seed, number < ill)
        found = conclude(captured(kind, batches(kind.stream, made, 610.0)), ("running",), 10.0)
        wrong = [check.name for check in found.checks if not check.ok]
        if made.faults:
            fault = made.faults[0]
            size = "at least 1" if fault.severity >= 1.0 else "under 1"
            group, good = f"{fault.kind}, severity {size}", bool(wrong)
        else:
            fault, group, good = None, f"healthy, {kind.stream.name}", found.verdict == "pass"
        counts.setdefault(group, Counter())[good] += 1
        say(seed=seed, group=group, fault=fault and asdict(fault), verdict=found.verdict,
            as_it_should=good, refused_by=wrong, reason="" if good else found.reason[:200],
        )  # fmt: skip
    say(as_it_should={
        group: f"{count[True]} of {count.total()}" for group, count in sorted(counts.items())
    })  # fmt: skip


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ill", type=int, default=120)
    parser.add_argument("--healthy", type=int, default=80)
    parser.add_argument("--first", type=int, default=30_000)
    options = parser.parse_args()

    def say(**fields: object) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()

    unseen(options.first, options.ill, options.healthy, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
