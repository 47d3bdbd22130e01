"""Build settings: everything that makes two builds different, and whether it can be built at all.

In: settings, recordings by their roles. Out: the draft of a manifest and the network's settings,
or a `UsageError` that says what to give instead. Never: trains, reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from converter.dataset import Shares, draft_manifest
from converter.errors import UsageError
from converter.fidelity import Limits
from converter.models import (
    ALONG_TIME,
    DEFAULT_LOSSES,
    MSE,
    ModelSettings,
    default_activation,
    default_units,
)
from converter.models import losses as loss_terms
from converter.models.memory import KERNELS, MemorySettings, code_size
from converter.models.rounding import rounding_objection
from converter.models.training import TrainSettings
from converter.quantize import HEADROOM, REPRESENTATIVE_WINDOWS
from converter.recordings import Recording
from converter.transfer import FloatModel
from edge_agent.bundles.manifest import (
    MAX_MEMORY_NUMBERS,
    AlarmSpec,
    FrontEndSpec,
    Manifest,
    ScoreMethod,
    Sensor,
    WindowSpec,
)
from edge_agent.judging.threshold import Method

UNITS = {"lstm": 2, "memory": 1}


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Everything that makes two builds different, but for the recordings. What is empty has the
    family's default."""

    name: str
    family: str
    front_end: FrontEndSpec
    window: WindowSpec
    train_hop: int
    units: tuple[int, ...] = ()
    activation: str = ""
    memory: MemorySettings = MemorySettings()
    shares: Shares = Shares()
    train: TrainSettings = field(default_factory=TrainSettings)
    start: FloatModel | None = None
    headroom: float = HEADROOM
    representative: int = REPRESENTATIVE_WINDOWS
    activations: str = "int8"
    form: str = "fused"
    qat: Literal["auto", "never", "always"] = "auto"
    score: ScoreMethod = "mse"
    threshold: Method = "quantile"
    q: float = 0.995
    factor: float = 1.2
    adaptive: Literal["conformal", "spot"] | None = None
    absolute: float | None = None
    speed_channel: str | None = None
    speed_bins: int = 5
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


def check_recordings(roles: Roles) -> None:
    """Raises `UsageError` for recordings that can't be used together."""
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


def draft(settings: BuildSettings, roles: Roles) -> Manifest:
    """The manifest as far as it is known before training."""
    sensor = roles.normal[0].sensor.model_dump()
    try:
        return draft_manifest(
            settings.name,
            Sensor.model_validate({**sensor, "speed_channel": settings.speed_channel}),
            settings.front_end,
            settings.window,
            # What a memory's entry needs is only known after training.
            "dense" if settings.family == "memory" else settings.family,
        )
    except ValueError as error:
        raise UsageError(f"sensor, front end and window: {_first_line(error)}") from None


def network(settings: BuildSettings, draft: Manifest) -> ModelSettings:
    """The network that is to be trained. Raises `UsageError` for one that makes no sense."""
    memory = settings.memory if settings.family == "memory" else None
    model = ModelSettings(
        family=settings.family,
        steps=draft.model.steps,
        features=draft.model.features,
        units=settings.units or default_units(settings.family, memory),
        activation=settings.activation or default_activation(settings.family, memory),
        memory=memory,
    )
    for objection in (_of_one_step(settings, model), _of_units(model), _of_form(settings, model)):
        if objection:
            raise UsageError(objection)
    return model


def training(settings: BuildSettings) -> TrainSettings:
    """The training settings with the family's losses where none are given."""
    losses = settings.train.losses or DEFAULT_LOSSES.get(settings.family, MSE)
    return replace(settings.train, losses=losses)


def _of_one_step(settings: BuildSettings, model: ModelSettings) -> str | None:
    if model.steps > 1:
        return None
    if model.family in ALONG_TIME:
        article = "an LSTM" if model.family == "lstm" else f"family {model.family}"
        return f"{article} has nothing to do on one spectrum: use --family dense"
    along = sorted({name for name, _ in settings.train.losses} & loss_terms.ALONG_TIME)
    if along:
        return (
            f"--loss {', '.join(along)}: a spectrum is a window of one step, it has no time along "
            "which that could be measured: use --loss mse"
        )
    return None


def _of_units(model: ModelSettings) -> str | None:
    count = len(model.units)
    wanted = UNITS.get(model.family)
    if model.memory and model.memory.encoder == "conv":
        wanted = len(KERNELS)
    if wanted is None or count == wanted:
        return _of_slots(model)
    what = {"lstm": "an LSTM autoencoder has two sizes (64,32)"}.get(
        model.family, f"this memory's encoder has {wanted} (64, or 32,64,128 with --encoder conv)"
    )
    return f"--units: {what}, got {count}"


def _of_slots(model: ModelSettings) -> str | None:
    if model.memory is None:
        return None
    most = MAX_MEMORY_NUMBERS // code_size(model)
    if model.memory.slots <= most:
        return None
    return (
        f"--slots {model.memory.slots}: of codes of {code_size(model)} numbers at most {most} fit "
        "into a bundle"
    )


def _of_form(settings: BuildSettings, model: ModelSettings) -> str | None:
    if settings.activations == "int16" and model.recurrent:
        return (
            "--activations int16: TensorFlow has no LSTM with int16 activations: use int8, or a "
            "network without an LSTM (--family dense, --encoder conv)"
        )
    if settings.qat == "always":
        objection = rounding_objection(model, settings.activations)
        if objection:
            return f"--qat always: {objection}"
    if settings.form == "step" and model.family != "lstm":
        return f"--form step: is for --family lstm, a {model.family} network has no states"
    return None


def _first_line(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("Value error")), lines[0])
