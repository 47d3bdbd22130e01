"""A life to be cut short: `python -m tests.chaos.power_session STATE_FOLDER ALERTS`.

Does what a gateway does to its disk: alerts come, some are acknowledged, notes change, serials,
evidence, calibrations and bundles are written. Says, a JSON line each, what has to be there from
then on, or (`gone`) no longer has to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edge_agent.boards.evidence.shelf import Shelf as EvidenceShelf
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.store import Note
from edge_agent.bundles.bundle import read_bundle
from edge_agent.bundles.shelf import SERIALS_NAME, put
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import Draft
from edge_agent.files import write_atomically
from tests import programs
from tests.bundles import changed
from tests.chaos.publishing import alert

PADDING = 700
NOTE, ASSET = "asset/pump", "pump"
BOARD = "b"
CASE = "00000000-pump-1"
EVIDENCE = "evidence"
LIVES = 3


def say(**fields: object) -> None:
    """Whoever reads this knows that it was so before."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def live(folder: Path, numbers: range) -> None:
    """One run of a gateway, ended cleanly."""
    outbox, ids = Outbox(folder), dict[int, int]()
    for n in numbers:
        note = Note(NOTE, json.dumps({"n": n, "more": "x" * (n % 300)}).encode())
        ids[n] = outbox.put(alert(n, padding=PADDING), note=note)
        if n % 3 == 0:
            outbox.flush()
            say(safe=n)
        if n % 5 == 0:
            say(gone=n)  # before it is
            outbox.acknowledge(ids[n])
        if n % 16 == 0:
            other_files(folder, n)
    outbox.close()
    say(safe=numbers[-1])


def other_files(folder: Path, n: int) -> None:
    """All that is not in the outbox."""
    write_atomically(folder / SERIALS_NAME, json.dumps({ASSET: n}).encode())
    say(serial=n)
    shelf = EvidenceShelf(folder / EVIDENCE, 10_000_000)
    shelf.note(CASE, {"n": n, "more": "x" * (n % 700)})
    shelf.begin(f"00000000-pump-{n}", b"head\x00")
    shelf.append(f"00000000-pump-{n}", b"rest of a frame\x00" + b"frame\x00" * 900)
    shelf.finish(f"00000000-pump-{n}")
    if n % 48 == 0:
        new = changed(programs.VIBRATION, folder.with_name("new.otolith"), serial=n)
        put(folder, ASSET, new.read_bytes(), read_bundle(new))
        say(bundle=n)
    draft = Draft(kind="compass", board=BOARD, uid="u", verdict="pass", reason=str(n))
    Shelf(folder, BOARD).put(draft)
    say(calibration=n)


def main() -> None:
    """A few runs, one after the other."""
    folder, alerts = Path(sys.argv[1]), int(sys.argv[2])
    each = alerts // LIVES
    for life in range(LIVES):
        live(folder, range(life * each + 1, (life + 1) * each + 1))


if __name__ == "__main__":
    main()
