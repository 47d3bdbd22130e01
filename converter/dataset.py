"""Dataset: recordings to windows of features, split by time.

In: recordings and a draft of the manifest. Out: `WindowSet`s for fit, validation, held-out and
evaluation. Never: computes a feature itself (that is `edge_agent.judging.pipeline`), lets two
blocks share a sample, shuffles.

    |------ fit ------|..|-- validation --|..|---- held out ----|       unseen (normal_share < 1)
                       embargo: one window, which belongs to nobody
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.errors import UsageError
from converter.recordings import Recording
from edge_agent.bundles.manifest import (
    AlarmSpec,
    FileEntry,
    FrontEndSpec,
    Manifest,
    ModelSpec,
    NormalError,
    Provenance,
    Scaler,
    Sensor,
    SmoothFrontEnd,
    WindowSpec,
)
from edge_agent.judging.front_end import make_front_end
from edge_agent.judging.pipeline import Pipeline
from edge_agent.judging.threshold_spec import ThresholdSpec

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

ANOMALOUS, NORMAL, MIXED = 1, 0, -1
ANOMALOUS_SHARE = 0.5
UNKNOWN_SHA256 = "0" * 64


@dataclass(frozen=True, slots=True)
class WindowSet:
    """`features` float32[n, steps, features], unscaled; `recording` the number of the recording;
    rows `first_row` .. `end_row` (exclusive) of it; `label` ANOMALOUS, NORMAL or MIXED; `speed`
    float64[n], NaN without a channel that tells it."""

    features: Features
    recording: Rows
    first_row: Rows
    end_row: Rows
    label: Rows
    speed: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.features)

    def pick(self, chosen: NDArray[np.bool_] | Rows) -> WindowSet:
        """Some of the windows."""
        return WindowSet(
            self.features[chosen],
            self.recording[chosen],
            self.first_row[chosen],
            self.end_row[chosen],
            self.label[chosen],
            self.speed[chosen],
        )


class Shares(NamedTuple):
    """Shares of every normal recording's time; held-out is what is left of `normal`."""

    fit: float = 0.6
    validation: float = 0.15
    normal: float = 1.0


class Dataset(NamedTuple):
    """What a build sees. `evaluate` may be empty."""

    fit: WindowSet
    validation: WindowSet
    held_out: WindowSet
    evaluate: WindowSet


def draft_manifest(
    name: str, sensor: Sensor, front_end: FrontEndSpec, window: WindowSpec, family: str
) -> Manifest:
    """A manifest whose learned numbers are still placeholders: enough to cut windows with."""
    probe = make_front_end(front_end, sensor)
    blank = np.zeros((window.length, len(sensor.channels)), np.float32)
    steps, features = probe.features(blank).shape
    ones = (1.0,) * features
    return Manifest(
        name=name,
        serial=1,
        created="",
        sensor=sensor,
        front_end=front_end,
        window=window,
        scaler=Scaler(centre=(0.0,) * features, scale=ones),
        model=ModelSpec.model_validate(
            {"family": family, "steps": steps, "features": features, "parameters": 1}
        ),
        threshold=ThresholdSpec(method="quantile", value=1.0, windows=1, provisional=True),
        alarm=AlarmSpec(),
        normal_error=NormalError(by_feature=ones, by_step=(1.0,) * steps),
        measures={},
        provenance=Provenance(recordings={}, representative=(), seed=0, versions={}, settings={}),
        files={"model.tflite": FileEntry(sha256=UNKNOWN_SHA256, bytes=1)},
    )


def cut(recording: Recording, draft: Manifest, hop: int, number: int = 0) -> WindowSet:
    """Every window of one recording, in time order, through the gateway's own pipeline."""
    window = WindowSpec(length=draft.window.length, hop=hop)
    pipeline = Pipeline(
        recording.name, draft.model_copy(update={"window": window}), lambda scaled: scaled
    )
    decimate = pipeline.front_end.decimate
    settle = draft.front_end.settle_samples if isinstance(draft.front_end, SmoothFrontEnd) else 0
    features: list[Features] = []
    first_rows: list[int] = []
    speeds: list[float] = []
    row = run_start = 0
    for samples in recording.batches:
        if not samples.contiguous:
            run_start = row
        for found, values in pipeline.features(samples):
            features.append(np.array(values))
            speeds.append(pipeline.speed(found))
            first_rows.append(run_start + settle + found.first_row * decimate)
        row += len(samples.values)
    first_row = np.array(first_rows, np.int64)
    end_row = first_row + (window.length - 1) * decimate + 1
    shape = (0, draft.model.steps, draft.model.features)
    return WindowSet(
        np.stack(features) if features else np.empty(shape, np.float32),
        np.full(len(first_row), number, np.int64),
        first_row,
        end_row,
        _labels(recording, first_row, end_row),
        np.array(speeds, np.float64),
    )


def window_rows(draft: Manifest) -> int:
    """Rows of the recording that one window spans."""
    front_end = draft.front_end
    decimate = front_end.decimate if isinstance(front_end, SmoothFrontEnd) else 1
    return (draft.window.length - 1) * decimate + 1


def split(windows: WindowSet, rows: int, embargo: int, shares: Shares) -> list[WindowSet]:
    """Fit, validation and held-out windows of one recording of `rows` rows, blocks of time with
    `embargo` rows between; windows with an anomalous row belong to none of them."""
    used = round(rows * shares.normal)
    fit_end = round(used * shares.fit)
    validation_end = round(used * (shares.fit + shares.validation))
    blocks = [
        (0, fit_end),
        (fit_end + embargo, validation_end),
        (validation_end + embargo, used),
    ]
    return [
        windows.pick(
            (windows.first_row >= begin) & (windows.end_row <= end) & (windows.label == NORMAL)
        )
        for begin, end in blocks
    ]


def make_dataset(
    draft: Manifest,
    normal: list[Recording],
    held_out: list[Recording],
    evaluate: list[Recording],
    shares: Shares,
    train_hop: int,
) -> Dataset:
    """Every block of a build. With recordings in `held_out`, the normal ones are split into fit
    and validation only. Raises `UsageError` where a block would be empty."""
    if held_out:
        whole = shares.fit + shares.validation
        shares = Shares(shares.fit / whole, shares.validation / whole, shares.normal)
    embargo = window_rows(draft)
    blocks: list[list[WindowSet]] = [[], [], []]
    for number, recording in enumerate(normal):
        windows = cut(recording, draft, train_hop, number)
        for block, part in zip(
            blocks, split(windows, recording.rows, embargo, shares), strict=True
        ):
            block.append(part)
    for number, recording in enumerate(held_out, len(normal)):
        windows = cut(recording, draft, draft.window.hop, number)
        blocks[2].append(windows.pick(windows.label == NORMAL))
    fit, validation, calibration = (join(block, draft) for block in blocks)
    made = {"fit": fit, "validation": validation, "held-out": calibration}
    for what, windows in made.items():
        if not len(windows):
            raise UsageError(
                f"no {what} window: one window spans {embargo} rows and so does each pause between "
                "the blocks: record longer, or shorten the window"
            )
    first = len(normal) + len(held_out)
    labelled = [_evaluated(r, draft, number) for number, r in enumerate(evaluate, first)]
    return Dataset(fit, validation, calibration, join(labelled, draft))


def join(parts: list[WindowSet], draft: Manifest) -> WindowSet:
    """One set of several."""
    if not parts:
        none = np.empty(0, np.int64)
        shape = (0, draft.model.steps, draft.model.features)
        nowhere = np.empty(0, np.float64)
        return WindowSet(np.empty(shape, np.float32), none, none, none, none, nowhere)
    return WindowSet(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.recording for part in parts]),
        np.concatenate([part.first_row for part in parts]),
        np.concatenate([part.end_row for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.speed for part in parts]),
    )


def fit_scaler(fit: WindowSet) -> Scaler:
    """Mean and standard deviation of each feature over the fit windows; a constant has scale 1."""
    rows = fit.features.reshape(-1, fit.features.shape[2]).astype(np.float64)
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    # Smaller than float32 can tell from the centre is constant.
    constant = scale <= np.finfo(np.float32).eps * np.maximum(np.abs(centre), 1e-30)
    scale[constant] = 1.0
    return Scaler(centre=tuple(centre.tolist()), scale=tuple(scale.tolist()))


def _evaluated(recording: Recording, draft: Manifest, number: int) -> WindowSet:
    if recording.anomalous is None:
        raise UsageError(
            f"{recording.name} has no labels: import it with --label-column or --faulty"
        )
    return cut(recording, draft, draft.window.hop, number)


def _labels(recording: Recording, first_row: Rows, end_row: Rows) -> Rows:
    """Anomalous: half of the rows or more; normal: not a single one."""
    if recording.anomalous is None:
        return np.full(len(first_row), NORMAL, np.int64)
    before = np.concatenate([[0], np.cumsum(recording.anomalous)])
    share = (before[end_row] - before[first_row]) / (end_row - first_row)
    return np.where(share >= ANOMALOUS_SHARE, ANOMALOUS, np.where(share == 0, NORMAL, MIXED))
