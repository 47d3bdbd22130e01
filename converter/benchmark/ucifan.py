"""UCI fan: weights on the blades of a fan, felt at 50 Hz, at nine speeds that the set names.

In: `uci_fan/*.csv.gz` (wconfid, pctid, x, y, z in g; a minute a block). Out: the report. Never: a
threshold that saw the last third of the normal blocks.

Configuration 1 is the normal one, and the strongest vibration at high speed: who looks for more of
it fails. The speed is known, so there is one model a speed, as a plant would have one a regime; it
learns the first 40 s of a block and is asked about the last 20 s and about every other
configuration there is.

Configuration: a window as long as leaves the 40 s of a block with windows for fit, validation and
threshold; the size of the network was chosen on four of the nine speeds, with their tests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter.benchmark.case import Case, Kind, Rows, Test, sensor
from converter.benchmark.contest import Contest, run_contests
from converter.benchmark.report import Report, Request
from converter.benchmark.vibration import columns, data_files
from converter.dataset import Shares
from converter.errors import UsageError
from converter.models.training import TrainSettings
from edge_agent.bundles.manifest import AlarmSpec, SpectralFrontEnd, WindowSpec

RATE_HZ = 50.0
NORMAL = 1
LEARNT_SHARE = 2.0 / 3.0
COLUMNS = ("wconfid", "pctid", "x", "y", "z")
FRONT_END = SpectralFrontEnd(
    segment_length=64, segment_hop=16, segments=8, bands=16, low_hz=0.8, high_hz=25.0
)
KIND = Kind(
    front_end=FRONT_END,
    window=WindowSpec(length=FRONT_END.window_samples, hop=10),
    train_hop=2,
    alarm=AlarmSpec(on_delay_windows=4, off_delay_windows=8),
    units={"dense": (128, 24, 128)},
    activation={"dense": "tanh"},
    train=TrainSettings(epochs=120, learning_rate=0.002),
    shares=Shares(fit=0.6, validation=0.19),
    factor=2.0,  # of a few seconds' quantile
)

Blocks = dict[tuple[int, int], Rows]


def run(request: Request) -> Report:
    """One model a speed; a series each other configuration at that speed."""
    files = data_files(request.data, "uci_fan", "*.csv*", ", ".join(COLUMNS))
    contests = []
    for file in files:
        blocks = read(file)
        for speed in sorted({speed for configuration, speed in blocks if configuration == NORMAL}):
            contest = make_contest(file.name.split(".")[0], speed, blocks)
            if contest.faulty:
                contests.append(contest)
    if not contests:
        raise UsageError(f"{files[0].parent}: no speed with configuration {NORMAL} and another")
    rows, series = run_contests(request, contests)
    notes = [
        f"windows of {FRONT_END.window_samples / RATE_HZ:g} s, one model a speed",
        "window and network were chosen with the areas of four of these speeds in sight",
    ]
    return Report("ucifan", [file.name for file in files], rows, series, notes)


def make_contest(name: str, speed: int, blocks: Blocks) -> Contest:
    """The first two thirds of the normal block are learnt."""
    normal = blocks[NORMAL, speed]
    cut = round(len(normal) * LEARNT_SHARE)
    tests, faulty = [Test("normal", normal[cut:])], dict[str, tuple[str, ...]]()
    for configuration in sorted({one for one, at in blocks if at == speed and one != NORMAL}):
        rows = blocks[configuration, speed]
        test = f"configuration {configuration}"
        tests.append(Test(test, rows, np.ones(len(rows), np.bool_)))
        faulty[f"{speed} %, {test}"] = (test,)
    case = Case(
        f"{name}-{speed}", sensor(["x", "y", "z"], "g", RATE_HZ), KIND, (normal[:cut],),
        tuple(tests),
    )  # fmt: skip
    return Contest(case, ("normal",), faulty)


def read(file: Path) -> Blocks:
    """float32[n, 3] by configuration and per cent of full speed."""
    table = columns(file, COLUMNS)
    rows = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float32)
    of = np.stack([table["wconfid"], table["pctid"]], axis=1).astype(int)
    keys = sorted({(int(configuration), int(speed)) for configuration, speed in of})
    return {key: rows[(of == key).all(axis=1)] for key in keys}
