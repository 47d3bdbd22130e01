"""The shelf of calibrations, and what the service makes of it: applied, watched, never mixed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.__main__ import main
from edge_agent.assets import Asset
from edge_agent.boards.session import BoardSession
from edge_agent.calibrate.compass.disturbance import CompassHealth, Watch
from edge_agent.calibrate.shelf.applying import Applied
from edge_agent.calibrate.shelf.shelf import KEPT, Shelf
from edge_agent.calibrate.shelf.stored import (
    KINDS,
    Band,
    Correction,
    Draft,
    ShelfError,
    Stored,
)
from edge_agent.config import AssetSettings
from edge_agent.journal import Journal
from edge_agent.judging.pipeline import Fact, Gap, Judgement
from firmware_bridge.board import SimulatedBoard
from firmware_bridge.link import Link
from firmware_bridge.samples import Samples
from firmware_bridge.schema import parse_schema, write_schema
from firmware_bridge.signals import ACCEL, MAG, board_document, make_machine
from firmware_bridge.sources import MachineSource
from tests import programs

UID, OTHER = "ab" * 12, "cd" * 12
SCHEMA = parse_schema(write_schema("made", UID, "1", (ACCEL, MAG)))


def draft(uid: str = UID, bias: float = 10.0, **fields: Any) -> Draft:
    """A compass calibration that halves x and moves all axes."""
    correction = Correction(
        stream="mag", unit="uT", bias=(bias, 0.0, -bias),
        matrix=((0.5, 0.0, 0.0), (0.0, 1.0, 0.1), (0.0, 0.1, 1.0)),
    )  # fmt: skip
    told = {
        "kind": "compass", "board": "b1", "uid": uid, "verdict": "pass", "reason": "good",
        "error": 0.2, "error_unit": "deg", "correction": correction,
        "band": Band(radius=48.0, dip_deg=65.0), "temperature_c": 21.5, "details": {"kept": 300},
    }  # fmt: skip
    return Draft.model_validate(told | fields)


def batch(
    rows: np.ndarray, stream: int = MAG.id, t0: float = 0.0, rate_hz: float = 100.0
) -> Samples:
    return Samples(stream, 0, t0, rate_hz, rows.astype(np.float32), 0, False, 0)


def back(shelf: Shelf) -> Stored | None:
    """One step."""
    before = shelf.before("compass")
    shelf.use("compass", before)
    return before


def test_what_is_put_there_is_in_use_and_ten_are_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "b1")
    assert shelf.current("compass") is None
    stored = [shelf.put(draft(bias=float(i))) for i in range(12)]
    assert [one.number for one in stored] == list(range(1, 13))
    assert shelf.all() == stored[-KEPT:]
    assert shelf.current("compass") == stored[-1]
    assert len({one.id for one in stored}) == 12
    assert sorted(path.suffix for path in shelf.folder.iterdir()) == [".current"] + [".json"] * KEPT
    assert back(shelf) == stored[-2] == shelf.current("compass")
    # What comes next is a new number, and the one that was left stays to be gone back to.
    assert shelf.put(draft(bias=99.0)).number == 13
    for _ in range(KEPT - 1):
        assert back(shelf) is not None
    kept = shelf.all()
    assert back(shelf) is None
    assert shelf.current("compass") is None
    assert (shelf.all(), shelf.for_board(UID)) == (kept, ([], []))
    with pytest.raises(ShelfError, match=f"rollback {kept[-1].id}` puts that one in use"):
        shelf.before("compass")
    with pytest.raises(ShelfError, match="no accel calibration in use$"):
        shelf.before("accel")
    assert shelf.put(draft()).number == 14
    assert back(shelf) == kept[-1]


def test_the_same_calibration_has_the_same_name(tmp_path: Path) -> None:
    when = datetime(2026, 11, 22, 12, 0, 0, 5, UTC)
    one, two = (Shelf(tmp_path / name, "b1").put(draft(), when) for name in ("a", "b"))
    assert one == two
    assert one.id.startswith("compass-1-")
    assert one.made.microsecond == 0


def _changed(content: dict[str, Any]) -> dict[str, bytes]:
    """One stored calibration, damaged in every way that comes to mind."""

    def but(**fields: Any) -> bytes:
        return json.dumps(content | fields).encode()

    correction = content["correction"]
    return {
        "empty": b"", "half": but()[:200], "no JSON": b"\xff\x00" * 50, "deep": b"[" * 100_000,
        "large": but() + b" " * (300 << 10), "list": b"[1, 2]", "another bias":
        but(correction=correction | {"bias": [1.0, 2.0, 3.0]}), "another board's": but(uid=OTHER),
        "a field more": but(extra=1), "a later version": but(version=2),
        "not a number": but(correction=correction | {"bias": [float("nan"), 0.0, 0.0]}),
        "huge": but(correction=correction | {"bias": [1e300, 0.0, 0.0]}),
        "flat": but(correction=correction | {"matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 0]]}),
        "no number": but(number="one"), "failed": but(verdict="fail"),
        "another name": but(id="compass-1-000000"), "a path": but(id="../../etc/passwd"),
    }  # fmt: skip


@pytest.mark.parametrize("how", _changed({"correction": {}}))
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, how: str) -> None:
    shelf = Shelf(tmp_path, "b1")
    stored = shelf.put(draft())
    path = shelf.folder / f"{stored.id}.json"
    path.write_bytes(_changed(json.loads(path.read_bytes()))[how])
    with pytest.raises(ShelfError) as refused:
        shelf.current("compass")
    assert "\n" not in str(refused.value)
    assert stored.id in str(refused.value)
    assert shelf.all() == []
    found, refusals = shelf.for_board(UID)
    assert (found, refusals) == ([], [str(refused.value)])


@pytest.mark.parametrize("name", ["", "compass-9-abcdef", "../b2/compass", "x" * 5000, "\udcff"])
def test_a_pointer_to_nowhere_is_no_calibration(tmp_path: Path, name: str) -> None:
    shelf = Shelf(tmp_path, "b1")
    shelf.put(draft())
    (shelf.folder / "compass.current").write_bytes(name.encode(errors="surrogateescape"))
    found, refusals = shelf.for_board(UID)
    assert found == []
    assert len(refusals) == (name == "compass-9-abcdef")
    assert shelf.put(draft()).number == 2


def test_another_boards_calibration_is_refused_with_both_names(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "b1")
    stored = shelf.put(draft(uid=OTHER))
    found, (refusal,) = shelf.for_board(UID)
    assert found == []
    assert UID in refusal
    assert OTHER in refusal
    assert stored.id in refusal
    with pytest.raises(ShelfError, match="board b2"):
        shelf.put(draft(board="b2"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes where another user may not")
@pytest.mark.parametrize("laid", ["calibrations", "calibrations/b1", "compass.partial.new"])
def test_a_link_in_the_services_folder_leads_root_nowhere(tmp_path: Path, laid: str) -> None:
    """The service's user may lay links there; root, who calibrates, follows none of them."""
    state, victim = tmp_path / "state", tmp_path / "victim"
    (state / "calibrations" / "b1").mkdir(parents=True)
    victim.mkdir()
    for folder in (state, state / "calibrations", state / "calibrations" / "b1"):
        os.chown(folder, 12345, 12346)
    if laid.endswith(".new"):
        (state / "calibrations" / "b1" / laid).symlink_to(victim / "file")
    else:
        (state / laid).rename(tmp_path / "away")
        (state / laid).symlink_to(victim)
    tmp_path.chmod(0o755)
    shelf = Shelf(state, "b1")
    with pytest.raises(OSError, match=r"denied|links"):
        shelf.save_partial("compass", b"x")
    assert os.geteuid() == 0
    assert list(victim.rglob("*")) == []
    assert (victim.stat().st_uid, victim.stat().st_gid) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_service(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    shelf = Shelf(tmp_path, "b1")
    shelf.put(draft())
    shelf.save_partial("compass", b"{}")
    written = [tmp_path / "calibrations", shelf.folder, *shelf.folder.iterdir()]
    assert {(os.stat(path).st_uid, os.stat(path).st_gid) for path in written} == {(12345, 12346)}


def test_what_a_dropped_sitting_had_is_bounded(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "b1")
    assert shelf.partial("compass") is None
    shelf.save_partial("compass", b"some")
    assert shelf.partial("compass") == b"some"
    assert shelf.partial_age_seconds("compass") < 60.0
    shelf.save_partial("compass", b"x" * (5 << 20))
    assert shelf.partial("compass") == b"some"
    (shelf.folder / "compass.partial").write_bytes(b"x" * (5 << 20))
    assert shelf.partial("compass") is None
    shelf.drop_partial("compass")
    assert shelf.partial_age_seconds("compass") == float("inf")


def test_a_calibration_is_applied_to_its_stream_alone(tmp_path: Path) -> None:
    stored = Shelf(tmp_path, "b1").put(draft())
    applied = Applied([stored], SCHEMA)
    assert applied.refusals == []
    assert (applied.id_of(MAG.id), applied.id_of(ACCEL.id)) == (stored.id, None)
    rows = np.array([[20.0, 5.0, -30.0], [10.0, 0.0, -10.0]])
    correction = stored.correction
    assert correction is not None
    expected = (rows - correction.bias) @ np.array(correction.matrix).T
    corrected = applied.apply(batch(rows)).values
    assert corrected.dtype == np.float32
    assert corrected == pytest.approx(expected, rel=1e-6)
    raw = batch(rows, ACCEL.id)
    assert applied.apply(raw) is raw


def test_axes_go_by_the_last_letter_and_other_channels_stay(tmp_path: Path) -> None:
    stored = Shelf(tmp_path, "b1").put(draft())
    stream = replace(MAG, channels=("temp", "mag_z", "mag_y", "mag_x"))
    schema = parse_schema(write_schema("made", UID, "1", (stream,)))
    row = Applied([stored], schema).apply(batch(np.array([[21.0, -10.0, 0.0, 30.0]]))).values[0]
    assert row.tolist() == pytest.approx([21.0, 0.0, 0.0, 10.0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"unit": "mG"}, "in mG"), ({"name": "compass"}, "there are compass")],
)
def test_a_stream_that_has_changed_is_not_corrected(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    stored = Shelf(tmp_path, "b1").put(draft())
    schema = parse_schema(write_schema("made", UID, "1", (replace(MAG, **changes),)))
    applied = Applied([stored], schema)
    assert said in applied.refusals[0]
    assert applied.ids == ()


class Field:
    """A calibrated compass and an accelerometer that lie there, while something happens."""

    def __init__(self, tmp_path: Path, **band: float) -> None:
        made = draft(band=Band(radius=50.0, dip_deg=60.0, **band))
        self.watch = Watch(Shelf(tmp_path, "b1").put(made), SCHEMA)
        self.now_s = 100.0
        self.told: list[CompassHealth] = []

    def lie(self, seconds: float, length: float = 50.0, dip_deg: float = 60.0) -> None:
        """So long in a field of this length and dip; gravity reads +1 on the axis that is up."""
        dip, end_s = np.radians(dip_deg), self.now_s + seconds
        field = length * np.array([np.cos(dip), 0.0, np.sin(dip)])
        noise = np.random.default_rng(0)
        while self.now_s < end_s:
            up = np.tile([0.0, 0.0, -1.0], (320, 1)) + noise.normal(0.0, 0.05, (320, 3))
            self.watch.take(batch(up, ACCEL.id, self.now_s, 3200.0))
            told = self.watch.take(batch(np.tile(field, (10, 1)), MAG.id, self.now_s, 100.0))
            if told:
                self.told.append(told)
            self.now_s += 0.1


def test_a_lasting_disturbance_is_told_and_a_passing_one_is_not(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.lie(5.0)
    (first,) = field.told
    assert (first.state, first.norm_ratio) == ("ok", pytest.approx(1.0, abs=0.01))
    field.lie(2.0, length=80.0)  # what is smoothed takes two seconds to forget so much
    field.lie(10.0)
    assert len(field.told) == 1
    field.lie(20.0, length=54.0)
    assert [told.state for told in field.told] == ["ok", "disturbed"]
    assert field.told[1].norm_ratio == pytest.approx(1.08, abs=0.01)
    assert field.told[1].calibration == field.told[0].calibration
    # It began when the field left its band, not when that was believed.
    assert field.told[1].since_s == pytest.approx(117.5, abs=1.0)
    field.lie(28.0)
    field.lie(3.0, length=54.0)
    assert len(field.told) == 2
    field.lie(40.0)
    assert [told.state for told in field.told] == ["ok", "disturbed", "ok"]


def test_a_field_that_only_turns_is_seen_by_its_dip(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.lie(5.0)
    field.lie(10.0, dip_deg=62.0)
    assert len(field.told) == 1
    field.lie(10.0, dip_deg=66.0)
    assert field.told[-1].state == "disturbed"
    assert field.told[-1].dip_deg == pytest.approx(66.0, abs=1.0)
    scattered = Field(tmp_path, dip_sigma_deg=2.0)
    scattered.lie(20.0, dip_deg=66.0)
    assert [told.state for told in scattered.told] == ["ok"]


class Bench:
    """A session of a board with a magnetometer, on a clock of the test's own."""

    def __init__(self, shelf: Shelf) -> None:
        stream, machine = make_machine("compass")
        self.board = SimulatedBoard(
            board_document(UID, (stream,)), [MachineSource(stream, machine)]
        )
        self.asset = Asset("a1", AssetSettings(board="b1", stream="mag", bundle=programs.COMPASS))
        self.asset.load((), 1)
        self.log = StringIO()
        self.seen: list[Samples] = []
        self.session = BoardSession(
            "b1", Link(), [self.asset], None, Journal(self.log),
            lambda _, samples: self.seen.append(samples), shelf=shelf,
        )  # fmt: skip
        self.now_s = 0.0
        self.session.opened(0.0)

    def go_on(self, seconds: float) -> list[Fact]:
        facts: list[Fact] = []
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 0.02
            self.session.tick(self.now_s)
            self.board.feed(self.session.link.outgoing(self.now_s), self.now_s)
            facts += self.session.received(self.board.poll(self.now_s), self.now_s)
        return facts


def test_a_new_calibration_is_taken_up_at_once_and_no_window_mixes_two(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "b1")
    bench = Bench(shelf)
    assert "has not answered yet" in bench.session.take_up(0.0)
    facts = bench.go_on(8.0)
    compass = bench.session.calibrated.compass
    assert compass is not None
    assert compass.state == "uncalibrated"
    assert {fact.calibration for fact in facts if isinstance(fact, Judgement)} == {None}
    raw = np.concatenate([samples.values for samples in bench.seen])

    first = shelf.put(draft(band=Band(radius=60.0)))
    assert first.id in bench.session.take_up(bench.now_s)
    assert "the same" in bench.session.take_up(bench.now_s)
    taken_s = bench.now_s
    facts = bench.go_on(10.0)
    (gap,) = [fact for fact in facts if isinstance(fact, Gap)]
    assert (gap.lost, gap.reason) == (0, f"calibration {first.id} from now on")
    judged = [fact for fact in facts if isinstance(fact, Judgement)]
    assert {fact.calibration for fact in judged} == {first.id}
    assert min(fact.window_start for fact in judged) >= taken_s - 0.2
    assert facts.index(gap) < facts.index(judged[0])
    corrected = bench.seen[-1].values
    assert np.abs(corrected.mean(axis=0) - raw.mean(axis=0)).max() > 5.0
    assert bench.session.calibrated.compass is not None
    assert bench.session.calibrated.compass.calibration == first.id

    second = shelf.put(draft(bias=-3.0))
    bench.session.take_up(bench.now_s)
    bench.go_on(0.5)
    assert back(shelf) == first
    assert first.id in bench.session.take_up(bench.now_s)
    assert first.id in bench.log.getvalue()
    assert second.id in bench.log.getvalue()
    bench.go_on(0.5)
    assert back(shelf) is None
    assert "no calibration from now on" in bench.session.take_up(bench.now_s)
    judged = [fact for fact in bench.go_on(8.0) if isinstance(fact, Judgement)]
    assert {fact.calibration for fact in judged} == {None}
    assert bench.seen[-1].values.mean(axis=0) == pytest.approx(raw.mean(axis=0), abs=25.0)
    assert bench.session.calibrated.compass is not None
    assert bench.session.calibrated.compass.state == "uncalibrated"
    assert "no calibration is applied any more" in bench.log.getvalue()


def test_a_board_is_judged_on_when_its_calibration_is_anothers(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "b1")
    shelf.put(draft(uid=OTHER))
    bench = Bench(shelf)
    facts = bench.go_on(8.0)
    assert any(isinstance(fact, Judgement) for fact in facts)
    (line,) = [line for line in bench.log.getvalue().splitlines() if OTHER in line]
    assert UID in line


CONFIG = """
[gateway]
id = "g"
[boards.b1]
port = "{folder}/board"
[boards.b2]
port = "{folder}/board2"
[assets.a1]
board = "b1"
stream = "mag"
bundle = "{bundle}"
[storage]
state_dir = "{folder}/state"
"""


def config_in(folder: Path) -> Path:
    """A gateway whose board is on `folder/board`."""
    path = folder / "agent.toml"
    path.write_text(CONFIG.format(folder=folder, bundle=programs.COMPASS))
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> list[Any]:
    assert main(["calibrate", *map(str, arguments), "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_list_show_and_rollback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--config", config_in(tmp_path))
    assert told(capsys, "list", *where) == [{"calibrations": 0}]
    shelf = Shelf(tmp_path / "state", "b1")
    stored: list[Stored] = [shelf.put(draft(bias=float(i))) for i in range(3)]
    other = Shelf(tmp_path / "state", "b2").put(draft(board="b2", uid=OTHER))
    *rows, last = told(capsys, "list", *where)
    assert [row["id"] for row in rows] == [one.id for one in stored] + [other.id]
    assert [row["in_use"] for row in rows] == [False, False, True, True]
    assert last == {"calibrations": 4}
    (shown,) = told(capsys, "show", *where)
    assert shown["id"] == stored[2].id
    assert shown["correction"]["bias"] == [2.0, 0.0, -2.0]
    assert shown["temperature_c"] == 21.5
    (back,) = told(capsys, "rollback", *where, "--board", "b1")
    assert (back["id"], back["was"]) == (stored[1].id, stored[2].id)
    assert "no service" in back["told"]
    (refused,) = told(capsys, "rollback", "compass-9-abcdef", *where, code=1)
    assert refused["rolled_back"] is False
    assert "compass-9-abcdef.json" in refused["reason"]
    assert shelf.current("compass") == stored[1]
    assert main(["calibrate", "list", *map(str, where)]) == 0
    page = capsys.readouterr().out
    assert [line.split()[1] for line in page.splitlines() if "in use" in line] == [
        stored[1].id, other.id,
    ]  # fmt: skip
    assert max(map(len, page.splitlines())) <= 80
    assert main(["calibrate", "show", stored[0].id, *map(str, where)]) == 0
    assert "bias 0  0  -0" in capsys.readouterr().out
    (shelf.folder / f"{stored[0].id}.json").write_text("{}")
    assert main(["calibrate", "list", *map(str, where)]) == 0
    assert stored[0].id in capsys.readouterr().err
    for wrong in (["show", "compass-7-abcdef"], ["show", "nonsense"], ["show", "--board", "b9"]):
        assert main(["calibrate", *wrong, *map(str, where)]) == 1
        assert "Traceback" not in capsys.readouterr().err


def test_before_the_first_there_was_none_and_any_of_the_list_is_in_use_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_in(tmp_path)
    shelf = Shelf(tmp_path / "state", "b1")
    made = {kind: shelf.put(draft(kind=kind)) for kind in KINDS}
    for kind, stored in made.items():
        where = ("--config", config, "--kind", kind)
        (gone,) = told(capsys, "rollback", *where)
        assert (gone["rolled_back"], gone["id"], gone["was"]) == (True, None, stored.id)
        assert gone["told"] == "no service runs here: none is used when one starts"
        row, _ = told(capsys, "list", *where)
        assert (row["id"], row["in_use"]) == (stored.id, False)
        for do in ("list", "show", "rollback"):
            assert main(["calibrate", do, *map(str, where)]) == (do != "list")
            out, err = capsys.readouterr()
            assert f"no {kind} " in out + err
            assert stored.id in out + err
            assert max(map(len, out.splitlines()), default=0) <= 80
        (refused,) = told(capsys, "rollback", "none", *where, code=1)
        assert stored.id in refused["reason"]
        # The id alone says which kind it is.
        (there,) = told(capsys, "rollback", stored.id, "--config", config)
        assert (there["id"], there["was"], there["kind"]) == (stored.id, None, kind)
        assert shelf.current(kind) == stored
    shelf.put(draft(bias=1.0))
    assert main(["calibrate", "rollback", "none", "--config", str(config)]) == 0
    page = capsys.readouterr().out
    assert page.startswith("no compass calibration is in use, compass-2-")
    assert "its readings stay as they come" in page


def test_replay_applies_a_calibration_to_a_raw_recording(tmp_path: Path) -> None:
    recording = tmp_path / "mag.rec"
    programs.run("firmware_bridge", "simulate", "--machine", "compass", "--seconds", 20,
                 "--uid", UID, "--out", recording)  # fmt: skip
    shelf = Shelf(tmp_path, "b1")
    mine, others = shelf.put(draft()), shelf.put(draft(uid=OTHER))
    plain = programs.replay(recording, programs.COMPASS, "--scores")
    path = shelf.folder / f"{mine.id}.json"
    corrected = programs.replay(recording, programs.COMPASS, "--scores", "--calibration", path)
    scores = [[r["score"] for r in rows if r.get("kind") == "score"] for rows in (plain, corrected)]
    assert len(scores[0]) == len(scores[1]) > 2
    assert scores[0] != scores[1]
    path = shelf.folder / f"{others.id}.json"
    programs.run("edge_agent", "replay", recording, "--bundle", programs.COMPASS,
                 "--calibration", path, code=1)  # fmt: skip
