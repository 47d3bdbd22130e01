"""Build command: `edge-converter build --normal REC... --out FILE --name N`.

In: recordings on disk. Out: a bundle and a table, or a refusal with its reasons (exit 1).
Never: writes a bundle that int8 has spoiled.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from converter.build import build
from converter.build_options import add_options, settings_of, whole
from converter.build_settings import Roles
from converter.bundle import next_serial, write_bundle
from converter.console import print_json, steps
from converter.errors import EXIT_NO
from converter.files import read_file
from converter.recordings import read_recording
from converter.transfer import weights_path, write_weights
from converter.verdict import show, show_layers, verdict


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
    add_options(parser)


def run_build(options: argparse.Namespace) -> int:
    """Reads, builds, tells, and writes if the verdict is yes."""
    private_key = read_file(options.sign).decode(errors="replace") if options.sign else None
    serial = options.serial or next_serial(options.out)
    roles = Roles(
        *([read_recording(path, options.stream) for path in paths] for paths in
          (options.normal, options.held_out, options.evaluate))
    )  # fmt: skip
    settings = settings_of(options, roles.normal[0], serial)
    with steps() as progress:
        built = build(settings, roles, progress)
    if built.manifest is not None:
        write_bundle(options.out, built.manifest, built.files, private_key)
        write_weights(weights_path(options.out), built.float_model)
    if options.json:
        layers = [layer._asdict() for layer in built.layers] if options.layers else None
        print_json({**verdict(built, options.out), **({"layers": layers} if layers else {})})
    else:
        show(options.name, built, options.out)
        if options.layers:
            show_layers(built.layers)
    return 0 if built.comparison.accepted else EXIT_NO
