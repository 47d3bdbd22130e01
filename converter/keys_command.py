"""Keys command: `edge-converter keygen --out DIR`.

In: a folder. Out: `signing.key` (private, mode 600) and `signing.pub` for the gateways.
Never: overwrites a key: bundles that it signed would be lost.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from converter.console import print_line
from converter.errors import ConverterError
from converter.files import write_file
from edge_agent.bundles.signature import new_key

PRIVATE_NAME = "signing.key"
PUBLIC_NAME = "signing.pub"


def add_keygen(commands: Any) -> None:
    """The command line of `keygen`."""
    parser = commands.add_parser("keygen", help="a key pair to sign bundles with")
    parser.set_defaults(run=run_keygen)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def run_keygen(options: argparse.Namespace) -> int:
    """Writes the pair; exit 1 if there is one."""
    for name in (PRIVATE_NAME, PUBLIC_NAME):
        if (options.out / name).exists():
            raise ConverterError(f"{options.out / name} exists and stays: choose another folder")
    private, public = new_key()
    write_file(options.out / PRIVATE_NAME, private.encode() + b"\n", mode=0o600)
    write_file(options.out / PUBLIC_NAME, public.encode() + b"\n")
    print_line(f"{options.out / PRIVATE_NAME}: keep it to yourself, give it to --sign")
    print_line(f"{options.out / PUBLIC_NAME}: the gateways' key, {public}")
    return 0
