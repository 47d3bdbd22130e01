"""Live command: what every `edge-agent calibrate KIND --config F` does around its task.

In: parsed options, a task. Out: an `Outcome`: what was stored, or why nothing was. Never: stores
what is bad, or what is only marginal and nobody has accepted; changes anything when it was ended.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import Kind, Stored
from edge_agent.calibrate.sitting.keys import Keys
from edge_agent.calibrate.sitting.live import BoardLost, LiveBoard, open_wire
from edge_agent.calibrate.sitting.screen import screen_for
from edge_agent.calibrate.sitting.sitting import Ended, Sitting
from edge_agent.calibrate.sitting.task import CannotCalibrate, Refused, Task
from edge_agent.config import BoardSettings, Config, load_config
from edge_agent.door import NoService, ask
from firmware_bridge.port import PortError
from firmware_bridge.schema import Schema

EXIT_OK, EXIT_NO, EXIT_IO = 0, 1, 74
# A sitting that was dropped is gone on with by itself for so long.
RESUME_SECONDS = 1800.0


class Place(NamedTuple):
    """Which board of which gateway."""

    config: Config
    board: str
    settings: BoardSettings
    shelf: Shelf

    @property
    def state_dir(self) -> Path:
        """The service's."""
        return self.config.storage.state_dir


class Outcome(NamedTuple):
    """What came of it: the exit code, what was stored if anything, what to say and do, the board
    that answered (None if none did) and its temperature if it tells; after a `dropped` connection
    there may be nobody to tell. `finished`: it came to a verdict, and `last` is what became of it,
    without the verdict's own reason."""

    code: int
    stored: Stored | None
    reason: str
    next_move: str
    schema: Schema | None = None
    temperature_c: float | None = None
    dropped: bool = False
    finished: bool = False
    last: str = ""


def place_of(options: Namespace) -> Place:
    """The board that is meant: `--board`, or the first. Raises `ConfigError`, `ValueError`."""
    config = load_config(options.config)
    board = options.board or next(iter(config.boards))
    if board not in config.boards:
        raise ValueError(f"no board {board!r}; {options.config} has: {', '.join(config.boards)}")
    shelf = Shelf(config.storage.state_dir, board)
    return Place(config, board, config.boards[board], shelf)


def live(options: Namespace, place: Place, task: Task) -> Outcome:
    """The whole sitting. Raises `OSError` where the shelf can't be used."""
    place.shelf.check_writable()
    try:
        wire, source = open_wire(place.state_dir, place.board, place.settings)
    except (PortError, NoService) as error:
        return Outcome(EXIT_IO, None, str(error), "")
    board = LiveBoard(place.board, place.settings.uid, wire)
    try:
        return _seated(options, place, task, board, source)
    except BoardLost as error:
        more = ""
        if place.shelf.partial(task.kind) is not None:
            more = "what was seen is kept: the same command goes on with it for half an hour"
        return Outcome(EXIT_IO, None, str(error), more, board.schema, board.temperature_c)
    except CannotCalibrate as error:
        return Outcome(EXIT_NO, None, str(error), "", board.schema)
    finally:
        board.close()


def take_up(state_dir: Path, board: str, what: str = "it") -> str:
    """Tells the service that the shelf has changed; what came of it, in words. `what` is in use
    now: the calibration that was spoken of, or "none"."""
    try:
        ask(state_dir, {"do": "take_up", "board": board})
    except NoService:
        return f"no service runs here: {what} is used when one starts"
    except (OSError, ValueError) as error:
        return f"the service does not take it up ({error}): restart it"
    return f"the service uses {what} from now on"


def say(**fields: Any) -> None:
    """A step for `--json`."""
    sys.stdout.write(json.dumps(fields, allow_nan=False) + "\n")
    sys.stdout.flush()


def in_use(shelf: Shelf, kind: Kind) -> str:
    """What is in use instead, in words."""
    name = shelf.current_id(kind)
    return f"{name} stays in use" if name else f"no {kind} calibration is in use"


def _seated(options: Namespace, place: Place, task: Task, board: LiveBoard, source: str) -> Outcome:
    schema = board.open()
    task.begin(schema)
    resumed = _resumed(options, place.shelf, task)
    if options.json:
        say(step="board", board=board.name, uid=schema.uid, firmware=schema.firmware,
            source=source, resumed=resumed, limit_seconds=task.limit_seconds)  # fmt: skip
    heading = f"{task.kind.capitalize()} of board {board.name} ({schema.uid})"
    note = "goes on from the sitting that was dropped; --anew begins anew" if resumed else ""
    sitting = Sitting(task, board, place.shelf, note)
    with Keys(standard_input()) as keys:
        ended = sitting.run(screen_for(options.json, heading), keys)
    return _concluded(options, place, task, board, ended)


def standard_input() -> int:
    """Its descriptor; -1 where a program that calls us has put something else there."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return -1


def _resumed(options: Namespace, shelf: Shelf, task: Task) -> bool:
    """Whether it goes on from a sitting that was dropped."""
    fresh = shelf.partial_age_seconds(task.kind) <= RESUME_SECONDS
    content = shelf.partial(task.kind) if options.resume or fresh else None
    if content is not None and not options.anew and task.resume(content):
        return True
    shelf.drop_partial(task.kind)
    return False


def _concluded(
    options: Namespace, place: Place, task: Task, board: LiveBoard, ended: Ended
) -> Outcome:
    stays = in_use(place.shelf, task.kind)
    if ended == "dropped":
        return Outcome(EXIT_NO, None, f"the connection dropped; {stays}", "", board.schema,
                       dropped=True)  # fmt: skip
    place.shelf.drop_partial(task.kind)
    if ended == "aborted":
        return Outcome(EXIT_NO, None, f"ended by you; {stays}", "", board.schema)
    found = task.finish(board.name, board.temperature_c)
    if isinstance(found, Refused):
        last = f"not stored, {stays}"
        outcome = Outcome(EXIT_NO, None, f"{found.reason}; {last}", found.next_move)
    elif found.verdict == "marginal" and not (ended == "accepted" or options.accept_marginal):
        last = f"marginal, and nobody has accepted it: not stored, {stays}"
        more = "again, and Enter accepts it; in a script --accept-marginal does"
        outcome = Outcome(EXIT_NO, None, f"{found.reason}; {last}", more)
    else:
        stored = place.shelf.put(found)
        last = f"stored as {stored.id}; {take_up(place.state_dir, board.name)}"
        outcome = Outcome(EXIT_OK, stored, last, "")
    return outcome._replace(
        schema=board.schema, temperature_c=board.temperature_c, finished=True, last=last
    )
