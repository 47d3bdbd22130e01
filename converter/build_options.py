"""Build options: the command line of `build`, and what it means.

In: arguments; the first recording, for its rate and its period. Out: `BuildSettings`,
and on standard error what `--length auto` saw. Never: builds.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from converter.build_settings import BuildSettings
from converter.console import print_note
from converter.dataset import Shares
from converter.errors import UsageError
from converter.fidelity import Limits
from converter.import_command import positive, words
from converter.models import FAMILIES
from converter.models.losses import LOSSES
from converter.models.memory import MemorySettings
from converter.models.training import TrainSettings
from converter.quantize import HEADROOM
from converter.recordings import Recording
from converter.transfer import read_weights
from converter.window_length import propose_length
from edge_agent.bundles.manifest import (
    MAX_SLOTS,
    AlarmSpec,
    FrontEndSpec,
    RawFrontEnd,
    SmoothFrontEnd,
    SpectralFrontEnd,
    WindowSpec,
)
from edge_agent.judging.threshold_spec import MAX_SPEED_BINS

DEFAULT_LENGTH = 50
DEFAULT_HOP = 10
# An LSTM in steps repeats its operations; that is what makes it fast.
STEP_SIZE_RATIO = 0.40


def add_options(parser: Any, network: bool = True) -> None:
    """Everything but the recordings and the bundle; `network` False: nor which network it is."""
    _add_front_end(parser.add_argument_group("front end and window"))
    if network:
        _add_network(parser.add_argument_group("network"))
    _add_training(parser.add_argument_group("training"))
    _add_limits(parser.add_argument_group("limits"))
    _add_verdict(parser.add_argument_group("threshold and alarm"))


def _add_front_end(group: Any) -> None:
    group.add_argument("--front-end", choices=("raw", "smooth", "spectral"), default="raw")
    group.add_argument(
        "--length",
        type=length,
        help=f"rows of a window ({DEFAULT_LENGTH}); auto: at least one period of what is recorded",
    )
    group.add_argument("--hop", type=whole, help=f"rows between two ({DEFAULT_HOP}; spectral: 1/4)")
    group.add_argument("--train-hop", type=whole, help="a smaller one for fitting (--hop)")
    smooth, spectral = SmoothFrontEnd(), SpectralFrontEnd()
    group.add_argument("--ewma-alpha", type=positive, default=smooth.ewma_alpha)
    group.add_argument("--decimate", type=whole, default=smooth.decimate)
    group.add_argument("--settle-samples", type=int, default=smooth.settle_samples)
    group.add_argument("--segment-length", type=whole, default=spectral.segment_length)
    group.add_argument("--segment-hop", type=whole, default=spectral.segment_hop)
    group.add_argument("--segments", type=whole, default=spectral.segments)
    group.add_argument("--bands", type=whole, default=spectral.bands)
    group.add_argument("--low-hz", type=positive, default=spectral.low_hz)
    group.add_argument("--high-hz", type=positive, help="default: half the rate")
    group.add_argument(
        "--shaft-hz", type=positive, help="of a shaft that keeps its speed: names orders beside Hz"
    )


def _add_network(group: Any) -> None:
    memory = MemorySettings()
    group.add_argument("--family", choices=FAMILIES, default="dense")
    group.add_argument("--units", type=units, default=(), help="64,32 or 256,128,16,128,256")
    group.add_argument("--activation", choices=("tanh", "relu"), default="")
    group.add_argument(
        "--encoder", choices=("lstm", "conv"), default=memory.encoder, help="memory: before it"
    )
    group.add_argument("--slots", type=whole, default=memory.slots, help="memory: how many")
    group.add_argument(
        "--temperature", type=positive, default=memory.temperature, help="memory: of the softmax"
    )
    group.add_argument(
        "--shrinkage",
        type=float,
        default=memory.shrinkage,
        help="memory: shares of the slots under it become 0",
    )
    group.add_argument(
        "--form", choices=("fused", "step"), default="fused", help="lstm: one operation, or steps"
    )
    group.add_argument(
        "--activations", choices=("int8", "int16"), default="int8", help="int16: larger, slower"
    )
    group.add_argument("--layers", action="store_true", help="what int8 costs in each layer")
    group.add_argument("--from-float", type=Path, metavar="NAME.weights.npz", help="start from it")
    group.add_argument(
        "--freeze",
        choices=("none", "all-but-last"),
        default="none",
        help="with --from-float: what does not learn",
    )


def _add_training(group: Any) -> None:
    train, shares = TrainSettings(), Shares()
    group.add_argument(
        "--normal-share",
        type=positive,
        default=shares.normal,
        help="use the first part of every normal recording, leave the rest unseen",
    )
    group.add_argument("--fit-share", type=positive, default=shares.fit)
    group.add_argument("--validation-share", type=positive, default=shares.validation)
    group.add_argument("--epochs", type=whole, default=train.epochs)
    group.add_argument("--batch-size", type=whole, default=train.batch_size)
    group.add_argument("--learning-rate", type=positive, default=train.learning_rate)
    group.add_argument("--seed", type=int, default=train.seed)
    group.add_argument(
        "--denoise",
        type=float,
        default=train.denoise,
        help="noise on the inputs while fitting, in standard deviations",
    )
    group.add_argument(
        "--loss",
        action="extend",
        nargs=1,
        type=loss_term,
        dest="losses",
        metavar="NAME[:WEIGHT]",
        help=f"{', '.join(LOSSES)}; several are summed (mse; memory: recency)",
    )
    group.add_argument("--tensorboard", metavar="DIR", help="write logs for TensorBoard")


def _add_limits(group: Any) -> None:
    limits = Limits()
    group.add_argument(
        "--headroom",
        type=positive,
        default=HEADROOM,
        help="how much larger than normal int8 can still see",
    )
    group.add_argument(
        "--qat",
        choices=("auto", "never", "always"),
        default="auto",
        help="let the network learn to be rounded: where int8 costs too much (auto)",
    )
    group.add_argument("--max-auc-loss", type=float, default=limits.auc_loss)
    group.add_argument("--min-spearman", type=float, default=limits.spearman)
    group.add_argument("--min-agreement", type=float, default=limits.agreement)
    group.add_argument(
        "--max-size-ratio",
        type=float,
        help=f"of the float file ({limits.size_ratio:g}; in steps {STEP_SIZE_RATIO:g})",
    )


def _add_verdict(group: Any) -> None:
    alarm = AlarmSpec()
    group.add_argument(
        "--score",
        choices=("mse", "weighted"),
        default="mse",
        help="weighted: each feature's squared error counts in its own normal level",
    )
    methods = ("quantile", "mean_3sigma", "pot")
    group.add_argument("--threshold", choices=methods, default="quantile")
    group.add_argument("--q", type=positive, default=0.995)
    group.add_argument("--factor", type=positive, default=1.2)
    group.add_argument("--on-delay", type=whole, default=alarm.on_delay_windows)
    group.add_argument("--off-delay", type=whole, default=alarm.off_delay_windows)
    group.add_argument("--clear-ratio", type=positive, default=alarm.clear_ratio)
    group.add_argument(
        "--adaptive",
        choices=("conformal", "spot", "none"),
        default="none",
        help="how the threshold follows a machine that wears in",
    )
    group.add_argument(
        "--speed-channel", metavar="NAME", help="a threshold for each bin of this channel's values"
    )
    group.add_argument(
        "--speed-bins", type=whole, default=5, help=f"how many (5), at most {MAX_SPEED_BINS}"
    )
    group.add_argument(
        "--absolute", type=positive, metavar="LIMIT", help="a second limit that nothing moves"
    )


def settings_of(options: argparse.Namespace, first: Recording, serial: int) -> BuildSettings:
    """Raises `UsageError` for options that can't be meant."""
    try:
        front_end = front_end_of(options, first.stream.rate_hz)
        window = _window(options, front_end, first)
        alarm = AlarmSpec(
            on_delay_windows=options.on_delay,
            off_delay_windows=options.off_delay,
            clear_ratio=options.clear_ratio,
        )
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from None
    _check(options)
    plain = ("name", "family", "activation", "units", "headroom", "activations", "form", "qat",
             "score", "threshold", "q", "factor", "absolute",
             "speed_channel", "speed_bins")  # fmt: skip
    return BuildSettings(
        **{key: getattr(options, key) for key in plain},
        front_end=front_end,
        window=window,
        train_hop=options.train_hop or window.hop,
        memory=MemorySettings(*(getattr(options, key) for key in MemorySettings.__slots__)),
        shares=_shares(options),
        train=_training(options),
        start=read_weights(options.from_float) if options.from_float else None,
        adaptive=None if options.adaptive == "none" else options.adaptive,
        alarm=alarm,
        limits=_limits(options),
        serial=serial,
        created=options.created or datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def _check(options: argparse.Namespace) -> None:
    if options.speed_bins > MAX_SPEED_BINS:
        raise UsageError(f"--speed-bins {options.speed_bins}: at most {MAX_SPEED_BINS}")
    if options.shaft_hz and options.front_end != "spectral":
        raise UsageError("--shaft-hz: names the bands of a spectrum: use --front-end spectral")
    if not 0 < options.q < 1:
        raise UsageError(f"--q {options.q:g}: a quantile lies between 0 and 1")
    if options.slots > MAX_SLOTS:
        raise UsageError(f"--slots {options.slots}: at most {MAX_SLOTS}")
    if not 0 <= options.shrinkage < 1:
        raise UsageError(f"--shrinkage {options.shrinkage:g}: a share lies between 0 and 1")
    if options.freeze != "none" and not options.from_float:
        raise UsageError("--freeze: only what comes from --from-float can be frozen")


def _limits(options: argparse.Namespace) -> Limits:
    usual = STEP_SIZE_RATIO if options.form == "step" else Limits().size_ratio
    ratio = usual if options.max_size_ratio is None else options.max_size_ratio
    return Limits(options.max_auc_loss, options.min_spearman, options.min_agreement, ratio)


def _shares(options: argparse.Namespace) -> Shares:
    shares = Shares(options.fit_share, options.validation_share, options.normal_share)
    if shares.fit + shares.validation >= 1 or shares.normal > 1:
        raise UsageError("shares: fit + validation must leave something held out; normal at most 1")
    return shares


def _training(options: argparse.Namespace) -> TrainSettings:
    given = {key: getattr(options, key) for key in TrainSettings.__slots__ if key in options}
    return TrainSettings(**{**given, "losses": tuple(options.losses or ())})


def front_end_of(options: argparse.Namespace, rate_hz: float) -> FrontEndSpec:
    """The front end that the options describe."""
    if options.front_end == "spectral":
        return SpectralFrontEnd(
            segment_length=options.segment_length,
            segment_hop=options.segment_hop,
            segments=options.segments,
            bands=options.bands,
            low_hz=options.low_hz,
            high_hz=options.high_hz or rate_hz / 2,
            shaft_hz=options.shaft_hz,
        )
    if options.front_end == "smooth":
        return SmoothFrontEnd(
            ewma_alpha=options.ewma_alpha,
            decimate=options.decimate,
            settle_samples=options.settle_samples,
        )
    return RawFrontEnd()


def _window(options: argparse.Namespace, front_end: FrontEndSpec, first: Recording) -> WindowSpec:
    if isinstance(front_end, SpectralFrontEnd):
        length = front_end.window_samples
        if options.length not in (None, length):
            raise UsageError(f"--length: {length} for these segments, got {options.length}")
        return WindowSpec(length=length, hop=options.hop or max(length // 4, 1))
    length = options.length or DEFAULT_LENGTH
    if length == "auto":
        proposal = propose_length(first, front_end, DEFAULT_LENGTH)
        print_note(f"edge-converter: --length auto: {proposal.why}")
        length = proposal.length
    return WindowSpec(length=length, hop=options.hop or DEFAULT_HOP)


def whole(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def units(text: str) -> tuple[int, ...]:
    """`256,128,16`."""
    return tuple(whole(word) for word in words(text))


def length(text: str) -> int | str:
    """Rows, or `auto`."""
    return text if text == "auto" else whole(text)


def loss_term(text: str) -> tuple[str, float]:
    """`spectral:0.1`."""
    name, _, weight = text.partition(":")
    if name not in LOSSES:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(LOSSES)}")
    return name, positive(weight) if weight else 1.0
