"""Decoder: samples a CPU second, ours beside pymavlink's RAW_IMU (one sample a message), and
beside a copy of the bare numbers, which have no frames around them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from pymavlink.dialects.v20 import common as mavlink

from firmware_bridge.codec import Decoder, encode
from firmware_bridge.frames import Data
from tests.benchmarks.row import Row

GOAL, FLOOR_GOAL = 100.0, 25.0
CHUNK_BYTES = 4096
REPEATS = 5


def _ours(samples: int) -> bytes:
    noise = np.random.default_rng(1).integers(-2000, 2000, (samples // 80, 240)).astype("<i2")
    return b"".join(
        encode(Data(1, i & 0xFFFF, i * 80, i * 25_000, 80, 7, 0, batch.tobytes()))
        for i, batch in enumerate(noise)
    )


def _mavlinks(samples: int) -> bytes:
    link = mavlink.MAVLink(None)
    noise = np.random.default_rng(1).integers(-2000, 2000, (samples, 9)).tolist()
    return b"".join(
        mavlink.MAVLink_raw_imu_message(i, *row).pack(link) for i, row in enumerate(noise)
    )


def _decode_ours(wire: bytes) -> int:
    decoder, samples = Decoder(), 0
    for at in range(0, len(wire), CHUNK_BYTES):
        for frame in decoder.feed(wire[at : at + CHUNK_BYTES]):
            assert isinstance(frame, Data)
            samples += np.frombuffer(frame.payload, "<i2").reshape(frame.n, 3).shape[0]
    return samples


def _copy_bare(numbers: bytes) -> int:
    """The floor: chunks as arrays, copied into a ring."""
    ring, samples = np.empty((CHUNK_BYTES // 6, 3), "<i2"), 0
    size = ring.nbytes
    for at in range(0, len(numbers), size):
        chunk = numbers[at : at + size]
        rows = np.frombuffer(chunk, "<i2").reshape(-1, 3)
        ring[: len(rows)] = rows
        samples += len(rows)
    return samples


def _decode_mavlink(wire: bytes) -> int:
    link, samples = mavlink.MAVLink(None), 0
    for at in range(0, len(wire), CHUNK_BYTES):
        samples += len(link.parse_buffer(wire[at : at + CHUNK_BYTES]) or ())
    return samples


def _samples_a_second(decode: Callable[[bytes], int], wire: bytes, samples: int) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        begin = time.process_time()
        assert decode(wire) == samples
        best = min(best, time.process_time() - begin)
    return samples / best


def measure() -> list[Row]:
    """The rows `decoder` and `decoder_floor`."""
    ours = _samples_a_second(_decode_ours, _ours(400_000), 400_000)
    rival = _samples_a_second(_decode_mavlink, _mavlinks(8_000), 8_000)
    bare = _samples_a_second(_copy_bare, bytes(6 * 4_000_000), 4_000_000)
    return [
        Row("decoder", "samples a CPU second", ours, "pymavlink RAW_IMU", rival, GOAL, "high"),
        Row("decoder_floor", "CPU ns a sample", 1e9 / ours, "frombuffer + copy", 1e9 / bare,
            FLOOR_GOAL, "low"),
    ]  # fmt: skip
