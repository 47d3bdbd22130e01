"""edge-board: a board to play with, and bytes of the wire as readable lines.

In: arguments. Out: an exit code (0 done, 1 the answer is no, 2 usage, 74 input/output).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from math import inf
from pathlib import Path

from firmware_bridge import vectors
from firmware_bridge.dump import dump_port, dump_recording
from firmware_bridge.port import Port
from firmware_bridge.signals import FAULT_FORM, MACHINES, Fault, parse_fault
from firmware_bridge.simulator import read_chunks, simulate

VECTORS = Path(__file__).with_name("vectors.json")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command."""
    options = _parser().parse_args(arguments)
    # A service manager ends a program with SIGTERM; it means the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = int(options.command(options))
        sys.stdout.flush()  # here, where a reader that has left is no error
        return code
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # `edge-board dump | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError) as error:
        sys.stderr.write(f"edge-board: {error}\n")
        return 74 if isinstance(error, OSError) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-board", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("simulate", help="a board on a pty, or a recording of one")
    command.set_defaults(command=simulate)
    add = command.add_argument
    add("--machine", action="append", choices=MACHINES, help="repeat for several streams")
    add("--recording", type=Path, help="play this recording instead of a machine")
    add(
        "--turn",
        metavar="HOW",
        help="a compass in somebody's hands: full, poses, arc, still, or "
        "how far it is tilted at most, in degrees",
    )
    add("--turn-speed", type=float, default=1.0, help="times as fast; 1 is all round in 6 s")
    add("--repeat", action="store_true", help="the recording begins again at its end")
    add("--seed", type=int, default=1)
    add("--uid", help="of the board; made from --seed if not given")
    add("--rate", type=float, help="samples a second of a single machine")
    add("--fault", type=_checked_fault, action="append", default=[], help=FAULT_FORM)
    add("--speed", type=float, default=1.0, help="times as fast; inf: as fast as it is read")
    add("--clock-ppm", type=float, default=0.0, help="error of the board's clock")
    add("--lose", type=float, default=0.0, help="probability that a byte is lost")
    add("--flip", type=float, default=0.0, help="probability that a bit of a byte flips")
    add("--split", action="store_true", help="cut what is sent into small pieces")
    add("--delay-ms", type=float, default=0.0, help="hold every chunk for half to all of this")
    add("--reset-at", type=float, metavar="S", help="the board loses power for a moment")
    add("--link", type=Path, help="a stable name for the port; the others' get a number")
    add("--boards", type=int, default=1, help="so many of them, each on a pty of its own")
    add("--seconds", type=float, default=inf, help="end after this time")
    add("--out", type=Path, help="write a recording of --seconds as fast as possible, no pty")
    command = commands.add_parser("dump", help="frames of a port or a recording as lines")
    command.set_defaults(command=_dump)
    command.add_argument("source", type=Path, metavar="PORT|FILE")
    command.add_argument("--json", action="store_true", help="one object a line, totals last")
    command.add_argument("--baud", type=int, default=921600)
    command.add_argument("--seconds", type=float, default=inf, help="of a port: end after this")
    command = commands.add_parser("vectors", help="write the golden frames")
    command.set_defaults(command=_vectors)
    command.add_argument("--check", action="store_true", help="only compare with the file")
    return parser


def _checked_fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _dump(options: argparse.Namespace) -> int:
    write = sys.stdout.write
    if options.source.is_char_device():
        port = Port(str(options.source), options.baud)
        try:
            problem = dump_port(port, options.json, options.seconds, write)
        finally:
            port.close()
    else:
        problem = dump_recording(read_chunks(options.source), options.json, write)
    return 1 if problem else 0


def _vectors(options: argparse.Namespace) -> int:
    if not options.check:
        VECTORS.write_text(vectors.text())
    elif VECTORS.read_text() != vectors.text():
        sys.stderr.write(
            f"edge-board: {VECTORS} is not what the code makes: see `git diff` after\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
