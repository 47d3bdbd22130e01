"""One board's session on a clock of the test's own: no waiting costs anybody anything."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

import pytest

from edge_agent.assets import Asset
from edge_agent.boards.session import FILL_BYTES, BoardSession
from edge_agent.config import AssetSettings
from edge_agent.journal import Journal
from edge_agent.judging.pipeline import Fact, Gap, Judgement
from firmware_bridge.board import SimulatedBoard
from firmware_bridge.link import Link
from firmware_bridge.signals import ACCEL, MAG, board_document, make_machine
from firmware_bridge.sources import MachineSource
from tests import programs

STEP_SECONDS = 0.001


class Bench:
    """A board, its session, and time that stands still between steps."""

    def __init__(self, streams: tuple[str, ...], *assets: Asset) -> None:
        names = {"accel": "vibration", "mag": "compass"}
        schemas = {"accel": ACCEL, "mag": MAG}
        sources = [MachineSource(*make_machine(names[stream])) for stream in streams]
        document = board_document("ab" * 12, tuple(schemas[stream] for stream in streams))
        self.board = SimulatedBoard(document, sources)
        self.log = StringIO()
        self.session = BoardSession("b", Link(), assets, None, Journal(self.log))
        self.session.opened(0.0)
        self.now_s = 0.0

    def step(self) -> list[Fact]:
        self.now_s += STEP_SECONDS
        self.session.tick(self.now_s)
        self.board.feed(self.session.link.outgoing(self.now_s), self.now_s)
        return self.session.received(self.board.poll(self.now_s), self.now_s)


def asset(name: str, stream: str, bundle: Path) -> Asset:
    made = Asset(name, AssetSettings(board="b", stream=stream, bundle=bundle))
    made.load((), 1)
    assert made.refusal is None
    return made


@pytest.mark.parametrize("streams", [("accel",), ("mag",), ("accel", "mag")])
def test_no_window_is_complete_before_the_rest_is_over(streams: tuple[str, ...]) -> None:
    bundles = {"accel": programs.VIBRATION, "mag": programs.COMPASS}
    bench = Bench(streams, *(asset(stream, stream, bundles[stream]) for stream in streams))
    until_s, longest_s, windows = 0.0, 0.0, 0
    while bench.now_s < 9.0:
        facts = bench.step()
        if any(isinstance(fact, Judgement) for fact in facts):
            windows += 1
            assert until_s <= bench.now_s + 1e-6
        rest_seconds = bench.session.rest_seconds(bench.now_s)
        until_s = bench.now_s + rest_seconds if math.isfinite(rest_seconds) else until_s
        longest_s = max(longest_s, until_s - bench.now_s)
    assert windows > 3
    assert longest_s > 0.04
    rate = sum(s.rate_hz * s.sample_bytes for s in (ACCEL, MAG) if s.name in streams)
    assert longest_s <= FILL_BYTES / rate + 1e-6


def test_nobody_rests_while_an_answer_is_due() -> None:
    bench = Bench(("accel",), asset("pump", "accel", programs.VIBRATION))
    while not bench.session.streaming:
        assert bench.session.rest_seconds(bench.now_s) == 0.0
        bench.step()
    assert bench.session.rest_seconds(bench.now_s) > 0.0


def test_a_board_that_is_away_keeps_nobody_awake() -> None:
    bench = Bench(("accel",), asset("pump", "accel", programs.VIBRATION))
    bench.session.closed("unplugged")
    assert bench.session.rest_seconds(bench.now_s) == math.inf


def test_another_stream_layout_never_continues_a_window() -> None:
    pump = asset("pump", "accel", programs.VIBRATION)
    bench = Bench(("accel",), pump)
    while bench.now_s < 1.5:
        bench.step()
    other = Bench(("accel", "mag"))
    bench.board, bench.now_s = other.board, 100.0
    bench.session.opened(100.0)
    facts: list[Fact] = []
    while bench.now_s < 101.5:
        facts += bench.step()
    assert isinstance(facts[0], Gap)
    judged = [fact for fact in facts if isinstance(fact, Judgement)]
    assert judged[0].first_row == 0


def test_the_same_trouble_is_said_once() -> None:
    bench = Bench(("accel",), asset("pump", "accel", programs.VIBRATION))
    for _ in range(5):
        bench.session.closed("the cable is out")
    bench.session.closed("the hub is out")
    assert bench.log.getvalue().splitlines() == [
        "<4>board b: the cable is out; trying again",
        "<4>board b: the hub is out; trying again",
    ]


def test_the_journal_bounds_itself_and_says_so() -> None:
    log = StringIO()
    journal = Journal(log)
    for i in range(500):
        journal.info(f"line {i}")
    lines = log.getvalue().splitlines()
    assert 50 <= len(lines) <= 60
    journal._then -= 10.0
    journal.info("later")
    *_, said, later = log.getvalue().splitlines()
    assert said.endswith("lines left out")
    assert later == "<6>later"
