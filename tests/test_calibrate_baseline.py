"""`edge-agent calibrate baseline` on recordings: what is refused, what is stored of the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.__main__ import main
from edge_agent.assets import Asset
from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.document import baselines_of
from edge_agent.calibrate.baseline.estimate import poisson_interval
from edge_agent.calibrate.baseline.partial import read_partial, write_partial
from edge_agent.calibrate.baseline.task import state_names
from edge_agent.calibrate.baseline.trend import block_means, trend
from edge_agent.calibrate.baseline.verdict import conclude
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import ShelfError
from edge_agent.config import AssetSettings
from edge_agent.judging.pipeline import AlarmEvent, Judgement
from edge_agent.judging.threshold_spec import SpeedBin
from firmware_bridge.recording import identify_frames, record
from firmware_bridge.schema import Schema, StreamSchema, parse_schema, write_schema
from firmware_bridge.signals import ACCEL, Fault, VibrationMachine, digitise
from tests import programs
from tests.bundles import changed
from tests.captures import batches, captured, concluded, machine, transferred, vibration

UID, OTHER = "ab" * 12, "cd" * 12
RATE_HZ = ACCEL.rate_hz
SEED = 7101
CONFIG = """
[gateway]
id = "g"
[boards.b1]
port = "{folder}/board"
uid = "{uid}"
[assets.motor]
board = "b1"
stream = "accel"
bundle = "{bundle}"
[storage]
state_dir = "{folder}/state"
"""


def config_in(folder: Path, bundle: Path = programs.VIBRATION, uid: str = UID) -> Path:
    path = folder / "agent.toml"
    path.write_text(CONFIG.format(folder=folder, bundle=bundle, uid=uid))
    return path


def raw_of(seconds: float, seed: int = SEED, faults: tuple[Fault, ...] = ()) -> np.ndarray:
    """What the converter of a differing motor's sensor gives, <i2[n, 3]."""
    made = VibrationMachine(seed, RATE_HZ, faults, transferred(seed))
    return digitise(made.values(0, round(seconds * RATE_HZ)), ACCEL)


def written(
    path: Path, raw: np.ndarray, stream: StreamSchema = ACCEL, uid: str = UID,
    gaps: tuple[tuple[int, int], ...] = (),
) -> Path:  # fmt: skip
    """A recording of it."""
    document = write_schema("made", uid, "1", (stream,))
    wire = [identify_frames(document), *record(document, stream, raw, gaps=gaps)]
    path.write_bytes(b"".join(wire))
    return path


def calibrated(
    capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0
) -> list[dict[str, Any]]:
    assert main(["calibrate", "baseline", "--json", *map(str, arguments)]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def shelf_in(folder: Path) -> Shelf:
    return Shelf(folder / "state", "b1")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of a motor that differs from those that the bundle was built of."""
    return written(tmp_path_factory.mktemp("healthy") / "healthy.rec", raw_of(125.0))


def asset_in(folder: Path, config: Path) -> Asset:
    """As the service would load it."""
    from edge_agent.config import load_config

    settings: AssetSettings = load_config(config).assets["motor"]
    asset = Asset("motor", settings)
    asset.load((), 1, folder / "state")
    return asset


def schema_of(uid: str) -> Schema:
    return parse_schema(write_schema("made", uid, "1", (ACCEL,)))


def test_a_healthy_machine_is_stored_applied_and_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Path
) -> None:
    config = config_in(tmp_path)
    asset = asset_in(tmp_path, config)
    assert asset.pipeline is not None
    shipped = asset.pipeline.threshold.value
    arguments = ("--config", config, "--replay", healthy, "--minutes", 2, "--report", tmp_path)
    read, state, *checks, last = calibrated(capsys, *arguments)
    assert (read["step"], read["uid"]) == ("read", UID)
    assert state["minutes"] >= 2.0
    assert all(check["ok"] for check in checks)
    assert (last["verdict"], last["saved"], last["provisional"]) == ("pass", True, True)
    assert "no service runs here" in last["told"]
    assert last["now"]["episodes"] <= last["shipped"]["episodes"]
    told = json.loads(next(tmp_path.glob("baseline-*.json")).read_text())
    assert (told["id"], told["uid"]) == (last["id"], UID)
    assert str(last["id"]) in next(tmp_path.glob("baseline-*.html")).read_text()
    # The running asset takes it up in the middle of whatever it does.
    samples = batches(ACCEL, machine(vibration(), SEED, (), transferred(SEED)), 10.0)
    facts = asset.pipeline.feed(next(samples))
    windows = asset.pipeline.counters.windows
    assert last["id"] in str(asset.take_up())
    assert asset.pipeline.threshold.value == last["threshold"] != shipped
    assert asset.pipeline.counters.windows == windows > 0
    facts = asset.pipeline.feed(next(samples))
    stamps = [fact.calibration for fact in facts if isinstance(fact, Judgement)]
    assert stamps
    assert set(stamps) == {last["id"]}
    assert asset.take_up() is None
    # Loaded anew it is there at once, and another board's it is not.
    again = asset_in(tmp_path, config)
    assert again.pipeline is not None
    assert again.pipeline.baseline == last["id"]
    again.fit(schema_of(OTHER))
    assert again.pipeline.threshold.value == shipped
    assert UID in str(again.note)
    assert OTHER in str(again.note)
    again.fit(schema_of(UID))
    assert (again.pipeline.baseline, again.note) == (last["id"], None)


def test_a_second_one_is_rolled_back_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Path
) -> None:
    arguments = ("--config", config_in(tmp_path), "--replay", healthy, "--minutes", 2)
    (*_, last), (*_, second) = (calibrated(capsys, *arguments) for _ in range(2))
    assert second["id"] != last["id"]
    where = ("--config", str(config_in(tmp_path)), "--kind", "baseline", "--json")
    assert main(["calibrate", "rollback", *where]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == last["id"]
    assert main(["calibrate", "show", *where]) == 0
    assert json.loads(capsys.readouterr().out)["details"]["asset"] == "motor"


def test_another_bundle_is_not_judged_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Path
) -> None:
    config = config_in(tmp_path)
    *_, last = calibrated(capsys, "--config", config, "--replay", healthy, "--minutes", 2)
    other = changed(programs.VIBRATION, tmp_path / "other.otolith", serial=2)
    asset = asset_in(tmp_path, config_in(tmp_path, other))
    assert asset.pipeline is not None
    assert asset.pipeline.baseline is None
    assert last["id"] in str(asset.note)
    assert "another judges" in str(asset.note)
    damaged = tmp_path / "state" / "calibrations" / "b1" / f"{last['id']}.json"
    damaged.write_bytes(b"{}")
    asset = asset_in(tmp_path, config_in(tmp_path))
    assert asset.pipeline is not None
    assert asset.pipeline.baseline is None
    assert last["id"] in str(asset.note)


def _gappy() -> tuple[tuple[int, int], ...]:
    """Two seconds are missing every twenty."""
    return tuple((row, 6400) for row in range(64_000, 390_000, 64_000))


def broken(folder: Path) -> dict[str, tuple[Path, str]]:
    """Recordings that nobody should calibrate on, and what must be said of each."""
    raw = raw_of(125.0)
    stuck, cut, ranged = raw.copy(), raw.copy(), raw.copy()
    stuck[:, 1] = 7
    low, high = np.quantile(raw[:, 0], (0.1, 0.9))
    cut[:, 0] = np.clip(raw[:, 0], low, high)
    ranged[::100, 2] = round(16.0 / ACCEL.scale)
    late = raw_of(125.0, faults=(Fault("unbalance", 100.0),))
    ramp = np.linspace(1.0, 2.2, len(raw))[:, None]
    text = folder / "text.rec"
    text.write_text("t,x,y,z\n" + "0,1,2,3\n" * 5000)
    empty = folder / "empty.rec"
    empty.write_bytes(b"")

    def made(name: str, values: np.ndarray, **more: Any) -> Path:
        return written(folder / f"{name}.rec", values.astype("<i2"), **more)

    centre = raw.mean(axis=0)
    return {
        "too short": (made("short", raw[: 60 * 3200]), "too short: running 1.0 of 2 minutes"),
        "gaps": (made("gaps", raw, gaps=_gappy()), "of the minutes have lost"),
        "clipped": (made("ranged", ranged), "at the end of the sensor's range"),
        "cut off": (made("cut", cut), "in runs of one extreme value"),
        "stuck": (made("stuck", stuck), "channel y has one value"),
        "zeros": (made("zeros", 0 * raw), "every value is zero"),
        "unit": (made("unit", raw, stream=replace(ACCEL, unit="mV")), "wants unit g"),
        "stream": (made("stream", raw, stream=replace(ACCEL, name="other")), "accel"),
        "uid": (made("uid", raw, uid=OTHER), f"{OTHER}, {UID} was expected"),
        "text": (text, "is this a recording"),
        "empty": (empty, "is this a recording"),
        "fault": (made("fault", raw_of(125.0, faults=(Fault("bearing", 0.0),))), "impulses"),
        "late fault": (made("late", late), "jump"),
        "drift": (made("drift", np.rint(centre + (raw - centre) * ramp)), "drift"),
    }  # fmt: skip


def test_what_cannot_be_calibrated_on_is_named_and_nothing_is_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Path
) -> None:
    config = config_in(tmp_path)
    *_, good = calibrated(capsys, "--config", config, "--replay", healthy, "--minutes", 2)
    for how, (path, said) in broken(tmp_path).items():
        *_, last = calibrated(
            capsys,
            "--config",
            config,
            "--replay",
            path,
            "--minutes",
            2,
            "--accept-marginal",
            code=1,
        )
        assert (last["verdict"], last["saved"], last["id"]) == ("fail", False, None), how
        assert said in last["reason"], (how, last["reason"])
        assert shelf_in(tmp_path).current_id("baseline") == good["id"], how
    path = tmp_path / "nowhere.rec"
    assert main(["calibrate", "baseline", "--config", str(config), "--replay", str(path)]) == 74


def test_each_state_needs_its_minutes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Path
) -> None:
    full = written(tmp_path / "full.rec", raw_of(40.0, seed=SEED))
    where = ("--bundle", programs.VIBRATION, "--minutes", 1.5)
    *_, last = calibrated(
        capsys, *where, "--replay", f"idle={healthy}", "--replay", f"full={full}", code=1
    )
    assert "too short: full 0.7 of 1.5 minutes" in last["reason"]
    read, idle, full_told, *_, last = calibrated(
        capsys, *where, "--replay", f"idle={healthy}", "--replay", f"full={healthy}"
    )
    assert [idle["state"], full_told["state"]] == ["idle", "full"]
    assert (last["verdict"], last["saved"]) == ("pass", False)
    assert "nothing is stored" in last["told"]
    assert main(["calibrate", "baseline", "--bundle", str(programs.VIBRATION)]) == 2


def test_a_site_limit_that_is_exceeded_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Path
) -> None:
    config = config_in(tmp_path)
    limit = "[[assets.motor.limits]]\nabove = 0.5\n[storage]"
    config.write_text(config.read_text().replace("[storage]", limit))
    *_, last = calibrated(capsys, "--config", config, "--replay", healthy, "--minutes", 2, code=1)
    assert last["refused_by"] == ["site limits"]


def test_a_captured_motor_no_longer_alarms_and_its_faults_still_do() -> None:
    """The shipped threshold is exceeded all the time by this motor; a provisional one is not."""
    kind = vibration()
    found = concluded(kind, 9005, 4.0, (), transferred(9005, 0.5))
    assert found.verdict == "pass", found.reason
    assert found.result is not None
    assert found.result.estimate.shipped.share > 0.2
    assert found.result.estimate.now.episodes == 0
    from edge_agent.assets import build_pipeline

    update = {"threshold": found.result.threshold, "normal_error": found.result.normal_error}
    pipeline = build_pipeline(
        "motor", kind.bundle._replace(manifest=kind.bundle.manifest.model_copy(update=update))
    )
    ill = machine(kind, 9005, (Fault("unbalance", 320.0),), transferred(9005, 0.5))
    begun = [
        fact.change.t
        for batch in batches(ACCEL, ill, 60.0, 300.0)
        for fact in pipeline.feed(batch)
        if isinstance(fact, AlarmEvent) and fact.change.kind == "begin"
    ]
    assert len(begun) == 1
    assert 320.0 < begun[0] < 323.0


@pytest.mark.parametrize("fault", ["bearing", "unbalance", "looseness"])
def test_the_quick_motor_is_the_motor_as_its_sensor_sees_it(fault: str) -> None:
    settings, faults = transferred(SEED), (Fault(fault, 3600.5),)
    made = (
        VibrationMachine(SEED, RATE_HZ, faults, settings),
        machine(vibration(), SEED, faults, settings),
    )
    first = round(3600.0 * RATE_HZ)
    usual, quick = (digitise(one.values(first, 4096), ACCEL) for one in made)
    assert (usual == quick).all()


def test_faults_of_every_kind_are_refused_and_other_healthy_motors_are_not() -> None:
    """A glance; `python -m tests.captures refusals` is the whole of it."""
    kind = vibration()
    for fault in (Fault("bearing", 0.0), Fault("unbalance", 60.0), Fault("looseness", 110.0)):
        found = concluded(kind, 7201, 2.0, (fault,), transferred(7201))
        assert found.verdict == "fail"
        assert {check.family for check in found.checks if not check.ok} <= {"fault", "drift"}
    for seed in (8201, 8202):
        assert concluded(kind, seed, 2.0, (), transferred(seed)).verdict == "pass"


def test_a_much_louder_machine_is_told_what_its_threshold_costs() -> None:
    kind = vibration()
    for seed, by, more in ((5301, 1.0, "build a bundle of it"), (8201, 0.5, "")):
        found = concluded(kind, seed, 2.0, (), transferred(seed, by))
        assert (found.verdict, bool(found.next_move)) == ("pass", bool(more))
        assert more in found.next_move


def test_a_capture_goes_on_where_it_was_and_hostile_bytes_begin_anew() -> None:
    kind = vibration()
    capture = captured(kind, batches(ACCEL, machine(kind, SEED), 40.0))
    content = write_partial(capture, UID, ("running",), 0)
    assert content is not None
    fresh = Capture(kind.bundle, ACCEL)
    assert read_partial(content, fresh, UID, ("running",)) == 0
    assert fresh.scores == pytest.approx(capture.scores, rel=1e-5)
    assert fresh.hearing.good().tolist() == capture.hearing.good().tolist()
    assert len(fresh.hearing.gauges) == len(capture.hearing.gauges) > 0
    head, _, data = content.partition(b"\n")
    hostile = (
        b"", b"\n", head, content[:-1], content + b"x", b"[" * 100_000, b"{}\n" + data,
        head.replace(b'"windows":', b'"windows":1') + b"\n" + data,
        head + b"\n" + b"\xff" * len(data),
        head.replace(b'"gauged":[0', b'"gauged":[-1') + b"\n" + data,
    )  # fmt: skip
    for bad in hostile:
        fresh = Capture(kind.bundle, ACCEL)
        assert read_partial(bad, fresh, UID, ("running",)) is None
        assert fresh.scores == []
    assert read_partial(content, Capture(kind.bundle, ACCEL), OTHER, ("running",)) is None
    assert read_partial(content, Capture(kind.bundle, ACCEL), UID, ("idle",)) is None


def test_a_trend_is_more_than_noise() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(size=2000)
    means = block_means(noise)
    assert means is not None
    assert trend(means).p > 0.01
    rising = block_means(noise + np.linspace(0.0, 2.0, 2000))
    assert rising is not None
    found = trend(rising)
    assert found.p < 1e-4
    assert found.moved == pytest.approx(2.0, rel=0.2)
    steps = block_means(noise + 3.0 * (np.arange(2000) > 1500))
    assert steps is not None
    assert trend(steps).jump == pytest.approx(3.0, rel=0.2)
    assert block_means(noise[:30]) is None


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904)]
)
def test_the_interval_of_a_count_is_the_tabled_one(count: int, low: float, high: float) -> None:
    assert poisson_interval(count) == pytest.approx((low, high), abs=1e-4)


def test_a_document_that_was_tampered_with_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Path
) -> None:
    config = config_in(tmp_path)
    calibrated(capsys, "--config", config, "--replay", healthy, "--minutes", 2)
    stored = shelf_in(tmp_path).current("baseline")
    assert stored is not None
    (told,) = baselines_of(stored).values()
    assert (told.asset, told.uid, told.stream) == ("motor", UID, "accel")
    fields = stored.details["assets"]
    assert isinstance(fields, dict)
    mine = dict(fields["motor"])  # type: ignore[arg-type]
    for details in (
        {}, {"assets": []}, {"assets": {"fan": mine}}, {"assets": {"motor": mine | {"extra": 1}}},
        {"assets": {"motor": mine | {"threshold": {"value": -1}}}},
    ):  # fmt: skip
        with pytest.raises(ShelfError):
            baselines_of(stored.model_copy(update={"details": details}))


def test_each_speed_is_a_state_of_its_own_and_one_may_be_missing() -> None:
    """A bundle with bins of the speed: the channel that tells it may stand still."""
    kind = vibration()
    manifest = kind.bundle.manifest
    own = manifest.threshold
    bins = tuple(
        SpeedBin(low=low, high=low + 500.0, value=own.value, windows=500)
        for low in (1000.0, 1500.0, 2000.0)
    )
    sensor = manifest.sensor.model_copy(
        update={"channels": ("x", "y", "z", "rpm"), "speed_channel": "rpm"}
    )
    update = {"sensor": sensor, "threshold": own.model_copy(update={"bins": bins})}
    stream = replace(ACCEL, channels=sensor.channels)
    bundle = kind.bundle._replace(manifest=manifest.model_copy(update=update))
    capture = Capture(bundle, stream)
    capture.begin(0)
    made = machine(kind, SEED, (), transferred(SEED, 0.5))
    for samples in batches(ACCEL, made, 250.0):
        rpm = 1200.0 if samples.t0 < 125.0 else 1700.0
        speed = np.full((len(samples.values), 1), rpm, np.float32)
        capture.take(samples._replace(values=np.hstack([samples.values, speed])))
    names = state_names(bundle, ())
    assert names[0] == "rpm 1000-1500"
    found = conclude(capture, names, 2.0)
    assert found.verdict == "marginal", found.reason
    assert "too short: rpm 2000-2500 0.0" in found.reason
    assert [one.windows > 400 for one in found.states] == [True, True, False]
    assert found.result is not None
    slow, fast, unseen = found.result.threshold.bins
    assert min(slow.windows, fast.windows) > 300
    assert unseen.windows == 0
    assert min(slow.value, fast.value, unseen.value) >= own.value
    assert conclude(capture, names, 3.0).verdict == "fail"
