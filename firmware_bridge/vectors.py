"""Vectors: golden frames that the C and the Python tests read, and PROTOCOL.md shows.

In: nothing. Out: the document that `vectors.json` must be, byte for byte. Never: depends on what
the codec happens to do alone: the file is committed, so a change of the wire is seen in review.
"""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

import numpy as np
from cobs.cobs import encode as cobs_encode

from firmware_bridge.board import SimulatedBoard
from firmware_bridge.codec import MAX_ENCODED_BYTES, encode, encode_body
from firmware_bridge.dump import as_fields
from firmware_bridge.frames import (
    HEAD,
    Data,
    Frame,
    Heartbeat,
    HeartbeatRequest,
    Identify,
    IdentifyRequest,
    RateSet,
    RegRead,
    RegReadRequest,
    ResetReply,
    ResetRequest,
    SelfTest,
    SelfTestRequest,
    SetRateRequest,
    Started,
    StartRequest,
    Stats,
    StatsRequest,
    Status,
    Stopped,
    StopRequest,
    Time,
    TimeRequest,
    to_body,
)
from firmware_bridge.signals import ACCEL, VibrationMachine, board_document
from firmware_bridge.sources import MachineSource

COBS_EDGES = (253, 254, 255, 507, 508, 509)
TOKEN = 0x1122334455667788
SMALL = np.array([[1, -1, 256], [0, -2, 255]], "<i2").tobytes()
BIG = np.random.default_rng(1).integers(-4096, 4096, 500).astype("<i2").tobytes()


def _good() -> list[tuple[str, Frame]]:
    schema = b'{"proto":1}'
    return [
        ("identify", IdentifyRequest(0, 1, 0)),
        ("start all streams", StartRequest(0, 2, 0xFFFFFFFF)),
        ("stop stream 1", StopRequest(0, 3, 1 << 1)),
        ("set stream 1 to 1600 Hz", SetRateRequest(1, 4, 1_600_000, 0)),
        ("time", TimeRequest(0, 3, TOKEN)),
        ("self test of stream 1", SelfTestRequest(1, 6)),
        ("stats", StatsRequest(0, 0x0102)),
        ("read register 0 of stream 1", RegReadRequest(1, 8, 0, 1)),
        ("reset the application", ResetRequest(0, 9, 0)),
        ("heartbeat", HeartbeatRequest(0, 10)),
        ("identify reply", Identify(0, 1, 0, 0, len(schema), crc32(schema), schema)),
        ("identify past the end", Identify(0, 1, 1, 512, 11, crc32(schema), b"")),
        ("start reply", Started(0, 2, 0, 1_234_567)),
        ("stop reply", Stopped(0, 3, 0, 2_345_678)),
        ("set rate reply", RateSet(1, 4, 0, 1_600_000, 40, 0xDEADBEEF)),
        ("set rate refused, it runs", RateSet(1, 4, Status.BUSY, 0, 0, 0)),
        ("time reply", Time(0, 3, 0, TOKEN, 5_000_000_000, 5_000_000_123)),
        ("self test reply", SelfTest(1, 6, 0, 3, 7, bytes.fromhex("2c0132001c02") * 3)),
        ("stats reply", Stats(0, 0x0102, 0, 1, 2, 3, 4, 5, 6, 7, 1, 9000)),
        ("register reply", RegRead(1, 8, 0, b"\xe5")),
        ("reset reply", ResetReply(0, 9, 0)),
        ("heartbeat reply", Heartbeat(0, 10, 0, 3_456_789)),
        ("data of two samples", Data(1, 5, 160, 1_234_567, 2, 0xA7, 16, SMALL)),
        ("data, every counter at its end",
         Data(255, 0xFFFF, 0xFFFFFFFF, (1 << 64) - 1, 2, 0xFF, 63, SMALL)),
        ("data, the largest body", Data(1, 7, 0, 0, 166, 0xA7, 0, BIG[: 166 * 6])),
        ("the largest frame", RegRead(1, 8, 0, b"\x55" * 1012)),
        ("all zeros", RegRead(0, 0, 0, bytes(64))),
        *((f"{run} bytes without a zero", _with_run(run)) for run in COBS_EDGES),
    ]  # fmt: skip


def _with_run(run: int) -> RegRead:
    """A frame that ends in `run` bytes that are not zero, CRC included: the edges of COBS."""
    for first in range(1, 256):
        values = bytes([first]) + bytes(1 + i % 255 for i in range(run - 5))
        frame = RegRead(1, 8, 0, values)
        if 0 not in crc32(to_body(frame)).to_bytes(4, "little"):
            return frame
    raise AssertionError("255 CRCs in a row with a zero byte")


def _bad() -> list[tuple[str, str, bytes]]:
    """(name, counter that rises by one, wire)"""
    good = encode(HeartbeatRequest(0, 10))
    flipped = bytes([*good[:-2], good[-2] ^ 1]) + b"\0"
    short = bytes(cobs_encode(b"\x0a\x00\x0a" + crc32(b"\x0a\x00\x0a").to_bytes(4, "little")))
    return [
        ("one bit of the CRC is wrong", "bad_crc", flipped),
        ("seven bytes, even with a good CRC", "bad_crc", short + b"\0"),
        ("a COBS code points past the end", "bad_cobs", b"\x09\x01\x02\x03\0"),
        ("one byte is missing", "bad_cobs", good[:3] + good[4:]),
        ("one byte longer than any frame", "oversize", b"\xff" * (MAX_ENCODED_BYTES + 1) + b"\0"),
        ("a type that nobody knows", "bad_frame", encode_body(HEAD.pack(0x2A, 0, 11))),
        ("START without its mask", "bad_frame", encode_body(HEAD.pack(2, 0, 12) + b"\1\0")),
        ("HEARTBEAT and one more byte", "bad_frame", encode_body(HEAD.pack(10, 0, 13) + b"!")),
        ("DATA that ends in its head", "bad_frame", encode_body(HEAD.pack(16, 1, 14) + bytes(15))),
    ]  # fmt: skip


def board_reply(wire: bytes) -> bytes:
    """What a board says to these bytes."""
    source = MachineSource(ACCEL, VibrationMachine(1, ACCEL.rate_hz))
    board = SimulatedBoard(board_document("0" * 24, (ACCEL,)), [source])
    board.feed(wire, 0.0)
    return board.poll(0.0)


def golden() -> dict[str, Any]:
    """Everything in `vectors.json`."""
    frames = [
        {
            "name": name,
            "fields": as_fields(frame),
            "body": to_body(frame).hex(),
            "wire": encode(frame).hex(),
        }
        for name, frame in _good()
    ]
    malformed = [
        {"name": name, "counter": counter, "wire": wire.hex(), "reply": board_reply(wire).hex()}
        for name, counter, wire in _bad()
    ]
    about = (
        "Golden frames of the wire (PROTOCOL.md). wire = COBS(body + crc32) + 00. `malformed`: the "
        "counter of the receiver that rises by one, and what a board replies (nothing, or a "
        "refusal: a board does not count bad_frame, it answers)."
    )
    return {"about": about, "frames": frames, "malformed": malformed}


def text() -> str:
    """`vectors.json` as it must be."""
    return json.dumps(golden(), indent=1) + "\n"
