"""Build command: `edge-converter build --normal REC... --out FILE --name N`.

In: recordings on disk. Out: a bundle and a table, or a refusal with its reasons (exit 1).
Never: writes a bundle that int8 has spoiled.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from converter.build import BuildSettings, Built, Roles, build, measures
from converter.bundle import next_serial, write_bundle
from converter.console import print_json, print_line, print_note, print_table, steps
from converter.dataset import Shares
from converter.errors import EXIT_NO, UsageError
from converter.fidelity import Limits, Rated
from converter.files import read_file
from converter.import_command import positive, words
from converter.models.training import TrainSettings
from converter.quantize import HEADROOM
from converter.recordings import Recording, read_recording
from edge_agent.manifest import (
    AlarmSpec,
    FrontEndSpec,
    RawFrontEnd,
    SmoothFrontEnd,
    SpectralFrontEnd,
    WindowSpec,
)

DEFAULT_LENGTH = 50
DEFAULT_HOP = 10


def add_build(commands: Any) -> None:
    """The command line of `build`."""
    parser = commands.add_parser("build", help="recordings to a bundle")
    parser.set_defaults(run=run_build)
    parser.add_argument("--normal", nargs="+", type=Path, required=True, metavar="REC")
    parser.add_argument("--held-out", nargs="+", type=Path, default=[], metavar="REC")
    parser.add_argument("--evaluate", nargs="+", type=Path, default=[], metavar="REC")
    parser.add_argument("--stream", help="which stream of the recordings")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.otolith")
    parser.add_argument("--name", required=True)
    parser.add_argument("--serial", type=whole, help="default: that of the old file at --out + 1")
    parser.add_argument("--created", help="default: now")
    parser.add_argument("--sign", type=Path, metavar="KEYFILE")
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON object")
    _add_front_end(parser.add_argument_group("front end and window"))
    _add_training(parser.add_argument_group("network and training"))
    _add_verdict(parser.add_argument_group("threshold, alarm and limits"))


def _add_front_end(group: Any) -> None:
    group.add_argument("--front-end", choices=("raw", "smooth", "spectral"), default="raw")
    group.add_argument("--length", type=whole, help=f"rows of a window ({DEFAULT_LENGTH})")
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


def _add_training(group: Any) -> None:
    train, shares = TrainSettings(), Shares()
    group.add_argument("--family", choices=("lstm", "dense"), default="dense")
    group.add_argument("--units", type=units, default=(), help="64,32 or 256,128,16,128,256")
    group.add_argument("--activation", choices=("tanh", "relu"), default="")
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
    group.add_argument("--tensorboard", metavar="DIR", help="write logs for TensorBoard")


def _add_verdict(group: Any) -> None:
    alarm, limits = AlarmSpec(), Limits()
    group.add_argument("--threshold", choices=("quantile", "mean_3sigma"), default="quantile")
    group.add_argument("--q", type=positive, default=0.995)
    group.add_argument("--factor", type=positive, default=1.2)
    group.add_argument("--on-delay", type=whole, default=alarm.on_delay_windows)
    group.add_argument("--off-delay", type=whole, default=alarm.off_delay_windows)
    group.add_argument("--clear-ratio", type=positive, default=alarm.clear_ratio)
    group.add_argument(
        "--headroom",
        type=positive,
        default=HEADROOM,
        help="how much larger than normal int8 can still see",
    )
    group.add_argument("--max-auc-loss", type=float, default=limits.auc_loss)
    group.add_argument("--min-spearman", type=float, default=limits.spearman)
    group.add_argument("--min-agreement", type=float, default=limits.agreement)
    group.add_argument("--max-size-ratio", type=float, default=limits.size_ratio)  # fmt: skip


def run_build(options: argparse.Namespace) -> int:
    """Reads, builds, tells, and writes if the verdict is yes."""
    private_key = read_file(options.sign).decode(errors="replace") if options.sign else None
    serial = options.serial or next_serial(options.out)
    roles = Roles(
        *([read_recording(path, options.stream) for path in paths] for paths in
          (options.normal, options.held_out, options.evaluate))
    )  # fmt: skip
    settings = _settings(options, roles.normal[0], serial)
    with steps() as progress:
        built = build(settings, roles, progress)
    if built.manifest is not None and built.model is not None:
        write_bundle(options.out, built.manifest, built.model, private_key)
    if options.json:
        print_json(verdict(built, options.out))
    else:
        show(options.name, built, options.out)
    return 0 if built.comparison.accepted else EXIT_NO


def _settings(options: argparse.Namespace, first: Recording, serial: int) -> BuildSettings:
    try:
        front_end = front_end_of(options, first.stream.rate_hz)
        window = _window(options, front_end)
        alarm = AlarmSpec(
            on_delay_windows=options.on_delay,
            off_delay_windows=options.off_delay,
            clear_ratio=options.clear_ratio,
        )
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from None
    shares = Shares(options.fit_share, options.validation_share, options.normal_share)
    if shares.fit + shares.validation >= 1 or shares.normal > 1:
        raise UsageError("shares: fit + validation must leave something held out; normal at most 1")
    if not 0 < options.q < 1:
        raise UsageError(f"--q {options.q:g}: a quantile lies between 0 and 1")
    return BuildSettings(
        name=options.name,
        family=options.family,
        front_end=front_end,
        window=window,
        train_hop=options.train_hop or window.hop,
        units=options.units,
        activation=options.activation,
        shares=shares,
        train=TrainSettings(
            **{key: getattr(options, key) for key in TrainSettings.__slots__ if key in options}
        ),
        headroom=options.headroom,
        threshold=options.threshold,
        q=options.q,
        factor=options.factor,
        alarm=alarm,
        limits=Limits(
            options.max_auc_loss, options.min_spearman,
            options.min_agreement, options.max_size_ratio,
        ),
        serial=serial,
        created=options.created or datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


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
        )
    if options.front_end == "smooth":
        return SmoothFrontEnd(
            ewma_alpha=options.ewma_alpha,
            decimate=options.decimate,
            settle_samples=options.settle_samples,
        )
    return RawFrontEnd()


def _window(options: argparse.Namespace, front_end: FrontEndSpec) -> WindowSpec:
    if isinstance(front_end, SpectralFrontEnd):
        length = front_end.window_samples
        if options.length not in (None, length):
            raise UsageError(f"--length: {length} for these segments, got {options.length}")
        return WindowSpec(length=length, hop=options.hop or max(length // 4, 1))
    return WindowSpec(length=options.length or DEFAULT_LENGTH, hop=options.hop or DEFAULT_HOP)


def verdict(built: Built, out: Path) -> dict[str, Any]:
    """What scripts hang on: the last line of `--json`."""
    comparison = built.comparison
    document = measures(comparison)
    rows = {"float": comparison.float32, "int8": comparison.int8, "linear": comparison.linear}
    for key, rated in rows.items():
        if rated is not None:
            document[key]["latency_us"] = round(rated.latency_us, 1)
    return {
        "bundle": str(out) if comparison.accepted else None,
        **document,
        "windows": built.windows,
        "accepted": comparison.accepted,
        "reasons": list(comparison.reasons),
    }


def show(name: str, built: Built, out: Path) -> None:
    """The verdict as a table, the reasons against it on standard error."""
    comparison = built.comparison
    rows = [
        _row("float", comparison.float32),
        *([_row("int8", comparison.int8)] if comparison.int8 else []),
        _row("linear (PCA)", comparison.linear),
    ]
    header = ("model", "AUC", "threshold", "false", "detected", "bytes", "us a window")
    print_table(header, rows, name)
    if comparison.int8:
        print_line(
            f"int8: {comparison.size_ratio:.1%} of the float file, Spearman of the scores "
            f"{comparison.spearman:.4f}, alarms agree on {comparison.alarm_agreement:.2%}"
        )
    if comparison.float32.threshold.provisional:
        print_line(f"* provisional: {built.windows['held_out']} held-out windows, 1000 are better")
    if comparison.accepted:
        print_line(f"written: {out}")
    for reason in comparison.reasons:
        print_note(f"edge-converter: refused: {reason}")


def _row(name: str, rated: Rated) -> tuple[str, ...]:
    return (
        name,
        _number(rated.auc, ".4f"),
        f"{rated.threshold.value:.4g}" + ("*" if rated.threshold.provisional else ""),
        _number(rated.false_share, ".2%"),
        _number(rated.detected_share, ".2%"),
        str(rated.bytes),
        f"{rated.latency_us:.0f}",
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def whole(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def units(text: str) -> tuple[int, ...]:
    """`256,128,16`."""
    return tuple(whole(word) for word in words(text))
