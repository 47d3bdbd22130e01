"""Build: recordings of a healthy machine to a bundle and what it is worth. All steps in order.

    recordings -> windows -> scaler -> training -> int8 -> comparison -> threshold -> bundle

In: recordings and settings. Out: a `Built` with the verdict; the manifest only if int8 is accepted.
Never: looks at a held-out window before the model is finished, writes a file, reads a clock.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np

from converter.baseline import LinearRival
from converter.bundle import file_entry
from converter.console import Silent, Steps
from converter.dataset import (
    Dataset,
    Shares,
    WindowSet,
    draft_manifest,
    fit_scaler,
    make_dataset,
)
from converter.errors import UsageError
from converter.evaluate import Scores
from converter.fidelity import Comparison, Limits, Rated, compare, rate
from converter.models import DEFAULT_ACTIVATION, DEFAULT_UNITS, ModelSettings
from converter.models.training import Trained, TrainSettings, train
from converter.quantize import HEADROOM, REPRESENTATIVE_WINDOWS, convert, representative_rows
from converter.recordings import Recording
from edge_agent.front_end import make_front_end
from edge_agent.interpreter import Interpreter
from edge_agent.manifest import (
    AlarmSpec,
    FrontEndSpec,
    Manifest,
    ModelSpec,
    Provenance,
    RepresentativeWindow,
    SpectralFrontEnd,
    ThresholdSpec,
    WindowSpec,
)
from edge_agent.scoring import Scorer
from edge_agent.threshold import Method, commission

PACKAGES = ("otolith", "tensorflow", "keras", "tf_keras", "ai-edge-litert", "numpy")


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Everything that makes two builds different, but for the recordings."""

    name: str
    family: str
    front_end: FrontEndSpec
    window: WindowSpec
    train_hop: int
    units: tuple[int, ...] = ()
    activation: str = ""
    shares: Shares = Shares()
    train: TrainSettings = field(default_factory=TrainSettings)
    headroom: float = HEADROOM
    representative: int = REPRESENTATIVE_WINDOWS
    threshold: Method = "quantile"
    q: float = 0.995
    factor: float = 1.2
    alarm: AlarmSpec = field(default_factory=AlarmSpec)
    limits: Limits = Limits()
    serial: int = 1
    created: str = ""


class Roles(NamedTuple):
    """The recordings by what they are for."""

    normal: list[Recording]
    held_out: list[Recording]
    evaluate: list[Recording]

    def all(self) -> list[Recording]:
        """In the order in which `WindowSet.recording` numbers them."""
        return [*self.normal, *self.held_out, *self.evaluate]


class Built(NamedTuple):
    """`manifest` and `model` only where `comparison.accepted`."""

    comparison: Comparison
    trained: Trained
    windows: dict[str, int]
    manifest: Manifest | None
    model: bytes | None


def build(settings: BuildSettings, roles: Roles, steps: Steps | None = None) -> Built:
    """The whole way. Raises `ConverterError` where it can't be gone."""
    steps = steps or Silent()
    _check_recordings(roles)
    draft = _draft(settings, roles)
    steps.begin("windows")
    dataset = make_dataset(
        draft, roles.normal, roles.held_out, roles.evaluate, settings.shares, settings.train_hop
    )
    draft = draft.model_copy(update={"scaler": fit_scaler(dataset.fit)})
    model = _model_settings(settings, draft)
    scorer = _scorer(draft)
    fit, validation = scorer.scale(dataset.fit.features), scorer.scale(dataset.validation.features)
    trained = train(model, settings.train, fit, validation, steps)
    chosen = representative_rows(fit, settings.representative)
    steps.begin("float and int8")
    converted = convert(
        model, trained.weights, fit[chosen], settings.headroom, int8=model.int8_refusal is None
    )
    steps.begin("comparison")
    comparison = _compare(settings, scorer, dataset, fit, converted.float32, converted.int8, model)
    manifest = None
    if comparison.accepted and comparison.int8 is not None and converted.int8 is not None:
        manifest = _manifest(
            draft, settings, roles, trained, dataset.fit.pick(chosen), comparison, converted.int8
        )
    counts = {name: len(part) for name, part in dataset._asdict().items()}
    return Built(comparison, trained, counts, manifest, converted.int8 if manifest else None)


def _check_recordings(roles: Roles) -> None:
    recordings = roles.all()
    if not roles.normal:
        raise UsageError("no normal recording to learn from: give --normal")
    seen: dict[str, str] = {}
    for recording in recordings:
        if recording.name in seen or recording.sha256 in seen.values():
            raise UsageError(
                f"{recording.name} is given twice: a model must not be judged on what it was "
                "fitted on, and two recordings need two names"
            )
        seen[recording.name] = recording.sha256
    first = recordings[0].sensor
    for recording in recordings[1:]:
        other = recording.sensor
        if (other.channels, other.unit) != (first.channels, first.unit) or not np.isclose(
            other.rate_hz, first.rate_hz, rtol=0.05
        ):
            raise UsageError(
                f"{recording.name} ({', '.join(other.channels)}, {other.unit}, {other.rate_hz:g} "
                f"Hz) is another sensor than {recordings[0].name} ({', '.join(first.channels)}, "
                f"{first.unit}, {first.rate_hz:g} Hz): build one bundle a sensor"
            )


def _draft(settings: BuildSettings, roles: Roles) -> Manifest:
    if settings.family == "lstm" and isinstance(settings.front_end, SpectralFrontEnd):
        raise UsageError("an LSTM has nothing to do on one spectrum: use --family dense")
    try:
        return draft_manifest(
            settings.name,
            roles.normal[0].sensor,
            settings.front_end,
            settings.window,
            settings.family,
        )
    except ValueError as error:
        raise UsageError(f"front end and window: {_first_line(error)}") from None


def _model_settings(settings: BuildSettings, draft: Manifest) -> ModelSettings:
    units = settings.units or DEFAULT_UNITS[settings.family]
    if settings.family == "lstm" and len(units) != 2:
        raise UsageError(f"--units: an LSTM autoencoder has two sizes (64,32), got {len(units)}")
    return ModelSettings(
        family=settings.family,
        steps=draft.model.steps,
        features=draft.model.features,
        units=units,
        activation=settings.activation or DEFAULT_ACTIVATION[settings.family],
    )


def _scorer(draft: Manifest) -> Scorer:
    front_end = make_front_end(draft.front_end, draft.sensor)
    return Scorer(draft.scaler, draft.normal_error, front_end.channel_of)


def _compare(
    settings: BuildSettings,
    scorer: Scorer,
    dataset: Dataset,
    fit: np.typing.NDArray[np.float32],
    float32: bytes,
    int8: bytes | None,
    model: ModelSettings,
) -> Comparison:
    def threshold(scores: Scores) -> ThresholdSpec:
        return commission(scores, settings.threshold, settings.q, settings.factor)

    def rated(content: bytes) -> Rated:
        runner = Interpreter(content)
        return rate(runner, len(content), scorer, dataset.held_out, dataset.evaluate, threshold)

    rival = LinearRival(fit)
    linear = rate(
        rival, 4 * rival.parameters, scorer, dataset.held_out, dataset.evaluate, threshold
    )
    return compare(
        rated(float32), rated(int8) if int8 else None, linear, settings.limits, model.int8_refusal
    )


def _manifest(
    draft: Manifest,
    settings: BuildSettings,
    roles: Roles,
    trained: Trained,
    representative: WindowSet,
    comparison: Comparison,
    int8: bytes,
) -> Manifest:
    rated = cast(Rated, comparison.int8)
    recordings = roles.all()
    spec = ModelSpec.model_validate({**draft.model.model_dump(), "parameters": trained.parameters})
    filled = draft.model_copy(
        update={
            "serial": settings.serial,
            "created": settings.created,
            "model": spec,
            "threshold": rated.threshold,
            "alarm": settings.alarm,
            "normal_error": rated.normal_error,
            "measures": measures(comparison),
            "provenance": Provenance(
                recordings={recording.name: recording.sha256 for recording in recordings},
                representative=tuple(
                    RepresentativeWindow(recording=recordings[number].name, first_row=int(row))
                    for number, row in zip(
                        representative.recording, representative.first_row, strict=True
                    )
                ),
                seed=settings.train.seed,
                versions=_versions(),
                settings=_recorded(settings, roles),
            ),
            "files": {"model.tflite": file_entry(int8)},
        }
    )
    return Manifest.model_validate(filled.model_dump())


def measures(comparison: Comparison) -> dict[str, Any]:
    """Float, int8 and linear side by side, as they stand in the bundle."""
    int8 = comparison.int8
    return {
        "float": comparison.float32.measures(),
        "int8": None if int8 is None else int8.measures(),
        "linear": comparison.linear.measures(),
        "size_ratio": comparison.size_ratio,
        "auc_delta": comparison.auc_delta,
        "spearman": comparison.spearman,
        "alarm_agreement": comparison.alarm_agreement,
    }


def _recorded(settings: BuildSettings, roles: Roles) -> dict[str, Any]:
    """The settings that no other field of the manifest holds."""
    training = asdict(settings.train)
    for key in ("tensorboard", "timeout_seconds", "seed"):
        training.pop(key)
    return {
        "units": list(settings.units or DEFAULT_UNITS[settings.family]),
        "activation": settings.activation or DEFAULT_ACTIVATION[settings.family],
        "shares": settings.shares._asdict(),
        "train_hop": settings.train_hop,
        "headroom": settings.headroom,
        "train": training,
        "limits": asdict(settings.limits),
        "normal": [recording.name for recording in roles.normal],
        "held_out": [recording.name for recording in roles.held_out],
        "evaluate": [recording.name for recording in roles.evaluate],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _first_line(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("Value error")), lines[0])
