"""The session: a Link against a simulated board on a wire, all on one simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
import pytest

from firmware_bridge.board import RESET_POWER_ON, SimulatedBoard
from firmware_bridge.codec import Decoder, encode
from firmware_bridge.frames import (
    MAX_JSON_CHUNK_BYTES,
    Data,
    DataFlag,
    Identify,
    Stats,
    StopRequest,
    Time,
)
from firmware_bridge.hostile import HostileWire
from firmware_bridge.link import Event, Identified, Link, State, StateChanged
from firmware_bridge.samples import Samples
from firmware_bridge.signals import ACCEL, MAG, board_document, make_machine
from firmware_bridge.sources import MachineSource

UID = "0123456789abcdef01234567"
STEP_S = 0.005
SESSION = [State.OPENING, State.IDENTIFYING, State.SYNCING]


def make_board(machines: tuple[str, ...] = ("vibration",), **options) -> SimulatedBoard:
    made = [make_machine(name, seed=3) for name in machines]
    document = board_document(UID, tuple(stream for stream, _ in made))
    return SimulatedBoard(document, [MachineSource(s, m) for s, m in made], **options)


class Bench:
    """A host, a cable and a board; time passes only in `run`."""

    def __init__(self, board: SimulatedBoard, link: Link | None = None, **wire) -> None:
        self.board, self.link = board, link or Link()
        self.to_host, self.to_board = HostileWire(**wire), HostileWire(**wire)
        self.now_s, self.events = 1000.0, []
        self.through: Callable[[bytes], bytes] = lambda chunk: chunk
        self.echo = False

    def open(self) -> None:
        self.events += self.link.opened(self.now_s)

    def run(self, seconds: float) -> list[Event]:
        """Events of that time."""
        before = len(self.events)
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.events += self.link.tick(self.now_s)
            sent = self.link.outgoing(self.now_s)
            self.to_board.feed(sent, self.now_s)
            for chunk in self.to_board.poll(self.now_s):
                self.board.feed(chunk, self.now_s - 1000.0)
            if self.echo:
                self.events += self.link.feed(sent, self.now_s)
            self.to_host.feed(self.through(self.board.poll(self.now_s - 1000.0)), self.now_s)
            for chunk in self.to_host.poll(self.now_s):
                self.events += self.link.feed(chunk, self.now_s)
        return self.events[before:]

    @property
    def samples(self) -> list[Samples]:
        return [event for event in self.events if isinstance(event, Samples)]

    @property
    def states(self) -> list[State]:
        return [event.state for event in self.events if isinstance(event, StateChanged)]


def streaming(bench: Bench, seconds: float = 1.0) -> Bench:
    bench.open()
    bench.run(seconds)
    assert bench.link.state is State.STREAMING
    return bench


def without(numbers: set[int]) -> Callable[[bytes], bytes]:
    """A cable that loses the DATA frames with these numbers (counted from now), whole."""
    decoder, seen = Decoder(), [0]

    def pass_on(chunk: bytes) -> bytes:
        kept = b""
        for frame in decoder.feed(chunk):
            lost = isinstance(frame, Data) and seen[0] in numbers
            seen[0] += isinstance(frame, Data)
            kept += b"" if lost else encode(frame)
        return kept

    return pass_on


def test_a_session_from_open_to_samples():
    bench = streaming(Bench(make_board(("vibration", "compass"))), 2.0)
    assert bench.states == [*SESSION, State.STREAMING]
    identified = [event for event in bench.events if isinstance(event, Identified)]
    assert [event.document for event in identified] == [board_document(UID, (ACCEL, MAG))]
    values = np.concatenate([s.values for s in bench.samples if s.stream == ACCEL.id])
    assert len(values) > 1.85 * 3200
    assert values.mean(axis=0) == pytest.approx([0, 0, 1], abs=0.02)
    assert sum(len(s.values) for s in bench.samples if s.stream == MAG.id) == pytest.approx(
        190, abs=10
    )
    assert all(s.flags == DataFlag.EMULATED and s.contiguous for s in bench.samples)
    assert bench.link.unexpected_frames == 0


def test_samples_are_those_of_the_machine():
    bench = streaming(Bench(make_board()))
    _, machine = make_machine("vibration", seed=3)
    values = np.concatenate([s.values for s in bench.samples])
    start = round((bench.samples[0].t0 - 1000) * 3200)
    truth = machine.values(start - 64, len(values) + 128)
    errors = [np.abs(truth[at : at + len(values)] - values).max() for at in range(128)]
    assert min(errors) <= 0.0039 / 2 + 1e-6


def test_lost_frames_are_counted_exactly():
    bench = streaming(Bench(make_board()))
    bench.through = without({3, 4, 10})
    seen = [e for e in bench.run(1.0) if isinstance(e, Samples)]
    assert [s.lost_before for s in seen if s.lost_before] == [160, 80]
    counters = bench.link.assemblers[1].counters
    assert (counters.lost_on_wire, counters.lost_on_board, counters.gaps) == (240, 0, 2)
    assert bench.samples[-1].first_index + 80 == counters.samples + 240


def test_a_batch_that_the_board_drops_is_counted_as_the_boards():
    bench = streaming(Bench(make_board(queue_batches=4)))
    bench.run(0.1)
    # Nobody fetches for 0.3 s: 12 batches are made, 4 fit.
    bench.now_s += 0.3
    bench.run(0.5)
    counters = bench.link.assemblers[1].counters
    assert counters.lost_on_wire == 0
    assert counters.lost_on_board % 80 == 0
    assert 80 * 7 <= counters.lost_on_board <= 80 * 10
    assert counters.gaps == 1
    assert sum(bool(s.flags & DataFlag.GAP) for s in bench.samples) == 1
    assert bench.samples[-1].first_index + 80 == counters.samples + counters.lost_on_board


def anew(bench: Bench, events: list[Event]) -> None:
    """The board was found to have begun anew, and the session with it; the port stays open."""
    states = [event for event in events if isinstance(event, StateChanged)]
    assert [change.state for change in states] == [*SESSION, State.STREAMING]
    assert "it was reset" in states[0].reason
    seen = [event for event in bench.samples if event.t0 > bench.now_s - 0.5]
    assert seen[-1].t0 + 80 / 3200 == pytest.approx(bench.now_s, abs=0.05)


def test_a_reset_of_the_board_is_a_restart_within_a_second():
    bench = streaming(Bench(make_board()))
    bench.board.reset(bench.now_s - 1000.0)
    events = bench.run(1.0)
    anew(bench, events)
    seen = [e for e in events if isinstance(e, Samples)]
    assert seen[0].restarted
    assert seen[0].flags & DataFlag.CLOCK_RESTARTED
    assert not any(s.restarted for s in seen[1:])
    assert bench.link.assemblers[1].counters.restarts == 1


@pytest.mark.parametrize("after", [0, 3, 8])
def test_a_reset_before_start_is_a_new_epoch_too(after: int):
    """After so many answers to TIME: START's answer may be the first with the new clock."""
    bench = Bench(make_board(clock_offset_us=5_000_000))
    decoder, seen = Decoder(), [0]

    def reset_in_time(chunk: bytes) -> bytes:
        seen[0] += sum(isinstance(frame, (Identify, Time)) for frame in decoder.feed(chunk))
        if seen[0] == 1 + after:
            seen[0] += 1
            bench.board._clock_offset_us = 0
            bench.board.reset(bench.now_s - 1000.0)
        return chunk

    bench.through = reset_in_time
    bench.open()
    bench.run(1.0)
    assert bench.states[-4:] == [*SESSION, State.STREAMING]
    # With nothing known of the board's time, the reset goes unseen, and nothing is lost by that.
    assert bench.states.count(State.OPENING) == (1 if after == 0 else 2)
    assert bench.samples[-1].t0 + 80 / 3200 == pytest.approx(bench.now_s, abs=0.05)


def test_a_board_that_streams_on_after_a_reset_is_not_believed():
    bench = streaming(Bench(make_board()))
    last = bench.samples[-1]
    frame = Data(1, 0, 0, 0, 80, bench.link.schema.tag, DataFlag.CLOCK_RESTARTED, bytes(480))
    before = len(bench.samples)
    bench.events += bench.link.feed(encode(frame), bench.now_s)
    assert len(bench.samples) == before
    events = bench.run(1.0)
    assert bench.states[-4:] == [*SESSION, State.STREAMING]
    first = next(e for e in events if isinstance(e, Samples))
    assert first.restarted
    assert first.t0 > last.t0


@pytest.mark.parametrize(
    ("uptimes_ms", "sessions"), [((5000, 9000), 1), ((5000, 4000), 2), ((2**32 - 10, 20), 1)]
)
def test_an_uptime_that_falls_back_is_a_new_session_unless_it_wraps(
    uptimes_ms: tuple[int, int], sessions: int
):
    bench, decoder, told = Bench(make_board()), Decoder(), list(uptimes_ms)

    def retold(chunk: bytes) -> bytes:
        frames = decoder.feed(chunk)
        return b"".join(
            encode(f._replace(uptime_ms=told.pop(0)) if isinstance(f, Stats) and told else f)
            for f in frames
        )

    bench.through = retold
    streaming(bench).run(31.0)
    assert not told
    assert bench.states.count(State.OPENING) == sessions


def test_the_boards_own_counters_are_known_soon():
    bench = streaming(Bench(make_board()))
    assert bench.link.board_stats is not None
    assert bench.link.board_stats.reset_cause == RESET_POWER_ON


@pytest.mark.parametrize("status", [None, 0xFF])
def test_a_board_without_stats_streams_all_the_same(status: int | None):
    bench, decoder = Bench(make_board()), Decoder()

    def without_stats(chunk: bytes) -> bytes:
        frames = [
            f._replace(status=status) if isinstance(f, Stats) and status else f
            for f in decoder.feed(chunk)
        ]
        return b"".join(encode(f) for f in frames if status or not isinstance(f, Stats))

    bench.through = without_stats
    streaming(bench).run(4.0)
    assert bench.states == [*SESSION, State.STREAMING]
    assert bench.link.board_stats is None
    assert bench.link.clock.drift_ppm < 100


@pytest.mark.parametrize("boot_seconds", [0.0, 1.0, 2.0, 3.5])
def test_a_board_that_starts_slowly_is_waited_for(boot_seconds: float):
    """Whatever comes in the meantime; and it takes no longer than the next try."""
    bench = Bench(make_board())
    ready_s = bench.now_s + boot_seconds
    bench.through = lambda chunk: chunk if bench.now_s > ready_s else b"boot: \xff\x7f"
    bench.open()
    bench.run(boot_seconds)
    assert bench.states == [State.OPENING]
    bench.run(0.5)
    assert bench.states == [*SESSION, State.STREAMING]


def test_another_board_on_the_port_is_refused_in_words():
    bench = Bench(make_board(), Link(expected_uid="another"))
    bench.open()
    events = bench.run(1.0)
    assert bench.states[-1] is State.STALE
    *_, reason = (e.reason for e in events if isinstance(e, StateChanged))
    assert UID in reason
    assert "another is configured" in reason
    assert not bench.samples


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_crc": 1}, "the CRC of the whole schema is wrong"),
        ({"offset": 1}, "missing or damaged"),
        ({"total": 9000}, "missing or damaged"),
        ({"json": b""}, "one of them is empty"),
    ],
)
def test_a_description_that_does_not_join_is_refused_in_words(changes, words):
    link = Link()
    link.opened(0.0)
    document = board_document(UID, (ACCEL,))
    reply = Identify(0, 1, 0, 0, len(document), crc32(document), document)
    assert len(document) <= MAX_JSON_CHUNK_BYTES
    _, event = link.feed(encode(reply._replace(**changes)), 0.1)
    assert event.state is State.STALE
    assert words in event.reason


@pytest.mark.parametrize(
    ("comes", "words"),
    [
        (lambda sent: b"", "not a byte"),
        (lambda sent: b"$GPGGA,1\r\n\0", "wrong baud rate, or other firmware?"),
        (lambda sent: sent, "are RX and TX joined?"),
        (lambda sent: encode(Time(0, 9, 0, 0, 0, 0)), "though frames come"),
    ],
)
def test_nobody_there_is_stale_after_four_seconds_and_says_what_came(comes, words):
    link, now_s = Link(), 1000.0
    link.opened(now_s)
    states = []
    while now_s < 1010.0:
        states += [(now_s, event) for event in link.tick(now_s)]
        link.feed(comes(link.outgoing(now_s)), now_s)
        assert link.unanswered
        now_s += 0.1
    ((at_s, change),) = states
    assert 1004.0 <= at_s < 1004.5
    assert change.state is State.STALE
    assert words in change.reason


def test_no_reply_after_the_first_one_is_stale_after_four_tries():
    bench = Bench(make_board())
    decoder = Decoder()
    bench.through = lambda chunk: b"".join(
        encode(frame) for frame in decoder.feed(chunk) if isinstance(frame, Identify)
    )
    bench.open()
    bench.run(0.9)
    assert bench.link.state is State.SYNCING
    events = bench.run(0.2)
    assert events == [StateChanged(State.STALE, "no reply to TIME")]
    assert not bench.link.unanswered
    assert bench.run(5.0) == []


def test_replies_may_be_missing_while_data_comes():
    bench = streaming(Bench(make_board()))
    decoder = Decoder()
    bench.through = lambda chunk: b"".join(
        encode(frame) for frame in decoder.feed(chunk) if isinstance(frame, Data)
    )
    bench.run(20.0)
    assert bench.states == [*SESSION, State.STREAMING]
    bench.to_board = HostileWire(lose=1.0)  # and now the board is deaf, too
    events = bench.run(7.0)
    assert [e.state for e in events if isinstance(e, StateChanged)] == [State.STALE]
    assert "no data" in events[-1].reason


def test_a_silent_board_keeps_nobody_awake():
    link = Link()
    link.opened(0.0)
    assert link.waiting
    link.tick(0.3)
    assert not link.waiting


def test_silence_while_streaming_is_stale():
    bench = streaming(Bench(make_board()))
    bench.through = lambda chunk: b""
    events = bench.run(1.1)
    assert [e.state for e in events if isinstance(e, StateChanged)] == [State.STALE]
    assert "no data" in events[-1].reason


def test_the_echo_of_own_requests_is_ignored():
    bench = Bench(make_board())
    bench.echo = True
    streaming(bench)
    assert bench.link.unexpected_frames >= 10  # IDENTIFY, 8 x TIME, START
    assert bench.link.assemblers[1].counters.gaps == 0


def test_a_board_that_streams_already_when_the_host_comes():
    bench = streaming(Bench(make_board()))
    bench.link = Link()
    bench.open()
    events = bench.run(1.0)
    assert bench.states[-4:] == [*SESSION, State.STREAMING]
    first = next(e for e in events if isinstance(e, Samples))
    assert (first.first_index, first.lost_before, first.restarted) == (0, 0, False)
    assert bench.link.decoder.counters.damaged == 0


def test_the_board_is_silent_before_start_and_five_seconds_after_the_host():
    board = make_board()
    assert board.poll(3.0) == b""
    bench = streaming(Bench(board))
    went_s = bench.now_s - 1000.0
    assert board.poll(went_s + 4.0)
    assert board.streaming
    board.poll(went_s + 6.0)
    assert not board.streaming
    assert board.poll(went_s + 7.0) == b""


def test_stop_ends_the_stream():
    bench = streaming(Bench(make_board()))
    bench.link.stop(bench.now_s)
    bench.run(0.1)
    assert not bench.board.streaming


def test_a_request_that_was_lost_once_is_repeated():
    bench = Bench(make_board())
    swallowed: list[bytes] = []

    def swallow_first_reply(chunk: bytes) -> bytes:
        if chunk and not swallowed:
            swallowed.append(chunk)
            return b""
        return chunk

    bench.through = swallow_first_reply
    streaming(bench)
    assert isinstance(Decoder().feed(swallowed[0])[0], Identify)


@pytest.mark.parametrize("ppm", [-80.0, 0.0, 120.0])
def test_clock_error_with_jittered_delays(ppm):
    """Chunks are 2 to 4 ms late either way; the host still knows the board's time to 1 ms."""
    board = make_board(clock_ppm=ppm, clock_offset_us=987_654_321)
    bench = streaming(Bench(board, delay_s=0.004))
    bench.run(30.0)
    sampled_s = [
        (s.t0, bench.link.clock.host_s(board.clock_us(bench.now_s - 1000.0))) for s in bench.samples
    ]
    assert sampled_s[-1][1] == pytest.approx(bench.now_s, abs=0.004)
    t0 = np.array([s.t0 for s in bench.samples[-400:]])
    step_s = np.diff(t0)
    assert step_s == pytest.approx(np.full(399, 80 / 3200), abs=0.004)
    assert bench.link.clock.drift_ppm == pytest.approx(-ppm, abs=150)
    assert bench.samples[-1].rate_hz == pytest.approx(3200, rel=1e-6)


def test_the_late_answer_to_an_earlier_time_request_is_no_measurement():
    """Answers take 150 to 300 ms, so some come after the request was repeated at 250 ms."""
    bench = Bench(make_board())
    bench.to_host = HostileWire(delay_s=0.3)
    for _ in range(20):
        bench.open()
        bench.run(4.0)
        clock = bench.link.clock
        if clock.round_trip_s is not None:
            # Whatever the delays are, the error is about half of the shortest round trip at most.
            error_s = clock.host_s(bench.board.clock_us(bench.now_s - 1000.0)) - bench.now_s
            assert abs(error_s) <= clock.round_trip_s / 2 * 1.05
    assert State.STREAMING in bench.states


def test_a_terrible_wire_ends_in_exact_counts():
    bench = Bench(make_board(), lose=1e-4, flip=1e-4, split=True, delay_s=0.01, seed=5)
    bench.open()
    for _ in range(20):
        bench.run(1.0)
        if bench.link.state is State.STALE:
            bench.open()
    counters = bench.link.assemblers[1].counters
    assert counters.samples > 3200 * 10
    assert bench.link.decoder.counters.damaged > 10
    runs: list[int] = []
    for s in bench.samples:
        if s.restarted or not runs:
            runs.append(s.first_index - s.lost_before)
        assert s.first_index == runs[-1] + s.lost_before
        runs[-1] = s.first_index + len(s.values)
    assert counters.lost_on_wire == sum(s.lost_before for s in bench.samples)
    assert counters.lost_on_wire > 0


@pytest.mark.parametrize("frame", [StopRequest(0, 1, 0xFFFFFFFF), Data(1, 0, 0, 0, 0, 0, 0, b"")])
def test_frames_that_mean_nothing_to_a_host_are_counted_or_ignored(frame):
    bench = streaming(Bench(make_board()))
    before = len(bench.events)
    bench.events += bench.link.feed(encode(frame), bench.now_s)
    assert len(bench.events) == before
    refused = bench.link.assemblers[1].counters.refused
    assert bench.link.unexpected_frames + refused == 1
