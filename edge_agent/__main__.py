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
    _bundle(add("bundle", help="install another bundle, list what there is, go back"))
    _calibrate(add("calibrate", help="what a sensor's readings mean, and how far to trust it"))
    _doctor(add("doctor", help="what is wrong with ports, boards and broker, and the cure"))
    _status(add("status", help="how the service that runs is doing, on one page"))
    _schema(add("schema", help="what each topic says: JSON Schema and AsyncAPI"))
    _selftest(add("selftest", help="does this machine compute what it should"))
    add("rollback", help="the version before this one").set_defaults(command=commands.rollback)
    _demo(add("demo", help="simulated boards, one fault, one alert"))
    return parser


def _run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.run)
    parser.add_argument("--config", type=Path, required=True, metavar="F")
    parser.add_argument("--last-good", type=Path, metavar="FILE",
                        help="kept there, and run on when F is wrong at the start")  # fmt: skip


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
    parser.add_argument("--calibration", type=Path, metavar="FILE",
                        help="a recording is raw: apply this one of a shelf to it")  # fmt: skip
    parser.add_argument("--speed", type=_positive, help="1 is real time; default: all it can")
    parser.add_argument("--scores", action="store_true", help="with --json: a line a window")
    _json(parser)


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.inspect)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--key", action="append", default=[], help="require a signature by it")
    _json(parser)


def _bundle(parser: argparse.ArgumentParser) -> None:
    add = parser.add_subparsers(required=True).add_parser
    install = add("install", help="verify, try, and judge by it from now on")
    install.add_argument("file", type=Path, metavar="FILE")
    install.add_argument("--force-sensor", action="store_true",
                         help="allow another sensor than that of the bundle before")  # fmt: skip
    listed = add("list", help="what judges, and what is kept")
    rollback = add("rollback", help="judge by the one before again")
    for name, each in (("install", install), ("list", listed), ("rollback", rollback)):
        each.set_defaults(command=commands.bundle, do=name)
        each.add_argument("--asset", required=each is not listed, metavar="A")
        each.add_argument("--config", type=Path, required=True, metavar="F")
        _json(each)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_subparsers(required=True).add_parser
    _calibrate_compass(add("compass", help="hard and soft iron, while the board is turned"))
    _calibrate_accel(add("accel", help="scales and biases, from twelve poses"))
    _calibrate_baseline(add("baseline", help="what is normal for this very machine"))
    show = add("show", help="everything that a calibration says; the one in use by itself")
    show.set_defaults(command=commands.calibrate_show)
    show.add_argument("id", nargs="?", metavar="ID", help="as `list` names it")
    _shelf(show, "compass")
    back = add("rollback", help="the calibration before is in use again; before the first, none")
    back.set_defaults(command=commands.calibrate_rollback)
    back.add_argument("id", nargs="?", metavar="ID", help="this one, as `list` names it, or none")
    _shelf(back, "compass")
    listed = add("list", help="the calibrations of the boards, and which are in use")
    listed.set_defaults(command=commands.calibrate_list)
    _shelf(listed, None)


def _calibrate_compass(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.calibrate_compass)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--replay", type=Path, metavar="FILE",
                        help="recording, CSV, text columns or NPZ; stores nothing")  # fmt: skip
    source.add_argument("--config", type=Path, metavar="F", help="a live board; stores the result")
    parser.add_argument("--check", type=Path, metavar="FILE", help="net turn of a second one")
    parser.add_argument("--report", type=Path, metavar="DIR", help="writes a page with plots")
    parser.add_argument("--stream", metavar="S", help="the magnetometer, if it is not clear")
    parser.add_argument("--latitude", type=_degrees(90), metavar="DEG", help="of the site")
    parser.add_argument("--longitude", type=_degrees(180), metavar="DEG", help="of the site")
    parser.add_argument("--fixed", action="store_true",
                        help="the board can't be turned: hard iron only")  # fmt: skip
    _sitting(parser)


def _calibrate_accel(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.calibrate_accel)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--replay", type=Path, metavar="FILE",
                        help="recording, CSV, text columns or NPZ; stores nothing")  # fmt: skip
    source.add_argument("--config", type=Path, metavar="F", help="a live board; stores the result")
    parser.add_argument("--tap", nargs="?", const="itself", metavar="FILE",
                        help="where the mounting rings, by this file or alone")  # fmt: skip
    parser.add_argument("--band", type=_positive, metavar="HZ",
                        help="with --tap: the highest frequency in use")  # fmt: skip
    parser.add_argument("--shaker", nargs="?", const="itself", metavar="FILE",
                        help="a calibrator of 159.2 Hz, by this file or alone")  # fmt: skip
    parser.add_argument("--shaker-rms", type=_positive, default=10.0, metavar="A",
                        help="what it gives in m/s2 RMS: 10, some 9.81")  # fmt: skip
    parser.add_argument("--sides", metavar="S,...", help="down in the first poses, e.g. +z,+x: "
                        "finds swapped axes")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="DIR", help="writes a page with plots")
    parser.add_argument("--stream", metavar="S", help="the accelerometer, if it is not clear")
    parser.add_argument("--latitude", type=_degrees(90), metavar="DEG", help="for local gravity")
    parser.add_argument("--height", type=float, metavar="M", help="above the sea, beside it")
    parser.add_argument("--rate", type=_positive, metavar="HZ", help="of a file without times")
    parser.add_argument("--unit", choices=("g", "mg", "m/s2"), help="of a file that tells none")
    parser.add_argument("--uid", help="refuse a recording of another board")
    _sitting(parser)


def _calibrate_baseline(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_baseline)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="F", help="a live board; stores the result")
    source.add_argument("--bundle", type=Path, metavar="B",
                        help="with --replay: shows what would come of it")  # fmt: skip
    parser.add_argument("--asset", metavar="A", help="the machine, if there are several")
    parser.add_argument("--replay", action="append", metavar="[STATE=]FILE",
                        help="a recording instead of the board; one or more a state")  # fmt: skip
    parser.add_argument("--calibration", type=Path, metavar="FILE",
                        help="with --replay: apply this one of a shelf to it")  # fmt: skip
    parser.add_argument("--states", metavar="S,S", help="what the machine does: idle,full")
    parser.add_argument("--minutes", type=_positive, default=10.0, metavar="N",
                        help="of each state; fewer than 10 are provisional")  # fmt: skip
    parser.add_argument("--stream", metavar="S", help="with --bundle, if it fits several")
    parser.add_argument("--report", type=Path, metavar="DIR", help="writes a page")
    _sitting(parser, None)


def _baseline(options: argparse.Namespace) -> int:
    """`edge-agent calibrate baseline`."""
    from edge_agent.calibrate.baseline.command import baseline

    return baseline(options)


def _sitting(parser: argparse.ArgumentParser, seconds: float | None = 600.0) -> None:
    """What every live calibration understands."""
    parser.add_argument("--board", metavar="B", help="its name; the first one if not given")
    usual = f"{seconds:.0f}" if seconds else "twice what it needs, and ten minutes"
    parser.add_argument("--seconds", type=_positive, default=seconds, metavar="N",
                        help=f"it ends after so long; {usual} if not given")  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true",
                     help="go on with a dropped sitting, however old")  # fmt: skip
    how.add_argument("--anew", action="store_true", help="begin anew, whatever was dropped")
    parser.add_argument("--accept-marginal", action="store_true",
                        help="store what is only marginal without asking")  # fmt: skip
    _json(parser)


def _shelf(parser: argparse.ArgumentParser, kind: str | None) -> None:
    """Which board's shelf, and which kind of calibration."""
    parser.add_argument("--config", type=Path, required=True, metavar="F")
    parser.add_argument("--board", metavar="B", help="its name")
    parser.add_argument("--kind", choices=("compass", "accel", "baseline"), default=kind)
    _json(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.doctor)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="F", help="everything that it names")
    source.add_argument("--port", type=Path, metavar="P", help="one serial port")
    parser.add_argument("--baud", type=int, default=921_600, help="with --port")
    parser.add_argument("--seconds", type=_positive, default=3.0, help="to listen to each board")
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="for whoever helps, no secrets: .tar.gz, .zip or .json")  # fmt: skip
    _json(parser)


def _status(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.status)
    parser.add_argument("--config", type=Path, required=True, metavar="F")
    _json(parser)


def _schema(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.schema)
    parser.add_argument("name", nargs="?", help="one of them; without it, what there is")
    parser.add_argument("--out", type=Path, metavar="DIR", help="writes all of them there")


def _selftest(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=commands.selftest)
    parser.add_argument("--state", type=Path, metavar="DIR",
                        help="tries SQLite there, e.g. /var/lib/edge-agent")  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="FILE", help="this machine's scores, instead")
    _json(parser)


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
