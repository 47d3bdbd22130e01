"""Codec: the byte stream of the wire to frames and back (PROTOCOL.md section 1).

In: bytes as a port gives them, in chunks of any size. Out: whole, CRC-checked frames.
Never: raises for bad bytes (they are counted), keeps more than one frame's remainder, knows time.

    wire = COBS(body || crc32_le(body)) || 0x00
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from cobs.cobs import DecodeError
from cobs.cobs import decode as cobs_decode
from cobs.cobs import encode as cobs_encode

from firmware_bridge.frames import MAX_BODY_BYTES, Frame, from_body, to_body

DELIMITER = b"\x00"
CRC_BYTES = 4
MIN_DECODED_BYTES = 4 + CRC_BYTES
MAX_DECODED_BYTES = MAX_BODY_BYTES + CRC_BYTES
# COBS adds one byte for every started run of 254: 1024 becomes 1029.
MAX_ENCODED_BYTES = MAX_DECODED_BYTES + MAX_DECODED_BYTES // 254 + 1
# A chunk of nothing but delimiters becomes a list of empty pieces: so large may it be, 0.5 MB.
SLICE_BYTES = 65_536
# crc32(body || crc_le) of any intact frame (the residue of CRC-32/ISO-HDLC).
CRC_RESIDUE = 0x2144DF1C


def encode(frame: Frame) -> bytes:
    """The bytes of one frame on the wire, delimiter included.

    Raises `ValueError` if the body is over `MAX_BODY_BYTES`, `struct.error` if a field overflows.
    """
    return encode_body(to_body(frame))


def encode_body(body: bytes) -> bytes:
    """A body on the wire. Raises `ValueError` if it is over `MAX_BODY_BYTES`."""
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"body of {len(body)} bytes, at most {MAX_BODY_BYTES} fit a frame")
    return bytes(cobs_encode(body + crc32(body).to_bytes(CRC_BYTES, "little"))) + DELIMITER


@dataclass(slots=True)
class DecoderCounters:
    """What the decoder has seen; every kind of damage has its own number."""

    bytes: int = 0
    frames: int = 0
    bad_cobs: int = 0
    bad_crc: int = 0
    bad_frame: int = 0
    oversize: int = 0

    @property
    def damaged(self) -> int:
        """Pieces between delimiters that did not become a frame."""
        return self.bad_cobs + self.bad_crc + self.bad_frame + self.oversize


class Decoder:
    """Turns chunks of the wire into frames; resynchronises at the next 0x00, always.

    `sync` starts in the middle of somebody's stream: what comes up to the first delimiter may be
    the rest of a frame that began before we listened; unless it is whole, it goes uncounted.
    """

    def __init__(self, sync: bool = False) -> None:
        self.counters = DecoderCounters()
        self._remainder = b""
        self._syncing = sync
        self._skipping = False

    def feed(self, chunk: bytes) -> list[Frame]:
        """Frames completed by `chunk`. Memory kept afterwards: at most `MAX_ENCODED_BYTES`."""
        frames: list[Frame] = []
        for body in self.bodies(chunk):
            try:
                frames.append(from_body(body))
            except ValueError:
                self.counters.frames -= 1
                self.counters.bad_frame += 1
        return frames

    def bodies(self, chunk: bytes) -> list[bytes]:
        """Bodies with a good CRC, for a board that must answer requests it doesn't know."""
        self.counters.bytes += len(chunk)
        bodies: list[bytes] = []
        for start in range(0, len(chunk), SLICE_BYTES):
            self._take(chunk[start : start + SLICE_BYTES], bodies)
        return bodies

    def _take(self, part: bytes, bodies: list[bytes]) -> None:
        pieces = (self._remainder + part).split(DELIMITER)
        self._remainder = pieces.pop()
        ended = bool(pieces)
        if pieces and (self._skipping or (self._syncing and not _is_intact(pieces[0]))):
            self.counters.oversize += not self._syncing
            del pieces[0]
            self._skipping = False
        self._syncing = self._syncing and not ended
        for piece in pieces:
            if piece:
                self._decode(piece, bodies)
        self._skipping = self._skipping or len(self._remainder) > MAX_ENCODED_BYTES
        if self._skipping:
            self._remainder = b""

    def _decode(self, piece: bytes, bodies: list[bytes]) -> None:
        counters = self.counters
        if len(piece) > MAX_ENCODED_BYTES:
            counters.oversize += 1
            return
        try:
            decoded = cobs_decode(piece)
        except DecodeError:
            counters.bad_cobs += 1
            return
        if len(decoded) < MIN_DECODED_BYTES or crc32(decoded) != CRC_RESIDUE:
            counters.bad_crc += 1
            return
        bodies.append(decoded[:-CRC_BYTES])
        counters.frames += 1


def _is_intact(piece: bytes) -> bool:
    if len(piece) > MAX_ENCODED_BYTES:
        return False
    try:
        return crc32(cobs_decode(piece)) == CRC_RESIDUE
    except DecodeError:
        return False
