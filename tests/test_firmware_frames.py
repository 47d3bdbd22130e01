"""The firmware's frames and the host's are the same: vectors, 20,000 random frames, damage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import pytest
from cobs.cobs import encode as cobs_encode

from firmware_bridge.board import SimulatedBoard
from firmware_bridge.codec import Decoder, encode_body
from firmware_bridge.frames import HEAD, REPLY, FrameType
from firmware_bridge.signals import ACCEL, MAG, board_document, make_machine
from firmware_bridge.sources import MachineSource
from tests.conftest import ROOT
from tests.firmware import Counters, Driver, Harness, fresh_harness

VECTORS = json.loads((ROOT / "firmware_bridge" / "vectors.json").read_text())
FRAMES, BATCH = 20_000, 500
EDGES = (4, 5, 246, 249, 250, 251, 252, 503, 504, 505, 1016, 1019, 1020)


@pytest.fixture
def harness() -> Harness:
    return fresh_harness()


def random_bodies(count: int, seed: int) -> Iterator[bytes]:
    """Bodies of every length that matters, poor and rich in zeros."""
    random = np.random.default_rng(seed)
    for number in range(count):
        size = EDGES[number % len(EDGES)] if number % 3 == 0 else int(random.integers(4, 1021))
        values = random.integers(0, (2, 256)[number % 2] if number % 5 else 1, size)
        body = (values + (number % 7 == 0)).astype(np.uint8)
        yield body.tobytes()


def cut(wire: bytes, seed: int) -> Iterator[bytes]:
    """The same bytes in pieces of six, as panda's tests have them, and of up to 3000."""
    random, at = np.random.default_rng(seed), 0
    while at < len(wire):
        size = 6 if random.random() < 0.5 else int(random.integers(1, 3000))
        yield wire[at : at + size]
        at += size


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda vector: vector["name"])
def test_golden_frames(harness: Harness, vector: dict[str, str]) -> None:
    body, wire = bytes.fromhex(vector["body"]), bytes.fromhex(vector["wire"])
    assert harness.seal(body) == wire
    assert harness.feed(wire) == [body]
    assert [piece for byte in wire for piece in harness.feed(bytes([byte]))] == [body]


@pytest.mark.parametrize("vector", VECTORS["malformed"], ids=lambda vector: vector["name"])
def test_malformed_frames_are_counted_and_the_next_one_is_whole(
    harness: Harness, vector: dict[str, str]
) -> None:
    good = encode_body(HEAD.pack(FrameType.HEARTBEAT, 0, 99))
    bodies = harness.feed(bytes.fromhex(vector["wire"]) + good)
    assert bodies[-1] == HEAD.pack(FrameType.HEARTBEAT, 0, 99)
    counters = harness.counters()._asdict()
    if vector["counter"] == "bad_frame":  # the host's word for what a board answers
        assert counters == Counters(2, 0, 0, 0)._asdict()
    else:
        assert counters == {**Counters(1, 0, 0, 0)._asdict(), vector["counter"]: 1}


@pytest.mark.parametrize("vector", VECTORS["malformed"], ids=lambda vector: vector["name"])
def test_a_board_replies_to_malformed_frames_as_the_vectors_say(
    harness: Harness, vector: dict[str, str]
) -> None:
    harness.node([(Driver.SYNTHETIC_ACCEL, True)])
    wire = bytes.fromhex(vector["wire"])
    for at in range(0, len(wire), 256):
        harness.node_feed(wire[at : at + 256])
        harness.node_run(1)
    harness.node_feed(wire)
    assert harness.node_run(3) == bytes.fromhex(vector["reply"])


def test_twenty_thousand_random_frames_both_ways(harness: Harness) -> None:
    decoder = Decoder()
    for number in range(0, FRAMES, BATCH):
        bodies = list(random_bodies(BATCH, number))
        wires = [harness.seal(body) for body in bodies]
        assert wires == [encode_body(body) for body in bodies]
        stream = b"".join(wires)
        received = [body for piece in cut(stream, number) for body in harness.feed(piece)]
        assert received == bodies
        assert [b for piece in cut(stream, number) for b in decoder.bodies(piece)] == bodies
    assert harness.counters() == Counters(FRAMES, 0, 0, 0)


def test_both_decoders_see_the_same_in_the_same_damage(harness: Harness) -> None:
    random, decoder, both = np.random.default_rng(1), Decoder(), 0
    for number in range(40):
        stream = b"".join(encode_body(body) for body in random_bodies(25, number))
        damaged = np.frombuffer(stream, np.uint8).copy()
        hit = random.random(len(damaged)) < 10.0 ** -random.integers(1, 5)
        damaged[hit] = random.integers(0, 256, hit.sum())
        wire = damaged[random.random(len(damaged)) >= 0.0005].tobytes()
        ours, theirs = decoder.bodies(wire), harness.feed(wire)
        assert ours == theirs
        both += len(ours)
    seen = decoder.counters
    assert harness.counters() == (seen.frames, seen.bad_crc, seen.bad_cobs, seen.oversize)
    assert min(both, seen.bad_crc, seen.bad_cobs, seen.oversize) > 0


def test_every_flip_of_one_bit_is_refused(harness: Harness) -> None:
    body = next(iter(random_bodies(1, 5)))[:60].ljust(60, b"\1")
    wire = encode_body(body)
    for bit in range(8 * (len(wire) - 1)):
        flipped = bytearray(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        assert body not in harness.feed(bytes(flipped))
    assert harness.feed(wire) == [body]


def test_cobs_and_crc_are_those_of_the_libraries(harness: Harness) -> None:
    for body in random_bodies(500, 7):
        assert harness.cobs_encode(body) == cobs_encode(body)
        assert harness.cobs_decode(cobs_encode(body)) == body
        assert harness.crc32(body) == crc32(body)
        assert harness.crc32(body[3:], crc32(body[:3])) == crc32(body)
    assert harness.cobs_decode(b"\5\1") is None
    assert harness.cobs_decode(b"\3\1\0") is None


def random_requests(count: int) -> Iterator[bytes]:
    """Requests that a board must answer: most of the right size, some not, some of no type."""
    random = np.random.default_rng(3)
    sizes = {1: 2, 2: 4, 3: 4, 4: 6, 5: 8, 6: 0, 7: 0, 8: 2, 10: 0}
    for seq in range(count):
        kind = int(random.choice([*sizes, 0, 9, 11, 42, 127]))
        size = sizes.get(kind, 3) if random.random() < 0.8 else int(random.integers(0, 12))
        stream, fields = int(random.integers(0, 4)), random.integers(0, 3, size).astype(np.uint8)
        if kind == 4 and size == 6:
            rate, batch = int(random.integers(0, 4)) * 1_000_000, int(random.integers(0, 81))
            fields = np.frombuffer(rate.to_bytes(4, "little") + batch.to_bytes(2, "little"), "u1")
        yield HEAD.pack(kind, stream, seq) + fields.tobytes()


def test_a_board_in_c_answers_as_the_one_in_python(harness: Harness) -> None:
    """Type, stream, seq, status and length of 3,000 replies; and all of SET_RATE's."""
    machines = [make_machine(name) for name in ("vibration", "compass")]
    document = board_document("0" * 24, (ACCEL, MAG))
    simulated = SimulatedBoard(document, [MachineSource(*both) for both in machines])
    assert harness.node([(Driver.ADXL345, False), (Driver.QMC5883L, False)]) == [True, True]
    seen = set()
    for number, request in enumerate(random_requests(3000)):
        now_s = number * 0.01
        harness.time_us = number * 10_000
        if request[0] in (FrameType.SELF_TEST, FrameType.RESET) and len(request) < 6:
            continue  # depends on the chip; begins anew
        if request[:2] == bytes([FrameType.SET_RATE, MAG.id]):
            continue  # this chip has other rates
        harness.node_feed(encode_body(request))
        simulated.feed(encode_body(request), now_s)
        answers = []
        for wire in (harness.node_run(20), simulated.poll(now_s)):
            bodies = [b for b in Decoder().bodies(wire) if b[0] & REPLY]
            answers.append([(b[:5], b[0] != 0x81 and len(b)) for b in bodies])
            answers[-1] += [b[8:14] for b in bodies if b[0] == 0x84]
        assert answers[0] == answers[1], request.hex(" ")
        seen.add((request[0], answers[0][0][0][4]))
    # Every type was answered with OK and, where it can be, refused.
    assert {kind for kind, status in seen if status == 0} == {1, 2, 3, 4, 5, 7, 8, 10}
    assert {status for _, status in seen} == {0, 1, 2, 255}
