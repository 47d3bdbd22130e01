"""What happens to a cable and a board in the field, through the service's own loop on real ptys."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from edge_agent.config import load_config
from edge_agent.judging.pipeline import AlarmEvent, Fact, Gap, Judgement
from edge_agent.service import Service
from firmware_bridge.link import State
from firmware_bridge.samples import Samples
from tests import programs
from tests.sockets import Socket

pytestmark = pytest.mark.alone

CYCLES = 200
BACK_SECONDS = 2.0
MAX_LOST_BATCHES = 2


class Gateway:
    """The service in a thread, and what came of it. There is no broker: alerts go to the outbox."""

    def __init__(self, folder: Path, sockets: list[Socket], uids: list[str] | None = None) -> None:
        text = '[gateway]\nid = "t"\n[mqtt]\nport = 1\n[storage]\nstate_dir = "state"\n'
        for i, socket in enumerate(sockets):
            text += f'[boards.b{i}]\nport = "{socket.link}"\n'
            text += f'uid = "{uids[i]}"\n' if uids else ""
            text += f'[assets.a{i}]\nboard = "b{i}"\nstream = "accel"\n'
            text += f'bundle = "{programs.VIBRATION}"\n'
        (folder / "agent.toml").write_text(text)
        self.facts: list[Fact] = []
        self.samples: dict[str, list[Samples]] = {f"a{i}": [] for i in range(len(sockets))}
        self.service = Service(
            load_config(folder / "agent.toml"), self.facts.append,
            lambda asset, samples: self.samples[asset].append(samples._replace(values=None)),
        )  # fmt: skip
        self.stop, self.codes = threading.Event(), list[int]()
        self._loop = threading.Thread(target=lambda: self.codes.append(self.service.run(self.stop)))
        self._loop.start()

    def session(self, board: str = "b0"):
        return self.service._sessions[board]

    def streaming(self, sessions: int = 1, board: str = "b0") -> None:
        """Waits until a session with so many before it has brought samples."""
        session, asset = self.session(board), board.replace("b", "a")
        self.until(lambda: session.sessions >= sessions and session.streaming)
        count = len(self.samples[asset])
        self.until(lambda: len(self.samples[asset]) > count)

    def until(self, wanted: Callable[[], object], seconds: float = 15.0) -> float:
        """Waits; gives when it was so."""
        deadline_s = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline_s, self.session().trouble
            time.sleep(0.002)
        return time.monotonic()

    def alarms(self) -> list[AlarmEvent]:
        return [fact for fact in self.facts if isinstance(fact, AlarmEvent)]

    def close(self) -> None:
        self.stop.set()
        self._loop.join(30)
        assert self.codes == [0]


@contextmanager
def gateway(folder: Path, *sockets: Socket, uids: list[str] | None = None) -> Iterator[Gateway]:
    made = Gateway(folder, list(sockets), uids)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Socket]:
    made = Socket(tmp_path / "usb-Otolith_0042-if00")
    yield made
    made.end()


def test_200_times_unplugged_and_plugged_in_again(tmp_path: Path, socket: Socket) -> None:
    names, waits, lost, sizes = set(), [], [], []
    process, selectable, rng = psutil.Process(), [], random.Random(1)
    socket.plug()
    with gateway(tmp_path, socket) as running:
        running.streaming()
        tracemalloc.start(1)
        for cycle in range(2, CYCLES + 2):
            received = running.samples["a0"]
            assert (received[0].first_index, received[0].lost_before) == (0, 0)
            assert all(batch.contiguous for batch in received[1:])
            time.sleep(rng.uniform(0.0, 0.1))
            sent = socket.unplug()
            running.until(lambda: not running.session().streaming)
            # What the host read but had not judged when the plug was pulled comes first.
            time.sleep(0.02)
            lost.append(sent - len(received))
            received.clear()
            socket.plug()
            assert socket.live
            names.add(socket.live.port.path)
            running.streaming(cycle)
            waits.append(time.monotonic() - socket.plugged_s)
            if cycle % 40 == 0:
                gc.collect()
                sizes.append((tracemalloc.get_traced_memory()[0], process.num_fds()))
                watched = len(running.service._gateway.ports._selector.get_map())
                selectable.append((watched, threading.active_count()))
        tracemalloc.stop()
        counters = running.session().link.assemblers[1].counters
        assert running.session().sessions == CYCLES + 1
        assert counters.restarts == CYCLES
        assert counters.lost_on_wire == counters.lost_on_board == 0
    assert len(names) > 1
    assert max(waits) < BACK_SECONDS
    # What is not read yet when the plug is pulled goes with the device. A busy machine reads late.
    assert sorted(lost)[CYCLES * 9 // 10] <= MAX_LOST_BATCHES
    assert max(lost) <= 3 * MAX_LOST_BATCHES
    assert not running.alarms()
    assert {gap.reason for gap in running.facts if isinstance(gap, Gap)} == {"board restarted"}
    assert len({fds for _, fds in sizes[1:]}) <= 2  # one for a try to reach the broker
    assert max(watched for watched, _ in selectable) <= 2  # the door, and the port
    assert max(threads for _, threads in selectable) <= min(t for _, t in selectable) + 1
    # The list of facts is ours and grows by a gap a cycle; nothing else may.
    assert sizes[-1][0] - sizes[1][0] < 100_000


def test_a_board_that_starts_slowly_is_opened_once(tmp_path: Path, socket: Socket) -> None:
    socket.plug(boot_seconds=2.0)
    with gateway(tmp_path, socket) as running:
        running.streaming()
        assert 2.0 < time.monotonic() - socket.plugged_s < 3.5
        assert running.session().sessions == 1
        assert "trying again" not in running.session().trouble


def test_garbage_and_half_frames_cost_two_frames_each(tmp_path: Path, socket: Socket) -> None:
    rng, hits = random.Random(3), 40
    socket.plug()
    with gateway(tmp_path, socket) as running:
        running.streaming()
        for hit in range(hits):
            length = rng.randrange(1, 400)
            # Every other one without a delimiter: it runs into the frame that follows.
            noise = rng.randbytes(length)
            socket.say(noise.replace(b"\0", b"\1") if hit % 2 else noise)
            # Not in step with the retries, or one and the same reply would always be hit.
            time.sleep(rng.uniform(0.03, 0.09))
        link = running.session().link
        running.streaming()
        counters = link.assemblers[1].counters
        assert running.session().sessions == 1
        assert link.decoder.counters.damaged >= hits // 2
        assert 0 < counters.lost_on_wire <= 2 * hits * 80
        sums = sum(fact.lost for fact in list(running.facts) if isinstance(fact, Gap))
        assert counters.lost_on_wire - 160 <= sums <= counters.lost_on_wire
        assert not running.alarms()


def test_a_frozen_board_streams_again_soon_after_it_thaws(tmp_path: Path, socket: Socket) -> None:
    """It keeps the port open and says nothing: no hang-up, no new device node to tell of it."""
    socket.plug()
    with gateway(tmp_path, socket) as running:
        running.streaming()
        for session, seconds in ((2, 1.5), (3, 6.5), (4, 8.0)):
            socket.frozen = True
            running.until(lambda: not running.session().streaming)
            time.sleep(seconds)
            socket.frozen, thawed_s = False, time.monotonic()
            running.streaming(session)
            assert time.monotonic() - thawed_s < BACK_SECONDS
        assert not running.alarms()


def test_a_board_that_resets_itself_is_a_new_epoch_on_the_same_port(
    tmp_path: Path, socket: Socket
) -> None:
    socket.plug()
    with gateway(tmp_path, socket) as running:
        running.streaming()
        for session in range(2, 7):
            time.sleep(0.3)
            socket.reset()
            reset_s = time.monotonic()
            running.streaming(session)
            assert time.monotonic() - reset_s < BACK_SECONDS
        counters = running.session().link.assemblers[1].counters
        assert counters.restarts == 5
        # In host time, the samples of the new epoch come after those of the old one.
        times_s = [batch.t0 for batch in running.samples["a0"]]
        assert times_s == sorted(times_s)
        assert time.monotonic() - times_s[-1] < 0.5
        assert not running.alarms()


def test_another_board_is_refused_in_words_and_the_right_one_is_taken(
    tmp_path: Path, socket: Socket
) -> None:
    right = socket.plug(seed=7)
    with gateway(tmp_path, socket, uids=[right]) as running:
        running.streaming()
        socket.unplug()
        wrong = socket.plug(seed=8)
        assert wrong != right
        running.until(lambda: wrong in running.session().trouble)
        assert running.session().trouble == (
            f"board {wrong} answers, {right} is configured for this port"
        )
        seen = len(running.samples["a0"])
        time.sleep(3.0)  # waits grow
        assert len(running.samples["a0"]) == seen
        assert running.session().sessions == 1
        socket.unplug()
        socket.plug(seed=7)
        running.streaming(2)
        assert time.monotonic() - socket.plugged_s < BACK_SECONDS


def test_the_noise_of_a_wrong_baud_rate_is_counted_and_said(tmp_path: Path, socket: Socket) -> None:
    socket.plug()
    socket.babble = random.Random(5).randbytes(600)
    with gateway(tmp_path, socket) as running:
        running.until(lambda: "wrong baud rate" in running.session().trouble)
        assert running.session().link.decoder.counters.damaged > 100
        assert not running.samples["a0"]
        socket.babble, right_s = None, time.monotonic()
        running.streaming()
        assert time.monotonic() - right_s < BACK_SECONDS


def test_a_neighbour_that_is_pulled_costs_the_others_nothing(tmp_path: Path) -> None:
    sockets = [Socket(tmp_path / f"usb-{i}") for i in range(3)]
    for i, one in enumerate(sockets):
        one.plug(seed=10 + i)
    with gateway(tmp_path, *sockets) as running:
        for i in range(3):
            running.streaming(board=f"b{i}")
        for cycle in range(2, 12):
            sockets[1].unplug()
            sockets[1].plug(seed=11)
            running.streaming(cycle, "b1")
        for i in (0, 2):
            link = running.session(f"b{i}").link
            counters = link.assemblers[1].counters
            assert (counters.gaps, counters.restarts, running.session(f"b{i}").sessions) == (
                0,
                0,
                1,
            )
            assert link.state is State.STREAMING
            assert all(batch.contiguous for batch in running.samples[f"a{i}"])
    for one in sockets:
        one.end()


def test_the_wall_clock_moves_nothing(
    tmp_path: Path, socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands, and it jumps by hours both ways; windows come at the pace of the samples."""
    wall_s = [1e9]
    monkeypatch.setattr(time, "time", lambda: wall_s[0])
    socket.plug()
    with gateway(tmp_path, socket) as running:
        running.streaming()

        def judged() -> list[Judgement]:
            return [fact for fact in list(running.facts) if isinstance(fact, Judgement)]

        for hours in (0.0, 5.0, -9.0, 100.0):
            count = len(judged())
            wall_s[0] += 3600.0 * hours
            running.until(lambda count=count: len(judged()) >= count + 3)
    starts_s = [fact.window_start for fact in judged()]
    steps_s = [b - a for a, b in zip(starts_s, starts_s[1:], strict=False)]
    assert max(steps_s) - min(steps_s) < 0.01
    assert abs(starts_s[-1] - time.monotonic()) < 60.0
    assert not [fact for fact in running.facts if isinstance(fact, Gap)]
    assert running.session().sessions == 1


def test_ports_that_never_appear_cost_no_descriptor(tmp_path: Path) -> None:
    nowhere = Socket(tmp_path / "usb-none")
    with gateway(tmp_path, nowhere) as running:
        running.until(lambda: "does not exist" in running.session().trouble)
        before = len(os.listdir("/proc/self/fd"))
        time.sleep(2.0)
        assert len(os.listdir("/proc/self/fd")) <= before + 1
    nowhere.end()
