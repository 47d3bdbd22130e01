"""Families command: `edge-converter families --normal REC...`: every network on the same windows.

In: recordings on disk. Out: a table of what each family and form costs and keeps, and with
`--json` one object each. Never: writes a bundle, picks one.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from converter.build import Built, build
from converter.build_options import STEP_SIZE_RATIO, add_options, settings_of
from converter.build_settings import BuildSettings, Roles
from converter.console import print_json, print_note, print_table, steps
from converter.errors import EXIT_NO, ConverterError
from converter.evaluate import spearman
from converter.models.memory import MemorySettings
from converter.recordings import read_recording
from converter.verdict import rounded_us

# What differs from the settings of the command line.
VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"family": "dense"},
    "conv": {"family": "conv"},
    "lstm": {"family": "lstm"},
    "lstm-steps": {"family": "lstm", "form": "step"},
    "memory": {"family": "memory"},
    "memory-conv": {"family": "memory", "memory": MemorySettings(encoder="conv")},
}
HEADER = ("network", "parameters", "float bytes", "int8 bytes", "of float", "Spearman",
          "of normal", "AUC float", "AUC int8", "float us", "int8 us", "float bare", "int8 bare",
          "ships")  # fmt: skip


def add_families(commands: Any) -> None:
    """The command line of `families`."""
    parser = commands.add_parser("families", help="every network on the same recordings")
    parser.set_defaults(run=run_families, name="families", created="-", family="dense", units=(),
                        activation="", form="fused", activations="int8", layers=False,
                        from_float=None, freeze="none",
                        **asdict(MemorySettings()))  # fmt: skip
    parser.add_argument("--normal", nargs="+", type=Path, required=True, metavar="REC")
    parser.add_argument("--held-out", nargs="+", type=Path, default=[], metavar="REC")
    parser.add_argument("--evaluate", nargs="+", type=Path, default=[], metavar="REC")
    parser.add_argument("--stream", help="which stream of the recordings")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--json", action="store_true", help="one JSON object a network")
    add_options(parser, network=False)


def run_families(options: argparse.Namespace) -> int:
    """One after the other; what can't be built is said and left out. Exit 1: nothing could be."""
    roles = Roles(
        *([read_recording(path, options.stream) for path in paths] for paths in
          (options.normal, options.held_out, options.evaluate))
    )  # fmt: skip
    settings = settings_of(options, roles.normal[0], serial=1)
    rows: list[tuple[str, ...]] = []
    for name in options.only:
        found = _measured(name, _variant(settings, VARIANTS[name]), roles)
        if found and options.json:
            print_json({"network": name, **found})
        if found:
            rows.append((name, *map(_text, found.values())))
    if rows and not options.json:
        print_table(HEADER, rows, "each with its own threshold, on the same windows")
    return 0 if rows else EXIT_NO


def _variant(settings: BuildSettings, changes: dict[str, Any]) -> BuildSettings:
    if changes.get("form") == "step":
        ratio = max(settings.limits.size_ratio, STEP_SIZE_RATIO)
        changes = {**changes, "limits": replace(settings.limits, size_ratio=ratio)}
    return replace(settings, **changes)


def _measured(name: str, settings: BuildSettings, roles: Roles) -> dict[str, Any] | None:
    try:
        with steps() as progress:
            built = build(settings, roles, progress)
    except ConverterError as error:
        print_note(f"edge-converter: {name}: {error}")
        return None
    for reason in built.comparison.reasons:
        print_note(f"edge-converter: {name} would be refused: {reason}")
    return _numbers(built)


def _numbers(built: Built) -> dict[str, Any]:
    comparison = built.comparison
    before, after = comparison.float32, comparison.int8
    return {
        "parameters": built.trained.parameters,
        "float_bytes": before.bytes,
        "int8_bytes": after.bytes if after else None,
        "size_ratio": comparison.size_ratio,
        "spearman": comparison.spearman,
        "spearman_normal": spearman(before.held_out, after.held_out) if after else None,
        "float_auc": before.auc,
        "int8_auc": after.auc if after else None,
        "float_us": round(before.latency_us, 1),
        "int8_us": round(after.latency_us, 1) if after else None,
        "float_invoke_us": rounded_us(before.invoke_us),
        "int8_invoke_us": rounded_us(after.invoke_us) if after else None,
        "accepted": comparison.accepted,
    }


def _text(value: float | bool | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else f"{value:.4f}" if value < 2 else f"{value:.0f}"
