"""The wire: golden frames, damage of every kind, bounds. Tables first, then any bytes at all."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import asdict
from struct import Struct
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import firmware_bridge.vectors
from firmware_bridge.board import HOST_SILENCE_SECONDS
from firmware_bridge.codec import (
    CRC_RESIDUE,
    MAX_DECODED_BYTES,
    MAX_ENCODED_BYTES,
    Decoder,
    encode,
    encode_body,
)
from firmware_bridge.dump import as_fields
from firmware_bridge.frames import (
    LAYOUTS,
    MAX_BODY_BYTES,
    REPLY,
    Data,
    Frame,
    FrameType,
    HeartbeatRequest,
    RegRead,
    StatsRequest,
    from_body,
    is_from_board,
    to_body,
)
from tests.conftest import ROOT

FOLDER = ROOT / "firmware_bridge"
VECTORS = json.loads((FOLDER / "vectors.json").read_text())
PROTOCOL = (FOLDER / "PROTOCOL.md").read_text()
GOOD = {case["name"]: case for case in VECTORS["frames"]}
BAD = {case["name"]: case for case in VECTORS["malformed"]}
DATA = encode(Data(1, 5, 160, 1_234_567, 80, 0xA7, 16, bytes(range(240)) * 2))


def slow_crc32(data: bytes) -> int:
    """CRC-32 bit by bit, as a text book has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def slow_cobs(data: bytes) -> bytes:
    """COBS block by block: each 254 bytes or fewer up to the next zero."""
    out, block = bytearray(), bytearray()
    for at, byte in enumerate(data):
        if byte:
            block.append(byte)
        if byte == 0:
            out += bytes([len(block) + 1]) + block
            block.clear()
        elif len(block) == 254 and at + 1 < len(data):
            out += b"\xff" + block
            block.clear()
    return bytes(out + bytes([len(block) + 1]) + block)


def decoded(wire: bytes, chunk: int = 1 << 20) -> tuple[list[Frame], Decoder]:
    decoder = Decoder()
    pieces = [wire[at : at + chunk] for at in range(0, len(wire), chunk)]
    return [frame for piece in pieces for frame in decoder.feed(piece)], decoder


def test_vectors_are_what_the_code_makes() -> None:
    assert (FOLDER / "vectors.json").read_text() == firmware_bridge.vectors.text()


def test_every_frame_type_has_a_vector() -> None:
    assert {case["fields"]["frame"] for case in GOOD.values()} == {
        layout.frame.__name__ for layout in LAYOUTS
    }


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("chunk", [1, 2, 254, 1 << 20])
def test_a_golden_frame_decodes_in_chunks_of_any_size(case: dict, chunk: int) -> None:
    frames, decoder = decoded(bytes.fromhex(case["wire"]), chunk)
    assert [as_fields(frame) for frame in frames] == [case["fields"]]
    assert decoder.counters.damaged == 0


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
def test_a_golden_frame_encodes_and_agrees_with_the_text_books(case: dict) -> None:
    body, wire = bytes.fromhex(case["body"]), bytes.fromhex(case["wire"])
    frame = from_body(body)
    assert to_body(frame) == body
    assert encode(frame) == wire
    sealed = body + slow_crc32(body).to_bytes(4, "little")
    assert slow_cobs(sealed) + b"\0" == wire
    assert slow_crc32(sealed) == CRC_RESIDUE
    assert 0 not in wire[:-1]
    assert len(wire) <= MAX_ENCODED_BYTES + 1


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
def test_bytes_behind_and_before_a_frame_do_no_harm(case: dict) -> None:
    wire = bytes.fromhex(case["wire"])
    frames, decoder = decoded(b"\0\0" + wire + b"\0" + DATA + wire[:-1])
    assert [as_fields(frame) for frame in frames[:1]] == [case["fields"]]
    assert isinstance(frames[1], Data)
    assert len(frames) == 2
    assert decoder.counters.damaged == 0


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_damage_has_its_own_counter_and_the_next_frame_lives(case: dict, chunk: int) -> None:
    frames, decoder = decoded(bytes.fromhex(case["wire"]) + DATA, chunk)
    assert [type(frame) for frame in frames] == [Data]
    counters = asdict(decoder.counters)
    assert counters[case["counter"]] == 1
    assert decoder.counters.damaged == 1
    assert counters["frames"] == 1


@pytest.mark.parametrize(
    "wire", [DATA, encode(StatsRequest(0, 0x0102)), encode(HeartbeatRequest(0, 1))]
)
def test_every_single_bit_flip_is_refused(wire: bytes) -> None:
    for bit in range((len(wire) - 1) * 8):
        hit = bytearray(wire)
        hit[bit // 8] ^= 1 << bit % 8
        frames, decoder = decoded(bytes(hit) + DATA)
        assert [type(frame) for frame in frames] == [Data]
        assert decoder.counters.damaged >= 1


def test_a_flipped_delimiter_costs_the_two_frames_that_it_joins() -> None:
    hit = bytearray(DATA * 3)
    hit[len(DATA) - 1] ^= 0x20
    frames, decoder = decoded(bytes(hit))
    assert len(frames) == 1
    assert decoder.counters.damaged == 1


@given(st.binary(max_size=4000), st.integers(1, 300))
@example(bytes(5000), 7)
@example(b"\xff" * 5000, 7)
def test_any_bytes_never_raise_and_the_remainder_is_bounded(noise: bytes, chunk: int) -> None:
    decoder = Decoder()
    for at in range(0, len(noise), chunk):
        decoder.feed(noise[at : at + chunk])
        assert len(decoder._remainder) <= MAX_ENCODED_BYTES
    assert decoder.counters.bytes == len(noise)
    assert isinstance(decoder.feed(b"\0" + DATA)[-1], Data)


@given(st.binary(max_size=1500), st.lists(st.integers(0, 1500), max_size=6))
def test_chunks_do_not_change_the_result(noise: bytes, cuts: list[int]) -> None:
    wire = DATA + noise + DATA
    edges = [0, *sorted(cuts), len(wire)]
    decoder = Decoder()
    frames = [f for a, b in zip(edges, edges[1:], strict=False) for f in decoder.feed(wire[a:b])]
    whole, once = decoded(wire)
    assert frames == whole
    assert decoder.counters == once.counters


@given(st.integers(0, 10 * len(DATA) - 1), st.integers(0, 255))
def test_one_wrong_byte_costs_two_frames_at_most(at: int, value: int) -> None:
    frames = [Data(1, seq, seq * 80, seq, 80, 0, 0, bytes([seq + 1]) * 480) for seq in range(10)]
    wire = bytearray(b"".join(encode(frame) for frame in frames))
    wire[at % len(wire)] = value
    survivors, _ = decoded(bytes(wire))
    assert len(survivors) >= 8
    assert set(survivors) <= set(frames)


def any_frame() -> st.SearchStrategy[Frame]:
    """Every layout with every value that its fields can hold."""

    def of(layout):
        sizes = [
            {"B": 8, "H": 16, "I": 32, "Q": 64}[letter]
            for count, letter in re.findall(r"(\d*)([BHIQ])", layout.fields.format)
            for _ in range(int(count or 1))
        ]
        fields = [st.integers(0, (1 << bits) - 1) for bits in (8, 16, *sizes)]
        if layout.has_tail:
            fields.append(st.binary(max_size=MAX_BODY_BYTES - 4 - layout.fields.size))
        return st.tuples(*fields).map(lambda values: layout.frame(*values))

    return st.one_of([of(layout) for layout in LAYOUTS])


@given(st.lists(any_frame(), max_size=5))
def test_round_trip_of_every_type(frames: list[Frame]) -> None:
    assert decoded(b"".join(encode(frame) for frame in frames))[0] == frames
    for frame in frames:
        from_board = to_body(frame)[0] >= REPLY or isinstance(frame, Data)
        assert is_from_board(frame) == from_board


@given(st.binary(max_size=MAX_BODY_BYTES))
def test_crc_and_cobs_agree_with_the_text_books(body: bytes) -> None:
    sealed = body + slow_crc32(body).to_bytes(4, "little")
    assert crc32(sealed) == CRC_RESIDUE
    assert encode_body(body) == slow_cobs(sealed) + b"\0"


def test_a_body_over_the_limit_is_not_sent() -> None:
    largest = RegRead(1, 8, 0, bytes([85]) * (MAX_BODY_BYTES - 8))
    assert decoded(encode(largest))[0] == [largest]
    assert MAX_ENCODED_BYTES == 1029
    assert MAX_DECODED_BYTES == 1024
    with pytest.raises(ValueError, match="body of 1021 bytes, at most 1020"):
        encode(largest._replace(values=largest.values + b"x"))


def test_a_decoder_that_joins_in_the_middle_drops_the_first_rest_uncounted() -> None:
    decoder = Decoder(sync=True)
    assert decoder.feed(DATA[200:300]) == []
    assert len(decoder.feed(DATA[300:] + DATA)) == 1
    assert decoder.counters.damaged == 0
    assert decoder.feed(DATA[300:]) == []
    assert decoder.counters.damaged == 1


@pytest.mark.parametrize("noise", [bytes([7]) * 5000, DATA[1:-1], b""])
@pytest.mark.parametrize("chunk", [1, 64, 1 << 20])
def test_only_the_first_rest_goes_uncounted(noise: bytes, chunk: int) -> None:
    decoder = Decoder(sync=True)
    wire = noise + b"\0" + DATA + noise + b"\0"
    frames = [f for at in range(0, len(wire), chunk) for f in decoder.feed(wire[at : at + chunk])]
    assert len(frames) == 1
    assert decoder.counters.damaged == bool(noise)


def test_a_decoder_that_joins_at_the_first_frame_hears_it() -> None:
    assert len(Decoder(sync=True).feed(DATA)) == 1


def test_the_examples_of_the_protocol_are_vectors() -> None:
    rows = re.findall(r"^\| (.+?) \| `((?:[0-9a-f]{2} )+00)` \|$", PROTOCOL, re.MULTILINE)
    assert len(rows) > 25
    wires = {name: case["wire"] for name, case in (GOOD | BAD).items()}
    replies = {case["reply"] for case in BAD.values()}
    for name, shown in rows:
        wire = bytes.fromhex(shown).hex()
        assert wire == wires.get(name) or (name == "its refusal" and wire in replies), name


def test_the_layouts_of_the_protocol_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([0-9A-F]{2})` \| (\w+) \|(.*?)\| `(.*?)` \|", PROTOCOL, re.MULTILINE)
    shown = {}
    for code, name, request, reply in rows:
        assert int(code, 16) == FrameType[name]
        request = re.match(r"[ `]*([BHIQ]*)", request).group(1)
        shown[int(code, 16)] = (Struct("<" + request).format, False)
        shown[int(code, 16) | REPLY] = ("<" + reply.removesuffix("…"), reply.endswith("…"))
    coded = {
        int(lay.code): (lay.fields.format, lay.has_tail) for lay in LAYOUTS if lay.frame != Data
    }
    assert shown == coded


def test_the_limits_of_the_protocol_are_those_of_the_code() -> None:
    for sentence in (
        f"body ≤ {MAX_BODY_BYTES} bytes, with CRC ≤ {MAX_DECODED_BYTES}, "
        f"encoded ≤ {MAX_ENCODED_BYTES}",
        f"The board stops streaming {HOST_SILENCE_SECONDS:.0f} s after",
    ):
        assert sentence in PROTOCOL


@pytest.mark.parametrize("junk", [b"\x00", b"\x01", b"\xff", b"\x02\x01\x00", b"\x03abc"])
def test_any_flood_is_decoded_in_a_bounded_space(junk: bytes) -> None:
    flood = junk * (8_000_000 // len(junk))
    decoder = Decoder()
    tracemalloc.start()
    decoder.feed(flood)
    _kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000
