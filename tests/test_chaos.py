"""Chaos, the short form: each kind of trouble is made, nothing is lost; and the same checks find
what is lost where something is. `make chaos` does the long form."""

from __future__ import annotations

import importlib
import json
import random
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.demo.bad_network import BadNetwork, Trouble
from tests.chaos.__main__ import MODULES, summary
from tests.chaos.ledger import Event, Ledger
from tests.chaos.power import replay, session
from tests.chaos.recorded_disk import Disk, Step, untraceable
from tests.chaos.rig import Setting
from tests.chaos.row import Row
from tests.faulty_disk import MISSING

pytestmark = pytest.mark.timeout(180)

SEED = 1


def setting(folder: Path) -> Setting:
    return Setting(folder, SEED, False, lambda _text: None)


def can_be_traced() -> None:
    reason = untraceable()
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_lost(tmp_path: Path, name: str) -> None:
    if name != "corrupt" and not shutil.which("mosquitto", path="/usr/bin:/usr/sbin"):
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    if name == "full" and MISSING:
        pytest.skip(MISSING)
    if name == "power":
        can_be_traced()
    rows = importlib.import_module(f"tests.chaos.{name}").trouble(setting(tmp_path))
    assert [row for row in rows if not row.ok] == []
    assert rows


def event(number: int, seq: int, kind: str, **more: object) -> Event:
    return {"event_id": f"a-{number}", "seq": seq, "kind": kind, "asset": "a", **more}


def test_the_ledger_finds_what_is_missing_double_and_senseless() -> None:
    ledger = Ledger()
    told = [event(1, 1, "begin"), event(1, 2, "end"), event(2, 1, "begin"), event(2, 2, "end")]
    ledger.expect(told)
    assert ledger.judge(told) == ([], 0, 0, (), told)
    anew = event(1, 1, "begin", ratio=2.0)
    again = [*told, {**told[0], "replayed": True}, anew]
    assert ledger.judge(again) == ([], 1, 1, ("1 names stand for two contents",), told)
    leapt = [told[0], event(1, 1001, "begin"), event(1, 1002, "end")]
    assert Ledger().judge(leapt).broken == ()
    assert Ledger().judge([told[0], event(1, 3, "end")]).broken == ("a-1: seq [1, 3]",)
    assert ledger.judge(told[1:])[:4] == ([("a-1", 1)], 0, 0, ("a-1: seq [2]",))
    assert ledger.judge([told[0], *told[2:]])[:4] == ([("a-1", 2)], 0, 0, ("a-1: no end",))
    assert ledger.judge(told[:3]).broken == ()  # the last may go on


def test_a_disk_that_confirms_too_early_is_found_out(tmp_path: Path) -> None:
    can_be_traced()
    made = setting(tmp_path)
    lying = [step for step in session(made, 12) if step.call != "sync"]
    assert replay(lying, made, 1).lost > 0


def test_what_is_not_confirmed_may_be_there_or_not() -> None:
    disk = Disk()
    for step in (
        Step("open", "/a.new", "O_CREAT|O_WRONLY", fd=3),
        Step("write", at=0, data=b"old", fd=3),
        Step("sync", fd=3),
        Step("rename", "/a.new", "/a"),
        Step("write", at=0, data=b"new", fd=3),
    ):
        assert disk.take(step)
    assert disk.whole() == {"/a": b"new"}
    torn = [disk.torn(random.Random(n)) for n in range(40)]
    assert {(*files.items(),) for files in torn} == {
        ((name, content),) for name in ("/a", "/a.new") for content in (b"old", b"new")
    }


def test_a_row_in_which_nothing_was_at_stake_is_not_ok() -> None:
    kept = Row("a", 1, 5, 0)
    assert kept.ok
    bad = [Row("b", 1, 5, 1), Row("c", 1, 5, 0, broken=("late",)), Row("d", 1, 0, 0)]
    assert not any(row.ok for row in bad)
    told = summary([kept, *bad], 7)
    assert (told["lost"], told["ok"], told["not_ok"], told["seed"]) == (
        1,
        False,
        ["b", "c", "d"],
        7,
    )
    assert "NOT KEPT: late" in bad[1].words()
    assert json.loads(json.dumps(bad[1].as_dict()))["broken"] == ["late"]


@contextmanager
def line(trouble: Trouble) -> Iterator[tuple[socket.socket, socket.socket, BadNetwork]]:
    """Both ends of a connection that was made while all was well."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        with (
            BadNetwork(server.getsockname()[1]) as network,
            socket.create_connection(("127.0.0.1", network.port), 10) as near,
        ):
            far, _ = server.accept()
            far.settimeout(10)
            near.sendall(b"hello")
            assert far.recv(5) == b"hello"
            network.trouble = trouble
            time.sleep(0.1)
            yield near, far, network
            far.close()


@pytest.mark.parametrize("trouble", ["cut", "refuse"])
def test_a_line_that_is_cut_is_reset(trouble: Trouble) -> None:
    with line(trouble) as (near, _far, _network), pytest.raises(ConnectionResetError):
        near.recv(1)


def test_where_nobody_listens_nobody_is_reached() -> None:
    with line("refuse") as (_near, _far, network):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", network.port), 10)
        network.trouble = "good"
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            with socket.socket() as again:
                if again.connect_ex(("127.0.0.1", network.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("nobody listens again")


def test_what_was_swallowed_stays_dead() -> None:
    with line("swallow") as (near, far, network):
        near.sendall(b"lost")
        time.sleep(0.1)
        network.trouble = "good"
        near.sendall(b"lost, too")
        far.settimeout(0.5)
        with pytest.raises(TimeoutError):
            far.recv(1)


def test_slow_lines_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.demo.bad_network.DELAY_SECONDS", 1.0)
    with line("trickle") as (near, far, network):
        near.sendall(b"abcdef")
        assert far.recv(10) == b"a"
        network.trouble = "good"
        rest = b""
        while len(rest) < 5:
            rest += far.recv(10)
        assert rest == b"bcdef"
        network.trouble = "delay"
        time.sleep(0.1)
        began_s = time.monotonic()
        far.sendall(b"later")
        near.settimeout(20)
        assert near.recv(5) == b"later"
        assert time.monotonic() - began_s > 0.8
