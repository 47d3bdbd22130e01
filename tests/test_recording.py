"""A recording is the wire: it comes out bit for bit, and damage is counted, never raised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.frames import Data, DataFlag, Identify
from firmware_bridge.link import Identified
from firmware_bridge.recording import Playback, identify_frames, record
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema, parse_schema, write_schema
from firmware_bridge.signals import ACCEL, MAG, board_document

DOCUMENT = board_document("0123456789abcdef01234567", (ACCEL, MAG))
RAW = np.random.default_rng(7).integers(-500, 500, (1000, 3)).astype("<i2")


def recording(raw=RAW, **options) -> bytes:
    return identify_frames(DOCUMENT) + b"".join(record(DOCUMENT, ACCEL, raw, **options))


def played(data: bytes, chunk: int = 1 << 16) -> tuple[Playback, list]:
    playback = Playback()
    events = [e for at in range(0, len(data), chunk) for e in playback.feed(data[at : at + chunk])]
    return playback, events


@pytest.mark.parametrize("chunk", [1, 7, 506, 1 << 20])
def test_round_trip_is_exact_in_chunks_of_any_size(chunk):
    playback, events = played(recording(start_us=5_000_000), chunk)
    assert isinstance(events[0], Identified)
    assert events[0].document == DOCUMENT
    assert playback.schema == parse_schema(DOCUMENT)
    assert playback.problem is None
    samples = events[1:]
    assert [len(s.values) for s in samples] == [80] * 12 + [40]
    values = np.concatenate([s.values for s in samples])
    assert np.array_equal(values, RAW * np.float32(0.0039))
    for s in samples:
        assert s.t0 == pytest.approx(5 + s.first_index / 3200, abs=1e-6)
        assert s.lost_before == 0


def test_gaps_move_index_and_time_and_are_counted_exactly():
    raw = RAW[:400]
    playback, events = played(recording(raw, gaps=[(100, 33), (230, 5)], first_index=1000))
    samples = [e for e in events if isinstance(e, Samples)]
    assert [(s.first_index, len(s.values), s.lost_before) for s in samples] == [
        (1000, 80, 0), (1080, 20, 0),
        (1133, 80, 33), (1213, 50, 0),
        (1268, 80, 5), (1348, 80, 0), (1428, 10, 0),
    ]  # fmt: skip
    assert samples[2].flags == DataFlag.GAP
    assert samples[2].t0 == pytest.approx(133 / 3200, abs=1e-6)
    counters = playback.assemblers[1].counters
    assert (counters.lost_on_board, counters.lost_on_wire, counters.gaps) == (38, 0, 2)


@pytest.mark.parametrize("gaps", [[(5, 1), (3, 1)], [(3, 1), (3, 2)], [(1000, 1)], [(-1, 1)]])
def test_gaps_out_of_order_or_outside_are_refused(gaps):
    with pytest.raises(ValueError, match="gaps"):
        recording(gaps=gaps)


@pytest.mark.parametrize("raw", [RAW.astype("<i4"), RAW[:, :2], RAW[:, 0]])
def test_arrays_of_another_shape_or_format_are_refused(raw):
    with pytest.raises(ValueError, match=r"stream accel takes <i2\[n, 3\], got"):
        recording(raw)


def test_without_identify_nothing_comes_and_the_problem_says_why():
    playback, events = played(b"".join(record(DOCUMENT, ACCEL, RAW)))
    assert events == []
    assert playback.unread_frames == 13
    assert playback.problem
    assert "no IDENTIFY" in playback.problem


def test_an_empty_file_is_a_problem_too():
    assert "no IDENTIFY" in (Playback().problem or "")


def test_a_long_schema_takes_several_chunks_and_a_lost_one_is_a_problem():
    streams = tuple(
        StreamSchema(i, f"s{i}", "none", "<i2", tuple(f"channel{k}" for k in range(16)),
                     "g", 1.0, 10.0, 4)
        for i in range(8)
    )  # fmt: skip
    document = write_schema("big", "uid", "1", streams)
    frames = identify_frames(document).split(b"\0")
    assert len(frames) > 3
    playback, events = played(identify_frames(document))
    assert playback.schema == parse_schema(document)
    assert [e.document for e in events] == [document]
    playback, events = played(b"\0".join([frames[0], *frames[2:]]))
    assert events == []
    assert "do not join" in (playback.problem or "")


@pytest.mark.parametrize(
    ("document", "said"),
    [(b'{"proto":2}', "speaks protocol 2"), (b"[1,2", "not JSON"), (b"{}", "speaks protocol None")],
)
def test_a_bad_schema_is_said_in_words(document, said):
    playback, events = played(identify_frames(document))
    assert events == []
    assert said in (playback.problem or "")


def test_a_truncated_tail_loses_only_the_last_frame():
    whole = recording()
    playback, events = played(whole[:-3])
    assert len(events) == 13
    assert playback.decoder.counters.damaged == 0


def test_one_damaged_frame_is_one_exact_gap():
    data = bytearray(recording())
    data[len(identify_frames(DOCUMENT)) + 2 * 506 + 100] ^= 0x10
    playback, events = played(bytes(data))
    lost = [s.lost_before for s in events if isinstance(s, Samples)]
    assert lost == [0, 0, 80] + [0] * 9
    assert playback.decoder.counters.damaged == 1
    assert playback.assemblers[1].counters.lost_on_wire == 80


def test_a_second_identify_with_another_schema_starts_anew():
    other = board_document("ffff", (MAG,))
    mag = np.ones((20, 3), "<i2")
    data = recording() + identify_frames(other) + b"".join(record(other, MAG, mag))
    playback, events = played(data)
    identified = [e for e in events if isinstance(e, Identified)]
    assert [e.schema.uid for e in identified] == ["0123456789abcdef01234567", "ffff"]
    assert playback.schema == identified[1].schema
    assert list(playback.assemblers) == [2]
    assert [len(e.values) for e in events[-2:]] == [10, 10]
    assert [e.restarted for e in events[-2:]] == [True, False]


def test_a_second_session_of_the_same_board_is_a_restart():
    _, events = played(recording() + recording())
    restarts = [e.restarted for e in events if isinstance(e, Samples)]
    assert restarts == [False] * 13 + [True] + [False] * 12


def test_frames_are_what_the_protocol_says():
    playback = Playback()
    frames = playback.decoder.feed(recording(RAW[:80], flags=DataFlag.EMULATED, first_seq=65535))
    assert [type(f) for f in frames] == [Identify, Data]
    assert frames[1][:7] == (1, 65535, 0, 0, 80, parse_schema(DOCUMENT).tag, DataFlag.EMULATED)
    assert frames[1].payload == RAW[:80].tobytes()


@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=20))
def test_damage_anywhere_never_raises(hits):
    data = bytearray(recording())
    for at, value in hits:
        data[at % len(data)] = value
    _, events = played(bytes(data), 300)
    assert sum(isinstance(e, Samples) for e in events) <= 13
