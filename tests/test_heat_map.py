"""The picture of an alarm: the guilty cell is the hottest, whatever the names and numbers are."""

from __future__ import annotations

import base64
import io
import json
import math
import sys
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from edge_agent.bundles.bundle import read_bundle
from edge_agent.bundles.manifest import NormalError, Scaler, Sensor
from edge_agent.bundles.model import model_of
from edge_agent.judging.front_end import FrontEnd, make_front_end
from edge_agent.judging.scoring import Score, Scorer
from edge_agent.picture.canvas import BRIGHT, DIM, HEATS, INKS, fit, plain, text_width
from edge_agent.picture.explanation import MAX_PAYLOAD_BYTES, explanation
from edge_agent.picture.heat_map import MAX_ROWS, ROW_PIXELS, ROWS_TOP, WIDTH, Caption, heat_map
from edge_agent.picture.surprise import MAX_COLUMNS, WORST_CELL, Surprise, surprise
from firmware_bridge.signals import (
    ACCEL,
    MAG,
    CompassMachine,
    Fault,
    Machine,
    StreamSchema,
    VibrationMachine,
    digitise,
)
from tests.conftest import ROOT
from tests.test_boundaries import loaded_by

BUNDLES = ROOT / "edge_agent" / "default_bundle"
CAPTION = Caption("run7-pump-1", "pump", "2026-11-22T13:45:02.123Z", 3.1)
USUAL_PNG_BYTES = 8 << 10
MAX_PICTURE_CHARACTERS = 12 << 10


class Case:
    """A score and everything that the map needs to know beside it."""

    def __init__(
        self, score: Score, sensor: Sensor, labels: tuple[str, ...], step_seconds: float
    ) -> None:
        self.score, self.sensor = score, sensor
        self.labels, self.step_seconds = labels, step_seconds

    def map(self) -> Surprise:
        return surprise(self.score, self.sensor, self.labels, self.step_seconds)

    def picture(self) -> PngImagePlugin.PngImageFile:
        return decoded(heat_map(self.map(), CAPTION))

    def message(self) -> dict:
        """The explanation as a subscriber reads it."""
        found = explanation(CAPTION, self.score, self.sensor, self.labels, self.step_seconds)
        payload = found.model_dump_json().encode()
        assert len(payload) <= MAX_PAYLOAD_BYTES
        return json.loads(payload)


def decoded(png: bytes) -> PngImagePlugin.PngImageFile:
    """The picture, every pixel of it read."""
    picture = Image.open(io.BytesIO(png))
    assert isinstance(picture, PngImagePlugin.PngImageFile)
    assert picture.width == WIDTH
    picture.load()
    return picture


def judged(bundle_name: str, machine: Machine, stream: StreamSchema, seconds: float) -> Case:
    """The real bundle's verdict on the last window of so many seconds of a machine."""
    bundle = read_bundle(BUNDLES / f"{bundle_name}.otolith")
    manifest = bundle.manifest
    front_end: FrontEnd = make_front_end(manifest.front_end, manifest.sensor)
    scorer = Scorer(manifest.scaler, manifest.normal_error, front_end.channel_of)
    values = digitise(machine.values(0, round(seconds * stream.rate_hz)), stream) * stream.scale
    rows = front_end.condition(values.astype(np.float32))
    scaled = scorer.scale(front_end.features(rows[-manifest.window.length :]))
    score = scorer.score(seconds, scaled, model_of(manifest.model, bundle.files)(scaled))
    step_seconds = front_end.decimate / stream.rate_hz
    return Case(score, manifest.sensor, front_end.labels, step_seconds)


def series(values: np.ndarray, names: tuple[str, ...] = (), normal: float = 1.0) -> Case:
    """A slow sensor whose model expects nothing but zeros; 10 s a step."""
    steps, count = values.shape
    names = names or tuple(f"ch{i:02d}" for i in range(count))
    levels = NormalError(by_feature=(normal,) * count, by_step=(1.0,) * steps)
    scaler = Scaler(centre=(0.0,) * count, scale=(1.0,) * count)
    scorer = Scorer(scaler, levels, np.arange(count))
    scaled = values.astype(np.float32)
    score = scorer.score(0.0, scaled, np.zeros_like(scaled))
    # Names that no manifest would let through must not break a picture either.
    sensor = Sensor.model_construct(channels=names, unit="V", rate_hz=0.1)
    return Case(score, sensor, ("",) * count, 10.0)


def bands(values: np.ndarray, labels: tuple[str, ...], names: tuple[str, ...]) -> Case:
    """A spectrum, float[channel, feature]; channels without a row in it are at the end."""
    count = values.size
    levels = NormalError(by_feature=(1.0,) * count, by_step=(1.0,))
    scaler = Scaler(centre=(0.0,) * count, scale=(1.0,) * count)
    scorer = Scorer(scaler, levels, np.repeat(np.arange(len(values)), len(labels)))
    scaled = values.reshape(1, -1).astype(np.float32)
    score = scorer.score(0.0, scaled, np.zeros_like(scaled))
    sensor = Sensor(channels=names, unit="g", rate_hz=3200.0)
    return Case(score, sensor, labels * len(values), 0.25)


def heats(picture: Image.Image, rows: int) -> np.ndarray:
    """Heat of every pixel of the map; -1 where there is no cell."""
    pitch = next(pixels for count, pixels in ROW_PIXELS.items() if rows <= count)
    pixels = np.asarray(picture)[ROWS_TOP : ROWS_TOP + rows * pitch].astype(int)
    return np.where(pixels >= INKS, pixels - INKS, -1)


def hottest(picture: Image.Image, rows: int) -> tuple[int, float]:
    """Row of the hottest cell, and where between the left and right end of the map it lies."""
    pixels = heats(picture, rows)
    y, x = np.nonzero(pixels == pixels.max())
    assert np.ptp(y) < len(pixels) / rows
    _, cells = np.nonzero(pixels >= 0)
    return int(y.mean() * rows / len(pixels)), (x.mean() - cells.min()) / np.ptp(cells)


@pytest.fixture(scope="module")
def bearing() -> Case:
    """The demo's fault, as the demo's bundle sees it."""
    machine = VibrationMachine(7, ACCEL.rate_hz, (Fault("bearing", 3.0, channel="y"),))
    return judged("vibration", machine, ACCEL, 5.0)


def test_a_bearing_fault_is_hot_in_its_channel_at_the_resonance(bearing: Case) -> None:
    found = bearing.map()
    assert (found.axis, found.extras, found.cells.shape) == ("band", 4, (3, 28))
    row, column = np.unravel_index(found.cells.argmax(), found.cells.shape)
    low, high = map(float, found.columns[column].removesuffix(" Hz").split("-"))
    assert found.channels[row] == found.causes[0].channel == "y"
    assert low < VibrationMachine(7, 1.0).settings.resonance_hz < high
    assert found.causes[0].column == column
    picture = bearing.picture()
    place, across = hottest(picture, 3)
    assert found.order[place] == row
    # The 24 bands take what the four others and a small gap leave.
    assert across == pytest.approx((column + 0.5) / 24 * 0.8, abs=0.03)
    ratio = np.square(bearing.score.residuals[0]) / bearing.score.levels.by_feature
    np.testing.assert_allclose(found.cells.ravel(), ratio)


def test_a_drift_is_hot_in_its_channel_at_the_end_of_the_window() -> None:
    machine = CompassMachine(8, MAG.rate_hz, (Fault("drift", 8.0, None, 20.0, "x"),))
    case = judged("compass", machine, MAG, 20.0)
    found = case.map()
    assert (found.axis, found.cells.shape) == ("time", (3, 25))
    assert found.columns[0] == "-5 s"
    assert found.columns[-1] == "-0.2 s"
    assert found.channels[found.order[0]] == "x"
    place, across = hottest(case.picture(), 3)
    assert place == 0
    assert across > 0.8


def test_a_healthy_window_stays_dark() -> None:
    case = judged("vibration", VibrationMachine(7, ACCEL.rate_hz), ACCEL, 5.0)
    assert heats(case.picture(), 3).max() < HEATS / 2


def test_the_hottest_colour_is_the_brightest() -> None:
    values = np.zeros((20, 3))
    values[:, 0] = np.geomspace(1e-3, 100, 20)
    picture = series(values).picture()
    palette = np.array(picture.getpalette()).reshape(-1, 3)[INKS : INKS + HEATS]
    luminance = palette @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > -0.5).all()
    line = heats(picture, 3)[5]
    line = line[line >= 0]
    assert (np.diff(line) >= 0).all()
    assert (line[0], line[-1]) == (0, HEATS - 1)


def test_the_same_alarm_gives_the_same_small_file_that_knows_its_event(bearing: Case) -> None:
    begin = time.perf_counter()
    png = heat_map(bearing.map(), CAPTION)
    took_ms = 1e3 * (time.perf_counter() - begin)
    sys.stdout.write(f"one picture: {took_ms:.1f} ms, {len(png)} bytes\n")
    assert heat_map(bearing.map(), CAPTION) == png
    assert heat_map(bearing.map(), CAPTION._replace(ratio=3.2)) != png
    assert len(png) <= USUAL_PNG_BYTES
    picture = decoded(png)
    assert picture.mode == "P"
    assert picture.text == {"event_id": "run7-pump-1"}


def test_nothing_is_loaded_before_the_first_picture() -> None:
    assert "PIL" not in loaded_by("import edge_agent.picture.explanation")


def test_time_is_pooled_from_the_end_of_the_window() -> None:
    values = np.random.default_rng(2).normal(size=(100, 2))
    found = series(values, normal=2.0).map()
    assert found.column_seconds == 30.0
    assert found.columns[::11] == ("-1020 s", "-690 s", "-360 s", "-30 s")
    ends = range(100, 0, -3)
    expected = [np.square(values[max(end - 3, 0) : end]).mean(axis=0) / 2 for end in ends]
    np.testing.assert_allclose(found.cells, np.array(expected[::-1]).T, rtol=1e-5)
    assert found.shares == pytest.approx(series(values).score.by_channel)


def test_a_spike_is_found_where_it_was() -> None:
    values = np.full((480, 5), 0.1)
    values[123, 3] = -40.0
    case = series(values)
    found = case.map()
    cause = found.causes[0]
    assert (cause.channel, cause.column) == ("ch03", 12)
    assert (cause.observed, cause.expected) == (-40.0, 0.0)
    assert hottest(case.picture(), 5) == (0, pytest.approx(12.5 / 48, abs=0.01))
    top = case.message()["top_channels"][0]
    assert (top["channel"], top["column"], top["observed"]) == ("ch03", "-3600 s", -40.0)


def test_too_many_bands_are_joined_and_what_is_no_band_is_not() -> None:
    labels = tuple(f"{10 * i}-{10 * i + 10} Hz ({i}.0-{i + 1}.0 x shaft)" for i in range(100))
    values = np.full((2, 102), 0.1)
    values[1, 101] = 9.0
    values[0, 7] = 3.0
    case = bands(values, (*labels, "level", "crest"), ("x", "y", "speed"))
    found = case.map()
    # The channel that only says the speed has no features, so no row.
    assert (found.channels, found.extras) == (("x", "y"), 2)
    assert found.columns[:2] == ("0-30 Hz (0.0-3.0 x shaft)", "30-60 Hz (3.0-6.0 x shaft)")
    assert found.columns[-3:] == ("990-1000 Hz (99.0-100.0 x shaft)", "level", "crest")
    assert found.cells[0, 2] == pytest.approx((9.0 + 0.02) / 3)
    assert [(c.channel, c.label, c.column) for c in found.causes] == [
        ("y", "crest", 35), ("x", labels[7], 2),
    ]  # fmt: skip
    place, across = hottest(case.picture(), 2)
    assert place == 0
    assert across > 0.95


def test_sixty_four_channels_show_the_worst_dozen() -> None:
    values = np.random.default_rng(4).normal(size=(600, 64))
    values[300:, 50] += 9.0
    case = series(values)
    found = case.map()
    assert found.cells.shape[0] == 64
    assert found.cells.shape[1] <= MAX_COLUMNS
    assert found.order[0] == 50
    png = heat_map(found, CAPTION)
    assert len(png) <= USUAL_PNG_BYTES
    pixels = heats(decoded(png), MAX_ROWS)
    rows = np.diff(np.concatenate([[0], (pixels >= 0).any(axis=1)]).astype(int))
    assert np.count_nonzero(rows == 1) == MAX_ROWS
    message = case.message()
    assert len(message["rows"]) == len(message["matrix"]) == 64
    assert {len(row) for row in message["matrix"]} == {len(message["columns"])}


def test_the_largest_message_is_pooled_until_it_fits() -> None:
    random = np.random.default_rng(5)
    values = 10.0 ** random.uniform(-1.4, 4.4, size=(48, 64))
    names = tuple(f'{i}\N{FISH}\\"\x07' + "\N{HAMMER}" * 90 for i in range(64))
    message = series(values, names).message()
    assert len(message["columns"]) in (12, 24)
    assert len(message["rows"]) == len(message["matrix"]) == 64
    assert all(len(name.encode()) <= 64 and name.isprintable() for name in message["rows"])
    png = base64.b64decode(message["png"], validate=True)
    assert len(message["png"]) <= MAX_PICTURE_CHARACTERS
    assert decoded(png).text == {"event_id": "run7-pump-1"}


def test_the_message_says_what_the_map_says(bearing: Case) -> None:
    message, found = bearing.message(), bearing.map()
    assert message["event_id"] == "run7-pump-1"
    assert (message["axis"], message["rows"]) == ("band", ["x", "y", "z"])
    assert message["columns"] == list(found.columns)
    assert message["unit"] == "× normal level"
    np.testing.assert_allclose(message["matrix"], found.cells, rtol=5.1e-3, atol=5.1e-4)
    assert base64.b64decode(message["png"]) == heat_map(found, CAPTION)
    top = message["top_channels"][0]
    assert (top["channel"], top["feature"]) == ("y", found.columns[found.causes[0].column])
    assert top["share"] == pytest.approx(bearing.score.by_channel[1], abs=1e-4)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38])
def test_numbers_beyond_all_bounds_are_as_bad_as_it_gets(bad: float) -> None:
    values = np.random.default_rng(6).normal(size=(30, 4))
    values[20:, 2] = bad
    case = series(values)
    found = case.map()
    assert np.isfinite(found.cells).all()
    assert found.cells.max() == WORST_CELL
    assert hottest(case.picture(), 4)[0] == 0
    top = case.message()["top_channels"][0]
    assert top["channel"] == "ch02"
    assert (top["observed"] is None) == (not math.isfinite(bad))


@pytest.mark.parametrize("value", [0.0, 1.0, 1e3])
def test_equal_errors_have_one_colour_and_the_sensors_order(value: float) -> None:
    case = series(np.full((10, 3), value))
    assert case.map().order == (0, 1, 2)
    assert len(set(heats(case.picture(), 3).ravel()) - {-1}) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (48, 1), (49, 1), (2000, 2)])
def test_any_size_of_window_has_a_picture(shape: tuple[int, int]) -> None:
    case = series(np.random.default_rng(7).normal(size=shape))
    assert case.map().cells.shape[1] <= MAX_COLUMNS
    assert case.picture().height < WIDTH
    case.message()


@settings(max_examples=12)
@example(names=["\n", "a\nb\r"], asset="x\n\n y\0")
@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=4), asset=st.text())
def test_no_name_breaks_the_picture(names: list[str], asset: str) -> None:
    case = series(np.ones((3, len(names))), tuple(names))
    decoded(heat_map(case.map(), CAPTION._replace(asset=asset, ts=asset, event_id=asset)))
    case.message()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bearing_y", "bearing_y"),
        ("Kühlwasser °C", "Kuhlwasser deg C"),
        ("µT", "uT"),
        ("a\x00b\nc", "a?b?c"),
        ("温度", "channel 3"),
        ("\x1b\x07", "channel 3"),
        (" ", "channel 3"),
    ],
)
def test_names_are_spelled_with_what_the_font_has(name: str, shown: str) -> None:
    assert plain(name, "channel 3") == shown


def test_long_names_keep_what_tells_them_apart() -> None:
    short = fit(plain("bearing_housing_temperature_" * 9 + "left", ""), 13, 110)
    assert short.startswith("bearing_")
    assert short.endswith("left")
    assert text_width(short, 13) <= 110
    assert fit("left", 13, 110) == "left"
    assert fit("left", 13, 1) == ""


def test_the_card_can_be_read(bearing: Case) -> None:
    """Text is light on dark by the rule for people who see badly (7 : 1)."""
    palette = np.array(bearing.picture().getpalette()).reshape(-1, 3) / 255
    linear = np.where(palette <= 0.04045, palette / 12.92, ((palette + 0.055) / 1.055) ** 2.4)
    light = linear @ (0.2126, 0.7152, 0.0722) + 0.05
    for brightness in (DIM, BRIGHT):
        assert light[brightness * (INKS - 1) // 255] / light[0] >= 7
