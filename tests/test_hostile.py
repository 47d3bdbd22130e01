"""The bad cable is as bad as it says, and by the same dice every time."""

from __future__ import annotations

import numpy as np

from firmware_bridge.hostile import HostileWire


def through(wire: HostileWire, data: bytes, chunk: int = 500) -> bytes:
    for at in range(0, len(data), chunk):
        wire.feed(data[at : at + chunk], at * 1e-6)
    return b"".join(wire.poll(1e9))


def test_a_good_wire_changes_nothing():
    data = bytes(range(256)) * 40
    assert through(HostileWire(), data) == data
    assert through(HostileWire(split=True, delay_s=0.1), data) == data


def test_the_same_seed_throws_the_same_dice():
    data = bytes(10_000)
    one, two, three = (through(HostileWire(0.01, 0.01, seed=seed), data) for seed in (1, 1, 2))
    assert one == two != three


def test_a_bad_wire_is_as_bad_as_it_says():
    data = bytes(100_000)
    lossy, noisy, double = (
        HostileWire(lose=0.01),
        HostileWire(flip=0.01),
        HostileWire(duplicate=0.5),
    )
    assert 800 < 100_000 - len(through(lossy, data)) == lossy.lost_bytes < 1200
    flipped = np.frombuffer(through(noisy, data), np.uint8)
    assert 800 < np.count_nonzero(flipped) == noisy.flipped_bytes < 1200
    assert set(flipped.tolist()) == {0, 1, 2, 4, 8, 16, 32, 64, 128}
    assert len(through(double, data)) == 100_000 + 500 * double.doubled_chunks
    assert 60 < double.doubled_chunks < 140


def test_delay_holds_and_keeps_the_order():
    wire = HostileWire(delay_s=0.1)
    for at in range(100):
        wire.feed(bytes([at]), at * 0.001)
    assert wire.poll(0.049) == []
    assert wire.held_bytes == 100
    early = wire.poll(0.12)
    assert 0 < len(early) < 100
    assert b"".join(early + wire.poll(0.2)) == bytes(range(100))
