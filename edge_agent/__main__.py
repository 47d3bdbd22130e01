"""edge-agent: the commands of the gateway.

In: arguments. Out: an exit code: 0 done, 1 the answer is no, 2 usage, 74 input/output, 78
configuration. Never: a traceback for what a person can put right.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from edge_agent import commands
from edge_agent.config import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command."""
    options = _parser().parse_args(arguments)
    try:
        code = int(options.command(options))
        sys.stdout.flush()  # here, where a reader that has left is no error
        return code
    except ConfigError as error:
        commands.tell(str(error))
        return commands.EXIT_CONFIG
    except BrokenPipeError:  # `edge-agent schema | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return commands.EXIT_OK
    except FileExistsError as error:
        commands.tell(f"edge-agent: {error.filename} is there already: choose another name")
        return commands.EXIT_IO
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        commands.tell(f"edge-agent: {where}{error.strerror or error}")
        return commands.EXIT_IO
    except ValueError as error:  # BundleError, ModelError, ReplayError: refused, and why
        commands.tell(f"edge-agent: {error}")
        return commands.EXIT_NO
    except KeyboardInterrupt:
        return commands.EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-agent", description="The gateway's commands.")
    add = parser.add_subparsers(required=True).add_parser
    _run(add("run", help="the service: boards to alerts"))
    _check_config(add("check-config", help="all errors of a configuration at once"))
    _record(add("record", help="the wire of one board to a file"))
    _replay(add("replay", help="a recording through the model of a bundle"))
    _inspect(add("inspect", help="what a bundle is"))
    _calibrate(add("calibrate", help="what a sensor's readings mean, and how far to trust it"))
    _doctor(add("doctor", help="what is wrong with ports, boards and broker, and the cure"))
    _schema(add("schema", help="what each topic says: JSON Schema and AsyncAPI"))
    _demo(add("demo", help="simulated boards, one fault, one alert"))
    return parser


def _run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.run)
    parser.add_argument("--config", type=Path, required=True, metavar="F")


def _check_config(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.check_config)
    file = parser.add_mutually_exclusive_group(required=True)
    file.add_argument("config", type=Path, nargs="?", metavar="F")
    file.add_argument("--config", type=Path, metavar="F", dest="file")
    parser.add_argument("--show", action="store_true", help="every value and where it comes from")
    _json(parser)


def _record(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.record)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--port", type=Path, metavar="P", help="a serial port")
    source.add_argument("--config", type=Path, metavar="F", help="a board of this configuration")
    parser.add_argument("--board", metavar="B", help="its name; the first one if not given")
    parser.add_argument("--baud", type=int, default=921_600)
    parser.add_argument("--seconds", type=_positive, required=True, metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    _json(parser)


def _replay(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.replay)
    parser.add_argument("recording", type=Path, metavar="REC")
    parser.add_argument("--bundle", type=Path, required=True, metavar="B")
    parser.add_argument("--stream", metavar="S", help="which stream, if the bundle fits several")
    parser.add_argument("--speed", type=_positive, help="1 is real time; default: all it can")
    parser.add_argument("--scores", action="store_true", help="with --json: a line a window")
    _json(parser)


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.inspect)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--key", action="append", default=[], help="require a signature by it")
    _json(parser)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    compass = parser.add_subparsers(required=True).add_parser("compass", help="hard and soft iron")
    compass.set_defaults(command=commands.calibrate_compass)
    compass.add_argument("--replay", type=Path, required=True, metavar="FILE",
                         help="recording, CSV, text columns or NPZ")  # fmt: skip
    compass.add_argument("--check", type=Path, metavar="FILE", help="net turn of a second one")
    compass.add_argument("--report", type=Path, metavar="DIR", help="writes a page with plots")
    compass.add_argument("--stream", metavar="S", help="the magnetometer, if it is not clear")
    compass.add_argument("--latitude", type=_degrees(90), metavar="DEG", help="of the site")
    compass.add_argument("--longitude", type=_degrees(180), metavar="DEG", help="of the site")
    _json(compass)


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.doctor)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="F", help="everything that it names")
    source.add_argument("--port", type=Path, metavar="P", help="one serial port")
    parser.add_argument("--baud", type=int, default=921_600, help="with --port")
    parser.add_argument("--seconds", type=_positive, default=3.0, help="to listen to each board")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a support file without secrets")
    _json(parser)


def _schema(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.schema)
    parser.add_argument("name", nargs="?", help="one of them; without it, what there is")
    parser.add_argument("--out", type=Path, metavar="DIR", help="writes all of them there")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.demo)
    _json(parser)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _degrees(limit: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not -limit <= value <= limit:
            raise argparse.ArgumentTypeError(f"{text}: expected -{limit} to {limit} degrees")
        return value

    return number


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
