"""Fuzz: the host's side of the wire, whatever comes.

In: any bytes; they are a script of noise, sealed bodies and waits. Out: nothing, or an
`AssertionError`, or what the code under test must never raise.
Never: depends on anything but the input.

`python -m tests.fuzz.decoder CORPUS -max_total_time=600` fuzzes with atheris; `check` alone is
what `make test` runs over the corpus.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from zlib import crc32

from firmware_bridge.codec import MAX_ENCODED_BYTES, Decoder, encode, encode_body
from firmware_bridge.frames import LAYOUTS, REPLY, FrameType, is_from_board
from firmware_bridge.link import Link, State
from firmware_bridge.recording import Playback, identify_chunk
from firmware_bridge.samples import Samples
from firmware_bridge.signals import ACCEL, MAG, board_document

DOCUMENT = board_document("0" * 24, (ACCEL, MAG))
TAG, TAG_AT = crc32(DOCUMENT) & 0xFF, 18
REPLY_BYTES = {int(layout.code): layout.fields.size for layout in LAYOUTS}
NOISE, BODY, ANSWER, WAIT = range(4)


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The script: (kind of step, its bytes)."""
    at = 0
    while at < len(data):
        kind, size = data[at] % 4, data[at] // 4 + 1
        yield kind, data[at + 1 : at + 1 + size]
        at += 1 + size


def check(data: bytes) -> None:
    """Runs the input through decoder, playback and link; each must stand it."""
    wire = bytearray()
    link, now_s = Link(), 0.0
    link.opened(now_s)
    for kind, part in chunks(data):
        if kind == NOISE:
            said = part
        elif kind == BODY:
            said = encode_body(_plausible(part))
        elif kind == ANSWER:
            said = _answers(link.outgoing(now_s), part)
        else:
            said = b""
            now_s += sum(part) / 100
            link.tick(now_s)
        wire += said
        for event in link.feed(said, now_s):
            assert not isinstance(event, Samples) or event.values.ndim == 2
        if link.state in (State.STALE, State.CLOSED):
            link.closed("stale")
            link.opened(now_s)
    _decode(bytes(wire), data)
    Playback().feed(bytes(wire))


def _plausible(part: bytes) -> bytes:
    """A body of at least a head; DATA gets the tag of our schema, or it would be refused."""
    body = bytearray(part.ljust(4, b"\0"))
    if body[0] == FrameType.DATA and len(body) > TAG_AT:
        body[TAG_AT] = TAG
    return bytes(body)


def _answers(asked: bytes, part: bytes) -> bytes:
    """What a board might say to each request: the schema, or a reply of the right size with
    status 0 and the input's bytes in its fields."""
    said = b""
    for body in Decoder().bodies(asked):
        if body[0] == FrameType.IDENTIFY:
            chunk = identify_chunk(DOCUMENT, int.from_bytes(body[4:6], "little"), 0)
            said += encode(chunk._replace(seq=int.from_bytes(body[2:4], "little")))
            continue
        code = body[0] | REPLY
        token = body[4:] if body[0] == FrameType.TIME else b""
        fields = (bytes(4) + token + part).ljust(REPLY_BYTES[code], b"\0")[: REPLY_BYTES[code]]
        said += encode_body(bytes([code]) + body[1:4] + fields)
    return said


def _decode(wire: bytes, cuts: bytes) -> None:
    """Whole, or cut anywhere: the same frames and the same counters; what is read can be sent."""
    whole, pieces = Decoder(), Decoder()
    frames = whole.feed(wire)
    cut_frames, at = [], 0
    for size in cuts:
        cut_frames += pieces.feed(wire[at : at + size])
        at += size
    cut_frames += pieces.feed(wire[at:])
    assert cut_frames == frames
    assert pieces.counters == whole.counters
    assert len(whole._remainder) <= MAX_ENCODED_BYTES
    again = Decoder().feed(b"".join(encode(frame) for frame in frames))
    assert again == frames
    for frame in frames:
        is_from_board(frame)


def main() -> None:
    """Fuzzes for ever, or as long as libFuzzer's options say."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
